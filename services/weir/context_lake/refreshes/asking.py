"""Asking for a refresh by hand, waiting for it, and looking back at earlier ones."""

import asyncio
from datetime import datetime
from typing import Any

from msgspec import Struct

from weir.context_lake import names
from weir.context_lake.document import Dataset, View
from weir.context_lake.remembered import Documents
from weir.context_lake.tables import lake_refreshes
from weir.context_lake.tables.lake_refreshes import Refresh, Run
from weir.context_lake.vms.waking import ASLEEP, Vms
from weir_shared import clock
from weir_shared.auth.principal import Principal
from weir_shared.db.pool import Database
from weir_shared.errors import WeirError
from weir_shared.queue.doorbell import Doorbell

LOOK_SECONDS = 0.5


class NotMaterialised(WeirError):
    status = 400
    code = "not_materialised"

    def __init__(self, name: str) -> None:
        super().__init__(f"View '{name}' keeps no rows: it is read anew by every query")


class RefreshDesk(Struct, frozen=True):
    database: Database
    doorbell: Doorbell
    vms: Vms
    documents: Documents


class Asked(Struct, frozen=True):
    """What the caller is told, and whether it has come to an end."""

    told: dict[str, Any]
    is_done: bool
    is_ok: bool


async def ask_refresh(
    desk: RefreshDesk, principal: Principal, item: Dataset | View, *, wait_seconds: int
) -> Asked:
    """Wishes for a refresh, wakes the runtime for it, and waits if asked to. Raises NotMaterialised."""
    if isinstance(item, View) and item.kept is None:
        raise NotMaterialised(item.name)
    tenant_id, key = principal.tenant_id, names.key_of(item.name)
    async with desk.database.tenant(tenant_id) as connection:
        wish = await lake_refreshes.want(connection, tenant_id, key, trigger="manual")
        asked = await lake_refreshes.read_refresh(connection, tenant_id, key)
    assert asked is not None, "it has just been wished for"
    requested = clock.now()
    await desk.doorbell.ring("lake.refresh", key=f"{tenant_id}:{key}", tenant_id=tenant_id, name=key)
    vm = await desk.vms.look(tenant_id)
    if vm.state in ASLEEP or vm.state == "hibernating":
        await desk.vms.ask_start(vm, "refresh")
    found = await _await_end(desk, tenant_id, key, wish, asked, wait_seconds) if wait_seconds else None
    return _told(item, wish, requested, asked, found or asked)


async def list_runs(
    desk: RefreshDesk, principal: Principal, item: Dataset | View, *, before: int | None, limit: int
) -> list[Run]:
    """One more than asked for tells whether there are more."""
    async with desk.database.tenant(principal.tenant_id) as connection:
        return await lake_refreshes.list_runs(
            connection, principal.tenant_id, names.key_of(item.name), before=before, limit=limit
        )


async def _await_end(
    desk: RefreshDesk, tenant_id: str, key: str, wish: int, asked: Refresh, wait_seconds: int
) -> Refresh | None:
    found: Refresh | None = None
    try:
        async with (
            asyncio.timeout(wait_seconds),
            desk.doorbell.awaiting(f"refresh:{tenant_id}") as notice,
        ):
            while True:
                async with desk.database.tenant(tenant_id) as connection:
                    found = await lake_refreshes.read_refresh(connection, tenant_id, key)
                if found is None or state_of(found, wish, asked) in ("succeeded", "failed"):
                    return found
                try:
                    async with asyncio.timeout(LOOK_SECONDS):
                        await notice.wait()
                except TimeoutError:
                    continue
                finally:
                    notice.clear()
    except TimeoutError:
        return found


def state_of(now: Refresh, wish: int, asked: Refresh) -> str:
    """What has become of a wish: a failure counts when it came after it."""
    has_failed = now.failed_at is not None and now.failed_at != asked.failed_at
    if now.served >= wish:
        return "failed" if now.error is not None else "succeeded"
    if has_failed and not now.is_claimed:
        return "failed"
    return "running" if now.is_claimed else "queued"


def _told(item: Dataset | View, wish: int, requested: datetime, asked: Refresh, now: Refresh) -> Asked:
    state = state_of(now, wish, asked)
    told: dict[str, Any] = {
        "name": item.name,
        "trigger": "manual",
        "state": state,
        "requestedAt": clock.rfc3339(requested),
        **shown_refresh(now),
    }
    return Asked(told, state in ("succeeded", "failed"), state != "failed")


def shown_refresh(refresh: Refresh | None) -> dict[str, Any]:
    """The part of a status that tells of refreshes."""
    if refresh is None:
        return {"nextAt": None, "lastSuccessAt": None, "lastError": None}
    error = None
    if refresh.error is not None:
        error = {"message": refresh.error, "at": _moment(refresh.failed_at)}
    return {
        "nextAt": _moment(refresh.due_at),
        "lastSuccessAt": _moment(refresh.succeeded_at),
        "lastError": error,
    }


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else clock.rfc3339(moment)
