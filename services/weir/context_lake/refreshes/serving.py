"""Serving wishes for refreshes: claim by lease, ask the runtime, write down what came of it under the lease.

A dataset first, then the materialised views over it, each after what it reads. Whoever dies on the way loses its
leases, and the next sweep rings for what is still open.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import structlog
from msgspec import Struct

from weir.context_lake import lineage, measures, names
from weir.context_lake.document import Dataset, Document, View
from weir.context_lake.refreshes.schedules import next_time, retry_seconds
from weir.context_lake.remembered import Documents
from weir.context_lake.runtimes import RuntimeGone, RuntimeRefused
from weir.context_lake.tables import lake_refreshes, lake_vms
from weir.context_lake.tables.lake_refreshes import Claim
from weir.context_lake.vms.waking import VmFailed, Vms
from weir_shared import clock
from weir_shared.db.pool import Connection, Database
from weir_shared.queue.doorbell import Doorbell

LEASE_SECONDS = 30
EXTEND_SECONDS = 8
# A runtime that runs has its configuration within this.
READY_SECONDS = 30
# A load costs a worker next to nothing; it only must not take every place from the boots.
AT_ONCE = 32

Noted = Callable[[Connection, str, str], Awaitable[None]]

log = structlog.get_logger(__name__)


class Server(Struct, frozen=True, kw_only=True):
    """What a worker needs to serve refreshes."""

    database: Database
    doorbell: Doorbell
    vms: Vms
    documents: Documents
    timeout_seconds: float
    wakes: bool
    """Whether a schedule may wake a runtime."""
    noted: Noted
    """Called in the transaction in which a dataset's refresh is written down as done."""
    places: asyncio.Semaphore


class Outcome(Struct, frozen=True, kw_only=True):
    error: str | None = None
    row_count: int | None = None
    byte_count: int | None = None


class Held(Struct, frozen=True):
    """A refresh that is this worker's to make."""

    item: Dataset | View
    claim: Claim

    @property
    def key(self) -> str:
        return names.key_of(self.item.name)


async def serve(server: Server, tenant_id: str, name: str) -> None:
    """Serves what is open of one name. Does nothing when it is not time, or when somebody else is at it."""
    if server.places.locked():
        return  # the sweep rings again, here or where there is room
    async with server.places:
        async with server.database.tenant(tenant_id) as connection:
            vm = await lake_vms.read_vm(connection, tenant_id)
            document = (await server.documents.read_lake(connection, tenant_id)).document
            item = document.find(name)
            if vm.state != "running":
                return  # the wish stays
            if item is None:
                await lake_refreshes.forget(connection, tenant_id, [names.key_of(name)])
                return
            claim = await lake_refreshes.claim(
                connection, tenant_id, names.key_of(name), seconds=LEASE_SECONDS
            )
        if claim is not None:
            await _serve(server, tenant_id, document, Held(item, claim))


async def _serve(server: Server, tenant_id: str, document: Document, first: Held) -> None:
    leases: dict[str, uuid.UUID] = {first.key: first.claim.token}
    async with _extended(server, tenant_id, leases):
        waiting = [first]
        while waiting:
            held = waiting.pop(0)
            outcome = await _refresh(server, tenant_id, held)
            # What is over it is claimed once, by the first: it is then served in order, whoever succeeds.
            over = dependents_of(document, held.key) if held is first else []
            waiting += await _apply(server, tenant_id, held, outcome, over, leases)
            leases.pop(held.key, None)
            await server.doorbell.notify(f"refresh:{tenant_id}")


def dependents_of(document: Document, key: str) -> list[View]:
    """The materialised views that read this, themselves or through others, each after what it reads."""
    over = lineage.dependents_of(key, lineage.lineage_of(document.views))
    return [
        view
        for view in lineage.in_order(document.views)
        if names.key_of(view.name) in over and view.kept is not None
    ]


