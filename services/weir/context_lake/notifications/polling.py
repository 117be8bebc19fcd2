"""The poller: a worker's share of all queues, asked in turn over a small number of connections.

A queue whose runtime is awake is asked without end; one whose runtime sleeps is asked seldom, and the seldomer
the longer nothing comes, because its messages wait and nobody reads the rows. However many queues there are, so
many polls are under way at most.
"""

import asyncio
import time
import uuid
from collections.abc import Callable

import structlog
from msgspec import Struct

from weir.context_lake import measures
from weir.context_lake.notifications.accepting import accept
from weir.context_lake.notifications.provisioning import wanted_of
from weir.context_lake.notifications.queues import QueueGone, Queues, QueueServiceFailed
from weir.context_lake.tables import lake_notifications, lake_pollers
from weir.context_lake.tables.lake_notifications import Polled
from weir_shared.db.pool import Database
from weir_shared.errors import Unavailable

AWAKE_POLLS = 24
ASLEEP_POLLS = 8
# Short, because whoever stops lets the polls under way end: a poll that is broken off may take a message along.
WAIT_SECONDS = 3
# How long a message is hidden from the others: enough for a batch; if this worker dies, it comes again after that.
HIDDEN_SECONDS = 20
# When more are awake than there are places, none waits at the service; each is asked again after this.
CROWDED_SECONDS = 1.0
ASLEEP_SECONDS, ASLEEP_MOST_SECONDS, ASLEEP_GROWTH = 2.0, 60.0, 1.5
FAULT_SECONDS, FAULT_MOST_SECONDS = 1.0, 30.0
LIST_SECONDS = 2.0
# A share that could not be read for so long is not polled: what could not be written down must stay in the queue.
STALE_SECONDS = 10.0
DEAD_SECONDS, DEAD_ASLEEP_SECONDS = 300.0, 3600.0
TICK_SECONDS = 0.05

log = structlog.get_logger(__name__)


class Rota(Struct, kw_only=True):
    """When one queue is asked next."""

    queue: Polled
    due: float = 0.0
    pause: float = ASLEEP_SECONDS
    faults: int = 0
    is_under_way: bool = False
    dead_due: float = 0.0


