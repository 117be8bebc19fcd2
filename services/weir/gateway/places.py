"""How many requests a gateway works on at once: who finds no place waits a moment, or is told at once to come back.

A place is held until the answer begins, so no stream holds one. Each tenant has a queue of its own and at most half of
the places; the queues are served in turn. A queue takes up a burst; one that has stood for a second is no burst, and
from then on few wait in it, and not for long (controlled delay: Maurer, "Fail at Scale", ACM Queue 2015; a queue for each flow:
the API Priority and Fairness of Kubernetes).
"""

import asyncio
from collections import deque

from weir_shared.errors import TooManyRequests, Unavailable
from weir_shared.telemetry.metrics import counter

QUEUED = 256
BURST_SECONDS = 1.0
# Of a queue that stands: who would not be served soon is told so at once, which costs the least.
QUEUED_STANDING = 16
STANDING_SECONDS = 0.02
SHORTLY = {"Retry-After": "1"}

SHED = counter("http_shed_total", "Requests that found no place at the gateway, by why", "reason")


class Overloaded(Unavailable):
    code = "overloaded"

    def __init__(self) -> None:
        super().__init__("The platform has more to do than it can; try again shortly", headers=SHORTLY)


class TooManyAtOnce(TooManyRequests):
    code = "too_many_at_once"

    def __init__(self, most: int) -> None:
        super().__init__(f"{most} requests are being worked on already; try again shortly", headers=SHORTLY)


class Queue:
    """One tenant's: how many of it are being worked on, and who waits, first come, first served."""

    def __init__(self, tenant: str, now: float) -> None:
        self.tenant = tenant
        self.held = 0
        self.waiting: deque[asyncio.Future[None]] = deque()
        self.served_at = now
        """When last nobody had to wait in it."""


class Place:
    """One request's place, until it leaves."""

    def __init__(self, places: "Places", queue: Queue) -> None:
        self._places = places
        self._queue: Queue | None = queue

    def leave(self) -> None:
        """The answer has begun, or there will be none; once more does nothing."""
        queue, self._queue = self._queue, None
        if queue is not None:
            self._places.give_back(queue)


class Places:
    """So many places, of which one tenant has at most half."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._share = max(1, most // 2)
        self._held = 0
        self._queues: dict[str, Queue] = {}
        self._turns: deque[Queue] = deque()
        """The queues in which somebody waits; the first is the next to be served."""

    async def take(self, tenant: str) -> Place:
        """A place, waited for. Raises Overloaded, or TooManyAtOnce where the tenant has its share."""
        now = asyncio.get_running_loop().time()
        queue = self._queues.get(tenant)
        if queue is None:
            queue = self._queues[tenant] = Queue(tenant, now)
        if not queue.waiting and self._has_place_for(queue):
            queue.served_at = now
            self._give(queue)
        else:
            await self._wait(queue, now)
        return Place(self, queue)

    def give_back(self, queue: Queue) -> None:
        queue.held -= 1
        self._held -= 1
        self._serve_next()
        self._forget(queue)

    def _has_place_for(self, queue: Queue) -> bool:
        return self._held < self._most and queue.held < self._share

    def _give(self, queue: Queue) -> None:
        queue.held += 1
        self._held += 1

    async def _wait(self, queue: Queue, now: float) -> None:
        is_burst = now - queue.served_at <= BURST_SECONDS
        if len(queue.waiting) >= (QUEUED if is_burst else QUEUED_STANDING):
            raise self._refusal("full", queue)
        if not queue.waiting:
            self._turns.append(queue)
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        queue.waiting.append(turn)
        patience = loop.call_later(BURST_SECONDS if is_burst else STANDING_SECONDS, turn.cancel)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                # The caller's task is ended at the moment at which it got its place.
                self.give_back(queue)
                raise
            self._leave(queue, turn)
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise self._refusal("late", queue) from None
        finally:
            patience.cancel()

    def _leave(self, queue: Queue, turn: "asyncio.Future[None]") -> None:
        if turn not in queue.waiting:
            return
        queue.waiting.remove(turn)
        if not queue.waiting:
            self._turns.remove(queue)
        self._forget(queue)

    def _refusal(self, reason: str, queue: Queue) -> Overloaded | TooManyAtOnce:
        SHED.labels(reason).inc()
        return TooManyAtOnce(self._share) if queue.held >= self._share else Overloaded()

    def _serve_next(self) -> None:
        for _ in range(len(self._turns)):
            queue = self._turns.popleft()
            is_served = self._has_place_for(queue) and self._serve(queue)
            if queue.waiting:
                self._turns.append(queue)
            if is_served:
                return

    def _serve(self, queue: Queue) -> bool:
        while queue.waiting:
            turn = queue.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._give(queue)
                if not queue.waiting:
                    queue.served_at = asyncio.get_running_loop().time()
                return True
        return False

    def _forget(self, queue: Queue) -> None:
        if queue.held == 0 and not queue.waiting:
            self._queues.pop(queue.tenant, None)
