"""What the lake is doing: its runtime's state, each dataset's, and the tables that a query may name."""

import asyncio
from typing import Any

from msgspec import Struct

from weir.context_lake import permissions
from weir.context_lake.document import Dataset
from weir.context_lake.refusals import RuntimeLost, error_of
from weir.context_lake.runtimes import RuntimeClient, RuntimeGone, RuntimeRefused, Runtimes
from weir.context_lake.tables import lake_vms, lakes
from weir.context_lake.tables.lake_vms import State, Vm
from weir.context_lake.vms.waking import Vms
from weir_shared import clock
from weir_shared.auth.principal import Principal
from weir_shared.db.pool import Database
from weir_shared.errors import DeadlineExceeded

ASK_SECONDS = 2
TABLES_SECONDS = 60
_SHOWN_STATES: dict[State, str] = {"hibernating": "paused"}
_UNKNOWN: dict[str, Any] = {"status": "unknown", "error": None, "loadedAt": None}
_OPENING: dict[str, Any] = {"status": "initializing", "error": None, "loadedAt": None}


class StatusDesk(Struct, frozen=True):
    database: Database
    vms: Vms
    runtimes: Runtimes


def shown_state(vm: Vm) -> str:
    """One of the five states of the reference."""
    return _SHOWN_STATES.get(vm.state, vm.state)


async def read_status(desk: StatusDesk, principal: Principal) -> dict[str, Any]:
    """The runtime's state and each dataset's; wakes nothing."""
    async with desk.database.tenant(principal.tenant_id) as connection:
        vm = await lake_vms.read_vm(connection, principal.tenant_id)
        lake = await lakes.read_lake(connection, principal.tenant_id)
    datasets = permissions.visible_part(lake.document, principal).datasets
    known = await _ask_runtime(desk, vm) if vm.state == "running" else None
    status: dict[str, Any] = {
        "vmStatus": shown_state(vm),
        "datasets": {dataset.name: _describe(dataset, known) for dataset in datasets},
        "configVersion": vm.version,
        "appliedVersion": vm.applied_version,
        "drift": vm.applied_version is not None and vm.applied_version != vm.version,
        "vm": {
            "since": clock.rfc3339(vm.updated_at) if vm.updated_at else None,
            "idleSeconds": int(vm.idle_seconds) if vm.state == "running" else None,
        },
    }
    return status | ({"error": vm.last_error} if vm.last_error else {})


async def list_tables(desk: StatusDesk, principal: Principal) -> list[dict[str, Any]]:
    """Every table that a query may name, with its columns; wakes the runtime.

    Raises VmFailed, DeadlineExceeded.
    """
    try:
        async with asyncio.timeout(TABLES_SECONDS):
            answer = await _ask_awake(desk, principal.tenant_id)
            descriptions = await _read_descriptions(desk, principal)
    except TimeoutError:
        raise DeadlineExceeded(f"The tables were not known within {TABLES_SECONDS} seconds") from None
    return [
        _table(table, descriptions[table["name"]])
        for table in answer["tables"]
        if table["name"] in descriptions
    ]


async def _ask_awake(desk: StatusDesk, tenant_id: str) -> Any:
    for cause in ("tables", "lost"):
        ready = await desk.vms.ensure_running(tenant_id, cause=cause)
        try:
            return await ready.client.ask("GET", "/tables", seconds=TABLES_SECONDS)
        except RuntimeRefused as refusal:
            raise error_of(refusal) from None
        except RuntimeGone:
            await desk.vms.give_up(ready.vm)
    raise RuntimeLost


async def _read_descriptions(desk: StatusDesk, principal: Principal) -> dict[str, str | None]:
    """Of everything that the caller sees, by name."""
    async with desk.database.tenant(principal.tenant_id) as connection:
        document = (await lakes.read_lake(connection, principal.tenant_id)).document
    seen = permissions.visible_part(document, principal)
    return {item.name: item.description for item in (*seen.datasets, *seen.views)}


async def _ask_runtime(desk: StatusDesk, vm: Vm) -> dict[str, Any] | None:
    client: RuntimeClient = await desk.runtimes.client_of(vm)
    try:
        status = await client.ask("GET", "/status", seconds=ASK_SECONDS)
    except (RuntimeGone, RuntimeRefused, TimeoutError):
        return None
    return status["datasets"]


def _describe(dataset: Dataset, known: dict[str, Any] | None) -> dict[str, Any]:
    """One dataset; a runtime that does not know it yet is about to."""
    entry: dict[str, Any] = _UNKNOWN if known is None else known.get(dataset.name) or _OPENING
    status: str = entry["status"]
    shown: dict[str, Any] = {
        "ok": status != "error" and entry["error"] is None,
        "status": status,
        "connectorId": dataset.source.connector,
        "notifications": dataset.notifications,
        "lastLoadedAt": _whole_seconds(entry["loadedAt"]),
    }
    if entry["error"]:
        shown["error"] = {"message": entry["error"]["message"], "at": _whole_seconds(entry["error"]["at"])}
    return shown


def _table(table: dict[str, Any], description: str | None) -> dict[str, Any]:
    return {
        "name": table["name"],
        "kind": table["kind"],
        "description": description,
        "columns": table["columns"],
        "error": table["error"]["message"] if table["error"] else None,
    }


def _whole_seconds(moment: str | None) -> str | None:
    """`2026-04-01T08:30:00.123Z` without its fraction."""
    return f"{moment[:19]}Z" if moment else None