async def _refresh(server: Server, tenant_id: str, held: Held) -> Outcome:
    """Has the runtime read it again; an outcome in any case."""
    started = time.monotonic()
    try:
        answer = await _ask(server, tenant_id, held)
        error = answer["error"]
        outcome = Outcome(
            error=None if answer["ok"] else str((error or {}).get("message") or "it is not ready"),
            row_count=answer.get("rowCount"),
            byte_count=answer.get("byteCount"),
        )
    except (RuntimeGone, RuntimeRefused, VmFailed) as fault:
        outcome = Outcome(error=f"the runtime could not be asked: {fault}")
    except TimeoutError:
        outcome = Outcome(error=f"it did not end within {server.timeout_seconds:.0f} seconds")
    result = "succeeded" if outcome.error is None else "failed"
    measures.REFRESHES.labels(held.claim.trigger, result).inc()
    measures.REFRESH_SECONDS.observe(time.monotonic() - started)
    return outcome


async def _ask(server: Server, tenant_id: str, held: Held) -> dict[str, Any]:
    async with asyncio.timeout(READY_SECONDS):
        ready = await server.vms.ensure_running(tenant_id, cause="refresh")
    path = f"/datasets/{quote(held.item.name, safe='')}/refresh"
    body = {"trigger": held.claim.trigger}
    return await ready.client.ask("POST", path, body, seconds=server.timeout_seconds)


async def _apply(
    server: Server,
    tenant_id: str,
    held: Held,
    outcome: Outcome,
    over: list[View],
    leases: dict[str, uuid.UUID],
) -> list[Held]:
    """Writes down what came of it, if it is still this worker's; the claims on what is over it."""
    async with server.database.tenant(tenant_id) as connection:
        if outcome.error is not None:
            await _note_failure(connection, tenant_id, held, outcome.error)
            return []
        is_mine = await lake_refreshes.succeed(
            connection,
            tenant_id,
            held.key,
            held.claim.token,
            row_count=outcome.row_count,
            byte_count=outcome.byte_count,
        )
        if not is_mine:
            log.warning("refresh not counted: its lease was lost", tenant_id=tenant_id, name=held.item.name)
            return []
        due = next_time(held.item.kept, clock.now())
        await lake_refreshes.schedule(connection, tenant_id, held.key, due)
        if isinstance(held.item, Dataset):
            await server.noted(connection, tenant_id, held.key)
        await lake_vms.touch(connection, tenant_id)
        claimed = [await _claim_over(connection, tenant_id, view) for view in over]
    taken = [one for one in claimed if one is not None]
    leases.update({one.key: one.claim.token for one in taken})
    return taken


async def _claim_over(connection: Connection, tenant_id: str, view: View) -> Held | None:
    """What it reads has changed. Somebody else who is at it makes one further run of it."""
    key = names.key_of(view.name)
    await lake_refreshes.want(connection, tenant_id, key, trigger="source")
    claim = await lake_refreshes.claim(connection, tenant_id, key, seconds=LEASE_SECONDS, even_early=True)
    return None if claim is None else Held(view, claim)


async def _note_failure(connection: Connection, tenant_id: str, held: Held, error: str) -> None:
    wait = retry_seconds(held.item.kept, held.claim.failures + 1)
    is_mine = await lake_refreshes.fail(
        connection, tenant_id, held.key, held.claim.token, error=error, retry_seconds=wait
    )
    log.warning(
        "not refreshed", tenant_id=tenant_id, name=held.item.name, reason=error, retry=wait, mine=is_mine
    )
    if is_mine and wait is None:
        due = next_time(held.item.kept, clock.now())
        await lake_refreshes.schedule(connection, tenant_id, held.key, due)


@asynccontextmanager
async def _extended(
    server: Server, tenant_id: str, leases: dict[str, uuid.UUID]
) -> AsyncGenerator[None, None]:
    """Holds the leases for as long as the block lasts."""

    async def extend() -> None:
        while True:
            await asyncio.sleep(EXTEND_SECONDS)
            async with server.database.tenant(tenant_id) as connection:
                for key, token in sorted(leases.items()):
                    await lake_refreshes.extend(connection, tenant_id, key, token, seconds=LEASE_SECONDS)

    extending = asyncio.create_task(extend())
    try:
        yield
    finally:
        extending.cancel()
        await asyncio.wait({extending})
