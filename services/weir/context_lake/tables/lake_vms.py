"""`lake_vms`: one runtime a tenant, moved from state to state by compare-and-set on (state, epoch)."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from weir_shared.db.pool import Connection

State = Literal["not_provisioned", "provisioning", "running", "hibernating", "paused", "error"]


class Vm(Struct, frozen=True, kw_only=True):
    """A tenant's runtime as it is known, beside the version its lake is at."""

    tenant_id: str
    state: State = "not_provisioned"
    epoch: int = 0
    endpoint: str | None = None
    secret: bytes | None = None
    applied_version: int | None = None
    last_error: str | None = None
    updated_at: datetime | None = None
    idle_seconds: float = 0.0
    version: int = 0
    """The lake's newest version; the runtime has it when `applied_version` equals it."""


class Claim(Struct, frozen=True, kw_only=True):
    """The right to boot one epoch."""

    secret: bytes
    waited_seconds: float
    """Since the boot was asked for."""


class Awake(Struct, frozen=True, kw_only=True):
    """A runtime of any tenant, as the sweeps see it."""

    tenant_id: str
    state: State
    epoch: int


async def read_vm(connection: Connection, tenant_id: str) -> Vm:
    row = await connection.fetchrow(
        """
        select coalesce(vm.state, 'not_provisioned') as state, coalesce(vm.epoch, 0) as epoch,
            vm.endpoint, vm.secret, vm.applied_version, vm.last_error, vm.updated_at,
            coalesce(extract(epoch from now() - vm.last_activity_at), 0)::float8 as idle_seconds,
            coalesce(lakes.version, 0) as version
        from (select $1::uuid as tenant_id) as asked
            left join lakes on lakes.tenant_id = asked.tenant_id
            left join lake_vms as vm on vm.tenant_id = asked.tenant_id
        """,
        tenant_id,
    )
    assert row is not None
    return Vm(tenant_id=tenant_id, **dict(row))


async def ensure_row(connection: Connection, tenant_id: str) -> None:
    await connection.execute(
        "insert into lake_vms (tenant_id) values ($1) on conflict (tenant_id) do nothing", tenant_id
    )


async def move(
    connection: Connection,
    tenant_id: str,
    state: State,
    epoch: int,
    to: State,
    *,
    cause: str,
    error: str | None = None,
) -> bool:
    """One transition within an epoch; False when the runtime is elsewhere by now."""
    moved = await connection.fetchval(
        """
        update lake_vms set state = $4, cause = $5, last_error = $6, lease_until = null, updated_at = now()
        where tenant_id = $1 and state = $2 and epoch = $3
        returning epoch
        """,
        tenant_id,
        state,
        epoch,
        to,
        cause,
        error,
    )
    return moved is not None


async def begin_epoch(
    connection: Connection, tenant_id: str, state: State, epoch: int, *, cause: str
) -> int | None:
    """Asks for a boot: the next epoch, or None when the runtime is elsewhere by now."""
    return await connection.fetchval(
        """
        update lake_vms
        set state = 'provisioning', epoch = epoch + 1, endpoint = null, secret = null, applied_version = null,
            last_error = null, lease_until = null, last_activity_at = now(), cause = $4, updated_at = now()
        where tenant_id = $1 and state = $2 and epoch = $3
        returning epoch
        """,
        tenant_id,
        state,
        epoch,
        cause,
    )


async def claim_boot(
    connection: Connection, tenant_id: str, epoch: int, *, endpoint: str, secret: bytes, seconds: int
) -> Claim | None:
    """The lease on a boot, or None: stale, done, or somebody else's.

    The first claim's secret stays, for the process that it started may be alive.
    """
    row = await connection.fetchrow(
        """
        update lake_vms
        set lease_until = now() + make_interval(secs => $5), endpoint = $3, secret = coalesce(secret, $4)
        where tenant_id = $1 and epoch = $2 and state = 'provisioning'
            and (lease_until is null or lease_until < now())
        returning secret, extract(epoch from now() - updated_at)::float8 as waited_seconds
        """,
        tenant_id,
        epoch,
        endpoint,
        secret,
        float(seconds),
    )
    return Claim(**dict(row)) if row else None


async def mark_running(connection: Connection, tenant_id: str, epoch: int, version: int) -> bool:
    moved = await connection.fetchval(
        """
        update lake_vms
        set state = 'running', applied_version = $3, lease_until = null, last_activity_at = now(), updated_at = now()
        where tenant_id = $1 and epoch = $2 and state = 'provisioning'
        returning epoch
        """,
        tenant_id,
        epoch,
        version,
    )
    return moved is not None


async def claim_lease(
    connection: Connection, tenant_id: str, state: State, epoch: int, *, seconds: int
) -> bool:
    """The right to configure or to stop a runtime, for so many seconds."""
    claimed = await connection.fetchval(
        """
        update lake_vms set lease_until = now() + make_interval(secs => $4)
        where tenant_id = $1 and state = $2 and epoch = $3 and (lease_until is null or lease_until < now())
        returning epoch
        """,
        tenant_id,
        state,
        epoch,
        float(seconds),
    )
    return claimed is not None


async def mark_applied(connection: Connection, tenant_id: str, epoch: int, version: int | None) -> None:
    """Notes what the runtime has been told and gives the lease back; None when it could not be told."""
    await connection.execute(
        """
        update lake_vms set applied_version = coalesce($3, applied_version), lease_until = null
        where tenant_id = $1 and epoch = $2 and state = 'running'
        """,
        tenant_id,
        epoch,
        version,
    )


async def touch(connection: Connection, tenant_id: str) -> None:
    await connection.execute("update lake_vms set last_activity_at = now() where tenant_id = $1", tenant_id)


async def find_unserved_any(connection: Connection, *, seconds: float) -> list[Awake]:
    """Runtimes of any tenant that have been asked to start or to stop, and that nobody is at."""
    rows = await connection.fetch(
        """
        select tenant_id, state, epoch from lake_vms
        where state in ('provisioning', 'hibernating')
            and updated_at < now() - make_interval(secs => $1)
            and (lease_until is null or lease_until < now())
        order by updated_at limit 200
        """,
        seconds,
    )
    return [Awake(**dict(row)) for row in rows]


async def find_idle_any(connection: Connection, *, seconds: float) -> list[Awake]:
    """Running runtimes of any tenant that have had no work for so long."""
    rows = await connection.fetch(
        """
        select tenant_id, state, epoch from lake_vms
        where state = 'running' and last_activity_at < now() - make_interval(secs => $1)
        order by last_activity_at limit 200
        """,
        seconds,
    )
    return [Awake(**dict(row)) for row in rows]


async def list_awake_any(connection: Connection) -> list[Awake]:
    """Every runtime of any tenant that has a process, or should have one."""
    rows = await connection.fetch(
        """
        select tenant_id, state, epoch from lake_vms
        where state in ('provisioning', 'running', 'hibernating')
        """
    )
    return [Awake(**dict(row)) for row in rows]


async def count_states_any(connection: Connection) -> dict[str, int]:
    """How many lakes are in each state."""
    rows = await connection.fetch("select state, count(*) as lakes from lake_vms group by state")
    return {row["state"]: row["lakes"] for row in rows}
