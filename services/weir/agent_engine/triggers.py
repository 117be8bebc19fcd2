"""Triggers: a moment, a webhook or a refreshed dataset becomes a task, once for each event."""

import secrets as random
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from weir.agent_engine.agents import find_agent
from weir.agent_engine.naming import Faults, invalid, missing, unknown
from weir.agent_engine.studio import Studio
from weir.agent_engine.tables import agents, triggers
from weir.agent_engine.tables.triggers import FiringRow, NewTriggerRow, TriggerRow
from weir.agent_engine.wire.triggers import Firing, NewTrigger, TriggerChange, TriggerDetail
from weir_shared.auth.principal import Principal
from weir_shared.clock import now, rfc3339
from weir_shared.db.pool import Connection, Database
from weir_shared.errors import Conflict, Forbidden, NotFound
from weir_shared.ids import new_id, parse_uuid

MOST = 500
SHOWN_FIRINGS = 100
CRON_FIELDS = 5
LAKE_SCOPE = "lake:read"


async def create_trigger(studio: Studio, principal: Principal, new: NewTrigger) -> TriggerDetail:
    """Raises ValidationFailed with every fault, and Forbidden for datasets that the caller may not see."""
    tenant_id, id = principal.tenant_id, new_id()
    _check_new(principal, new)
    secret = new.secret or _new_secret() if new.type == "webhook" else None
    sealed = await studio.vault.seal(tenant_id, identity_of(id), secret) if secret else None
    async with studio.database.tenant(tenant_id) as connection:
        if await triggers.count(connection, tenant_id) >= MOST:
            raise Conflict(f"A tenant has at most {MOST} triggers; delete one first")
        agent_id, agent = await _agent(connection, tenant_id, new.agent or new.agent_name)
        row = NewTriggerRow(
            id=id,
            type=new.type,
            title=new.title.strip(),
            description=new.description,
            owner=principal.identity,
            scopes=sorted(principal.scopes),
            agent_id=agent_id,
            agent=agent,
            priority=new.priority,
            enabled=new.enabled,
            schedule=new.schedule,
            timezone=new.timezone,
            webhook_path=f"wh_{random.token_hex(16)}" if new.type == "webhook" else None,
            secret_sealed=sealed,
            datasets=[name.lower() for name in new.datasets],
            next_fire_at=next_after(now(), new.schedule, new.timezone) if new.enabled else None,
        )
        made = await triggers.add(connection, tenant_id, row)
    return _detail(made, secret if new.secret is None and secret else UNSET)


async def list_triggers(database: Database, principal: Principal) -> list[TriggerDetail]:
    """The caller's, oldest first; an administrator sees the tenant's."""
    owner = None if principal.is_admin else principal.identity
    async with database.tenant(principal.tenant_id) as connection:
        return [_detail(row) for row in await triggers.every(connection, principal.tenant_id, owner)]


async def read_trigger(database: Database, principal: Principal, id: str) -> TriggerDetail:
    async with database.tenant(principal.tenant_id) as connection:
        found = await triggers.find(connection, principal.tenant_id, _uuid(id))
        return _detail(_visible(found, principal, id))


async def list_firings(database: Database, principal: Principal, id: str) -> list[Firing]:
    async with database.tenant(principal.tenant_id) as connection:
        found = await triggers.find(connection, principal.tenant_id, _uuid(id))
        row = _visible(found, principal, id)
        rows = await triggers.firings(connection, principal.tenant_id, row.id, SHOWN_FIRINGS)
    return [_firing(one) for one in rows]


async def change_trigger(
    studio: Studio, principal: Principal, id: str, change: TriggerChange
) -> TriggerDetail:
    """What is left out stays. Enabled again, or with another schedule, only what comes from now on counts."""
    tenant_id = principal.tenant_id
    secret = change.secret if change.secret is not UNSET else None
    is_made = change.secret is None
    if is_made:
        secret = _new_secret()
    # Before the row is locked: the first secret of a tenant writes its key.
    sealed = await studio.vault.seal(tenant_id, identity_of(_uuid(id)), secret) if secret else None
    async with studio.database.tenant(tenant_id) as connection:
        before = _visible(await triggers.lock(connection, tenant_id, _uuid(id)), principal, id)
        row = _merged(before, change)
        _check(principal, row, sent_secret=change.secret is not UNSET)
        named = next((one for one in (change.agent, change.agent_name) if one is not UNSET), None)
        if named is not None:
            agent_id, agent = await _agent(connection, tenant_id, named)
            row = replace(row, agent_id=agent_id, agent=agent)
        is_timed_anew = (row.schedule, row.timezone, row.enabled) != (
            before.schedule,
            before.timezone,
            before.enabled,
        )
        if is_timed_anew:
            due = next_after(now(), row.schedule, row.timezone) if row.enabled else None
            row = replace(row, next_fire_at=due)
        changed = await triggers.change(
            connection,
            tenant_id,
            replace(row, secret_sealed=sealed or row.secret_sealed),
            is_armed_anew=row.enabled and not before.enabled,
        )
    return _detail(changed, secret if is_made and secret else UNSET)


async def delete_trigger(database: Database, principal: Principal, id: str) -> None:
    """Its tasks stay."""
    async with database.tenant(principal.tenant_id) as connection:
        row = _visible(await triggers.lock(connection, principal.tenant_id, _uuid(id)), principal, id)
        await triggers.remove(connection, principal.tenant_id, row.id)