class Poller:
    """Asks this worker's share of the queues."""

    def __init__(
        self,
        database: Database,
        queues: Queues,
        *,
        quiet_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._queues = queues
        self._quiet_seconds = quiet_seconds
        self._clock = clock
        self._id = str(uuid.uuid4())
        self._rotas: dict[str, Rota] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way = {True: 0, False: 0}
        self._listed_at = -STALE_SECONDS
        self._list_due = 0.0
        self._awake = 0

    async def run(self) -> None:
        """Polls until it is cancelled; the polls under way then end, and what they bring is written down."""
        try:
            while True:
                if self._clock() >= self._list_due:
                    await self._list()
                self._send_out()
                await asyncio.sleep(TICK_SECONDS if self._rotas else LIST_SECONDS / 2)
        finally:
            await self._leave()

    async def _list(self) -> None:
        self._list_due = self._clock() + LIST_SECONDS
        try:
            async with self._database.any_tenant() as connection:
                share, of = await lake_pollers.take_share_any(connection, self._id)
                mine = await lake_notifications.list_polled_any(connection, share=share, of=of)
        except Unavailable:
            return
        self._listed_at = self._clock()
        there = {queue.id: queue for queue in mine}
        for gone in self._rotas.keys() - there.keys():
            del self._rotas[gone]
        for id_, queue in there.items():
            rota = self._rotas.setdefault(id_, Rota(queue=queue))
            if queue.is_awake != rota.queue.is_awake:
                rota.due, rota.pause = 0.0, ASLEEP_SECONDS
            rota.queue = queue
        self._awake = awake = sum(queue.is_awake for queue in mine)
        measures.SQS_QUEUES.labels("awake").set(awake)
        measures.SQS_QUEUES.labels("asleep").set(len(mine) - awake)

    def _send_out(self) -> None:
        """Starts a poll for each queue that is due, the longest waiting first, as far as there are places."""
        now = self._clock()
        if now - self._listed_at > STALE_SECONDS:
            return
        due = [rota for rota in self._rotas.values() if not rota.is_under_way and rota.due <= now]
        for rota in sorted(due, key=lambda rota: rota.due):
            is_awake = rota.queue.is_awake
            if self._under_way[is_awake] >= (AWAKE_POLLS if is_awake else ASLEEP_POLLS):
                continue
            waits = WAIT_SECONDS if is_awake and self._awake <= AWAKE_POLLS else 0
            self._under_way[is_awake] += 1
            rota.is_under_way = True
            task = asyncio.create_task(self._visit(rota, is_awake, waits))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _visit(self, rota: Rota, is_awake: bool, wait_seconds: int) -> None:
        try:
            received = await self._poll(rota, wait_seconds)
            await self._look_at_dead(rota)
        except QueueGone:
            await self._make_again(rota)
        except (QueueServiceFailed, Unavailable) as fault:
            self._put_off(rota, str(fault))
        except Exception as fault:
            # The boundary of one queue: the others go on.
            log.exception("queue not polled", tenant_id=rota.queue.tenant_id, dataset=rota.queue.name)
            self._put_off(rota, type(fault).__name__)
        else:
            rota.faults = 0
            rota.pause, pause = _pauses(rota.pause, received, is_awake, wait_seconds)
            rota.due = self._clock() + pause
        finally:
            rota.is_under_way = False
            self._under_way[is_awake] -= 1

    async def _poll(self, rota: Rota, wait_seconds: int) -> int:
        """One batch, written down before it is deleted; how many messages it had."""
        queue = rota.queue
        messages = await self._queues.receive(
            queue.region, queue.queue_url, wait_seconds=wait_seconds, hidden_seconds=HIDDEN_SECONDS
        )
        if not messages:
            return 0
        accepted = await accept(self._database, queue, messages, quiet_seconds=self._quiet_seconds)
        await self._queues.delete(queue.region, queue.queue_url, accepted.done)
        for message in accepted.poison:
            await self._queues.bury(queue.region, queue.dead_url, message.body)
            await self._queues.delete(queue.region, queue.queue_url, [message])
            rota.dead_due = 0.0
        return len(messages)

    async def _look_at_dead(self, rota: Rota) -> None:
        if self._clock() < rota.dead_due:
            return
        rota.dead_due = self._clock() + (DEAD_SECONDS if rota.queue.is_awake else DEAD_ASLEEP_SECONDS)
        queue = rota.queue
        depth = await self._queues.count(queue.region, queue.dead_url)
        async with self._database.tenant(queue.tenant_id) as connection:
            await lake_notifications.note_dead(connection, queue.tenant_id, queue.id, depth)

    async def _make_again(self, rota: Rota) -> None:
        """Somebody deleted a queue that is in use."""
        queue = rota.queue
        try:
            async with self._database.tenant(queue.tenant_id) as connection:
                kept = (await lake_notifications.list_notifications(connection, queue.tenant_id)).get(
                    queue.name
                )
            if kept is not None and kept.is_on:
                log.warning("queue made again", tenant_id=queue.tenant_id, dataset=queue.name)
                await self._queues.ensure(wanted_of(kept))
            self._put_off(rota, "")
        except (QueueServiceFailed, Unavailable) as fault:
            self._put_off(rota, str(fault))

    def _put_off(self, rota: Rota, reason: str) -> None:
        rota.due = self._clock() + min(FAULT_SECONDS * 2**rota.faults, FAULT_MOST_SECONDS)
        rota.faults = min(rota.faults + 1, 10)
        if reason and rota.faults == 1:
            log.warning(
                "queue not polled", tenant_id=rota.queue.tenant_id, dataset=rota.queue.name, reason=reason
            )

    async def _leave(self) -> None:
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=WAIT_SECONDS + 5)
        for task in self._tasks:
            task.cancel()
        try:
            async with self._database.any_tenant() as connection:
                await lake_pollers.leave_any(connection, self._id)
        except Unavailable:
            log.info("poller not signed off; the others find out")


def _pauses(pause: float, received: int, is_awake: bool, wait_seconds: int) -> tuple[float, float]:
    """The pause to go on with, and the one until the next poll."""
    if received:
        return ASLEEP_SECONDS, 0.0
    if is_awake:
        return ASLEEP_SECONDS, 0.0 if wait_seconds else CROWDED_SECONDS
    return min(pause * ASLEEP_GROWTH, ASLEEP_MOST_SECONDS), pause
