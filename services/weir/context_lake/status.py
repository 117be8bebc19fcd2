"""What the lake is doing: its runtime's state, each dataset's, and the tables that a query may name."""

import asyncio
from datetime import datetime
from typing import Any

from msgspec import Struct

from weir.context_lake import names, permissions
from weir.context_lake.document import Dataset, Document, View
from weir.context_lake.refreshes.asking import shown_refresh
from weir.context_lake.refusals import RuntimeLost, error_of
from weir.context_lake.remembered import Documents
from weir.context_lake.runtimes import RuntimeClient, RuntimeGone, RuntimeRefused, Runtimes
from weir.context_lake.tables import lake_notifications, lake_refreshes, lake_vms
from weir.context_lake.tables.lake_notifications import Notification
from weir.context_lake.tables.lake_refreshes import Refresh
from weir.context_lake.tables.lake_vms import State, Vm
from weir.context_lake.vms.waking import Vms
from weir_shared import clock
from weir_shared.auth.principal import Principal
from weir_shared.db.pool import Connection, Database
from weir_shared.errors import DeadlineExceeded

ASK_SECONDS = 2
TABLES_SECONDS = 60
_SHOWN_STATES: dict[State, str] = {"hibernating": "paused"}
_NOTHING: dict[str, Any] = {"error": None, "loadedAt": None, "schemaHash": None, "applied": None}
_UNKNOWN: dict[str, Any] = {"status": "unknown"} | _NOTHING
_OPENING: dict[str, Any] = {"status": "initializing"} | _NOTHING | {"applied": "pending"}


class StatusDesk(Struct, frozen=True):
    database: Database
    vms: Vms
    runtimes: Runtimes
    documents: Documents


def shown_state(vm: Vm) -> str:
    """One of the five states of the reference."""
    return _SHOWN_STATES.get(vm.state, vm.state)


async def read_status(desk: StatusDesk, principal: Principal) -> dict[str, Any]:
    """The runtime's state and each dataset's; wakes nothing."""
    async with desk.database.tenant(principal.tenant_id) as connection:
        vm = await lake_vms.read_vm(connection, principal.tenant_id)
        lake = await desk.documents.read_lake(connection, principal.tenant_id)
        told = await _read_notifications(connection, principal.tenant_id, lake.document)
        refreshes = await lake_refreshes.read_refreshes(connection, principal.tenant_id)
    seen = permissions.visible_part(lake.document, principal)
    known = await _ask_runtime(desk, vm) if vm.state == "running" else None
    status: dict[str, Any] = {
        "vmStatus": shown_state(vm),
        "datasets": {
            dataset.name: _describe(dataset, known, told) | _describe_refresh(dataset, refreshes)
            for dataset in seen.datasets
        },
        "views": {
            view.name: _describe_state(_entry_of(view.name, "views", known))
            | _describe_refresh(view, refreshes)
            for view in seen.views
        },
        "configVersion": vm.version,
        "appliedVersion": vm.applied_version,
        "drift": vm.has_drifted,
        "autoApply": vm.auto_apply,
        "vm": {
            "epoch": vm.epoch,
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
        document = (await desk.documents.read_lake(connection, principal.tenant_id)).document
    seen = permissions.visible_part(document, principal)
    return {item.name: item.description for item in (*seen.datasets, *seen.views)}


async def _ask_runtime(desk: StatusDesk, vm: Vm) -> dict[str, Any] | None:
    """What the runtime tells of its datasets and views; None when it tells nothing."""
    client: RuntimeClient = await desk.runtimes.client_of(vm)
    try:
        return await client.ask("GET", "/status", seconds=ASK_SECONDS)
    except (RuntimeGone, RuntimeRefused, TimeoutError):
        return None


async def _read_notifications(
    connection: Connection, tenant_id: str, document: Document
) -> dict[str, Notification]:
    if not any(dataset.notifications for dataset in document.datasets):
        return {}
    return await lake_notifications.list_notifications(connection, tenant_id)


def _describe(
    dataset: Dataset, known: dict[str, Any] | None, told: dict[str, Notification]
) -> dict[str, Any]:
    shown = _describe_state(_entry_of(dataset.name, "datasets", known))
    shown |= {"connectorId": dataset.source.connector, "notifications": dataset.notifications}
    if dataset.notifications and (notification := told.get(names.key_of(dataset.name))) is not None:
        shown |= _describe_notification(notification)
    return shown


def _entry_of(name: str, kind: str, known: dict[str, Any] | None) -> dict[str, Any]:
    """What the runtime tells of one; a runtime that does not know it yet is about to."""
    return _UNKNOWN if known is None else known[kind].get(name) or _OPENING


def _describe_state(entry: dict[str, Any]) -> dict[str, Any]:
    status: str = entry["status"]
    shown: dict[str, Any] = {
        "ok": status in ("ready", "refreshing") or (status != "error" and entry["error"] is None),
        "status": status,
        "lastLoadedAt": _whole_seconds(entry["loadedAt"]),
        "schemaHash": entry["schemaHash"],
        "applied": entry["applied"],
    }
    if entry.get("rowCount") is not None:
        shown |= {"rowCount": entry["rowCount"], "byteCount": entry["byteCount"]}
    if entry["error"]:
        shown["error"] = {"message": entry["error"]["message"], "at": _whole_seconds(entry["error"]["at"])}
    return shown


def _describe_refresh(item: Dataset | View, refreshes: dict[str, Refresh]) -> dict[str, Any]:
    """Of what is kept, or was ever read again by a wish; the rest has nothing to tell."""
    refresh = refreshes.get(names.key_of(item.name))
    if item.kept is None and refresh is None:
        return {}
    return {"refresh": shown_refresh(refresh)}


def _describe_notification(notification: Notification) -> dict[str, Any]:
    """What came from the dataset's bucket; it is kept while the runtime sleeps, and through redeployments."""
    return {
        "s3LastEventAt": _moment(notification.last_event_at),
        "s3LastRefreshAt": _moment(notification.last_refresh_at),
        "s3EventCount": notification.event_count,
        "notificationsState": notification.state,
        "deadLetters": notification.dead_count,
    }


def _moment(moment: datetime | None) -> str | None:
    return _whole_seconds(clock.rfc3339(moment)) if moment else None


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