def next_after(moment: datetime, schedule: str | None, timezone: str) -> datetime | None:
    """When the schedule comes round next. Raises ValidationFailed for one that is none, or never does."""
    if schedule is None:
        return None
    if len(schedule.split()) != CRON_FIELDS:
        raise invalid("schedule", "a schedule has five fields, e.g. 30 6 * * 1-5")
    try:
        return next(CronSim(schedule, moment.astimezone(_zone(timezone))))
    except CronSimError as fault:
        raise invalid("schedule", f"the schedule cannot be read: {fault}") from None
    except StopIteration:
        raise invalid("schedule", "the schedule never comes round") from None


def identity_of(id: str) -> str:
    """Names the secret of a trigger in the vault."""
    return f"triggers|{id}|secret"


def _zone(name: str) -> ZoneInfo:
    """Raises ValidationFailed."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise invalid(
            "timezone", f"there is no time zone '{name[:100]}'; write one like Europe/Berlin"
        ) from None


def _new_secret() -> str:
    return f"whsec_{random.token_hex(32)}"


def _check_new(principal: Principal, new: NewTrigger) -> None:
    faults = Faults()
    for name, kind, sent in (
        ("schedule", "cron", new.schedule is not None),
        ("secret", "webhook", new.secret is not None),
        ("datasets", "dataset_refreshed", bool(new.datasets)),
    ):
        with faults.gathered():
            _check_kind(name, kind, new.type, is_sent=sent)
    with faults.gathered():
        if not new.title.strip():
            raise invalid("title", "title is required")
    with faults.gathered():
        if new.webhook_path is not None:
            raise invalid("webhook_path", "the platform makes the path of a webhook; leave it out")
    with faults.gathered():
        _check_schedule(new.type, new.schedule, new.timezone)
    faults.raise_any()
    _check_lake(principal, new.type)


def _check(principal: Principal, row: TriggerRow, *, sent_secret: bool) -> None:
    """Of a trigger that is changed. Raises ValidationFailed and Forbidden."""
    faults = Faults()
    for name, kind, sent in (
        ("schedule", "cron", row.schedule is not None),
        ("secret", "webhook", sent_secret),
        ("datasets", "dataset_refreshed", bool(row.datasets)),
    ):
        with faults.gathered():
            _check_kind(name, kind, row.type, is_sent=sent)
    with faults.gathered():
        if not row.title.strip():
            raise invalid("title", "title is required")
    with faults.gathered():
        _check_schedule(row.type, row.schedule, row.timezone)
    faults.raise_any()
    _check_lake(principal, row.type)


def _check_kind(name: str, kind: str, given: str, *, is_sent: bool) -> None:
    if is_sent and given != kind:
        raise invalid(name, f"{name} belongs to a trigger of the type {kind}, not {given}")


def _check_schedule(kind: str, schedule: str | None, timezone: str) -> None:
    if kind == "cron" and schedule is None:
        raise invalid("schedule", "schedule is required: five fields, e.g. 30 6 * * 1-5")
    _zone(timezone)
    next_after(now(), schedule, timezone)


def _check_lake(principal: Principal, kind: str) -> None:
    if kind == "dataset_refreshed" and not principal.may(LAKE_SCOPE):
        raise Forbidden(f"Token does not have '{LAKE_SCOPE}' scope, which triggers of datasets need")


def _merged(row: TriggerRow, change: TriggerChange) -> TriggerRow:
    if change.type is not UNSET and change.type != row.type:
        raise Conflict("The type of a trigger cannot change")
    if change.webhook_path is not UNSET and change.webhook_path != row.webhook_path:
        raise Conflict("The path of a webhook cannot change")
    said: dict[str, Any] = {
        name: value
        for name in ("title", "description", "priority", "enabled", "schedule", "timezone", "datasets")
        if (value := getattr(change, name)) is not UNSET
    }
    if "datasets" in said:
        said["datasets"] = [name.lower() for name in said["datasets"]]
    return replace(row, **said)


async def _agent(connection: Connection, tenant_id: str, named: str | None) -> tuple[str, str]:
    if not named:
        raise invalid("agent", "agent is required: the name of the agent that does the tasks")
    try:
        row = await find_agent(connection, tenant_id, named)
    except NotFound:
        known: Sequence[str] = [one.name for one in await agents.every(connection, tenant_id)]
        raise unknown("agent", "agent", named, known) from None
    return row.id, row.name


def _uuid(id: str) -> str:
    found = parse_uuid(id)
    if found is None:
        raise missing("trigger", id)
    return found


def _visible(row: TriggerRow | None, principal: Principal, id: str) -> TriggerRow:
    """Raises NotFound for what is not there, or not the caller's to see."""
    if row is None or not (principal.is_admin or row.owner == principal.identity):
        raise missing("trigger", id)
    return row


def _detail(row: TriggerRow, secret: str | UnsetType = UNSET) -> TriggerDetail:
    return TriggerDetail(
        id=row.id,
        type=row.type,
        title=row.title,
        description=row.description,
        agent=row.agent,
        agent_name=row.agent,
        agent_id=row.agent_id,
        priority=row.priority,
        enabled=row.enabled,
        schedule=row.schedule,
        timezone=row.timezone,
        webhook_path=row.webhook_path,
        datasets=row.datasets,
        last_fired_at=row.last_fired_at and rfc3339(row.last_fired_at),
        next_fire_at=row.next_fire_at and rfc3339(row.next_fire_at),
        last_task_id=row.last_task_id,
        failures=row.failures,
        last_error=row.last_error,
        last_error_at=row.last_error_at and rfc3339(row.last_error_at),
        created_by=row.owner.partition(":")[2],
        created_at=rfc3339(row.created_at),
        updated_at=rfc3339(row.updated_at),
        secret=secret,
    )


def _firing(row: FiringRow) -> Firing:
    return Firing(event=row.event, task_id=row.task_id, error=row.error, fired_at=rfc3339(row.fired_at))
