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
    auto_apply: bool = True
    """Whether a running runtime gets each new version by itself."""
    redeploys_asked: int = 0
    redeploys_done: int = 0

    @property
    def has_drifted(self) -> bool:
        """Whether the runtime works with another version than the newest."""
        return self.applied_version is not None and self.applied_version != self.version

    @property
    def is_redeploy_open(self) -> bool:
        return self.redeploys_done < self.redeploys_asked

    @property
    def is_settled(self) -> bool:
        """Whether a running runtime has all that it should have by now."""
        return not self.is_redeploy_open and not (self.auto_apply and self.has_drifted)


class Claim(Struct, frozen=True, kw_only=True):
    """The right to boot one epoch."""

    secret: bytes
    waited_seconds: float
    """Since the boot was asked for."""
    redeploys_asked: int
    """Until now: the boot does what they ask for."""


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
            coalesce(lakes.version, 0) as version, coalesce(lakes.auto_apply, true) as auto_apply,
            coalesce(vm.redeploys_asked, 0) as redeploys_asked, coalesce(vm.redeploys_done, 0) as redeploys_done
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
        update lake_vms
        set state = $4, cause = $5, last_error = $6, lease_until = null, lease_owner = null, updated_at = now()
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
            last_error = null, lease_until = null, lease_owner = null, last_activity_at = now(), cause = $4,
            updated_at = now()
        where tenant_id = $1 and state = $2 and epoch = $3
        returning epoch
        """,
        tenant_id,
        state,
        epoch,
        cause,
    )


async def claim_boot(
    connection: Connection,
    tenant_id: str,
    epoch: int,
    owner: str,
    *,
    endpoint: str,
    secret: bytes,
    seconds: float,
) -> Claim | None:
    """The lease on a boot, or None: stale, done, or somebody else's.

    The first claim's secret stays, for the process that it started may be alive.
    """
    row = await connection.fetchrow(
        """
        update lake_vms
        set lease_until = now() + make_interval(secs => $6), lease_owner = $3, endpoint = $4,
            secret = coalesce(secret, $5)
        where tenant_id = $1 and epoch = $2 and state = 'provisioning'
            and (lease_until is null or lease_until < now())
        returning secret, redeploys_asked, extract(epoch from now() - updated_at)::float8 as waited_seconds
        """,
        tenant_id,
        epoch,
        owner,
        endpoint,
        secret,
        float(seconds),
    )
    return Claim(**dict(row)) if row else None


async def extend_lease(
    connection: Connection, tenant_id: str, epoch: int, owner: str, *, seconds: float
) -> bool:
    """More time for whoever holds the lease; False when it is somebody else's by now."""
    extended = await connection.fetchval(
        """
        update lake_vms set lease_until = now() + make_interval(secs => $4)
        where tenant_id = $1 and epoch = $2 and lease_owner = $3 and lease_until is not null
        returning epoch
        """,
        tenant_id,
        epoch,
        owner,
        float(seconds),
    )
    return extended is not None


async def mark_running(
    connection: Connection, tenant_id: str, epoch: int, owner: str, version: int, *, redeploys: int
) -> bool:
    """The end of a boot, by whoever holds its lease; False when it is not his any more."""
    moved = await connection.fetchval(
        """
        update lake_vms
        set state = 'running', applied_version = $4, redeploys_done = $5, lease_until = null, lease_owner = null,
            last_activity_at = now(), updated_at = now()
        where tenant_id = $1 and epoch = $2 and lease_owner = $3 and state = 'provisioning'
        returning epoch
        """,
        tenant_id,
        epoch,
        owner,
        version,
        redeploys,
    )
    return moved is not None


async def mark_failed(connection: Connection, tenant_id: str, epoch: int, owner: str, error: str) -> bool:
    """The end of a boot that has come to nothing; False when it is not the owner's any more."""
    moved = await connection.fetchval(
        """
        update lake_vms
        set state = 'error', cause = 'boot_failed', last_error = $4, lease_until = null, lease_owner = null,
            updated_at = now()
        where tenant_id = $1 and epoch = $2 and lease_owner = $3 and state = 'provisioning'
        returning epoch
        """,
        tenant_id,
        epoch,
        owner,
        error,
    )
    return moved is not None


async def claim_lease(
    connection: Connection, tenant_id: str, state: State, epoch: int, owner: str, *, seconds: float
) -> bool:
    """The right to configure or to stop a runtime, for so many seconds."""
    claimed = await connection.fetchval(
        """
        update lake_vms set lease_until = now() + make_interval(secs => $5), lease_owner = $4
        where tenant_id = $1 and state = $2 and epoch = $3 and (lease_until is null or lease_until < now())
        returning epoch
        """,
        tenant_id,
        state,
        epoch,
        owner,
        float(seconds),
    )
    return claimed is not None


async def ask_redeploy(connection: Connection, tenant_id: str) -> int:
    """Counts the wish that everything be registered anew; which number it has."""
    number: int | None = await connection.fetchval(
        """
        insert into lake_vms (tenant_id, redeploys_asked) values ($1, 1)
        on conflict (tenant_id) do update set redeploys_asked = lake_vms.redeploys_asked + 1
        returning redeploys_asked
        """,
        tenant_id,
    )
    assert number is not None
    return number


async def mark_applied(
    connection: Connection,
    tenant_id: str,
    epoch: int,
    owner: str,
    version: int | None,
    *,
    redeploys: int | None,
) -> None:
    """Notes what the runtime has been told and gives the lease back; None when it could not be told."""
    await connection.execute(
        """
        update lake_vms
        set applied_version = coalesce($4, applied_version),
            redeploys_done = greatest(redeploys_done, coalesce($5, redeploys_done)),
            lease_until = null, lease_owner = null
        where tenant_id = $1 and epoch = $2 and lease_owner = $3 and state = 'running'
        """,
        tenant_id,
        epoch,
        owner,
        version,
        redeploys,
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


async def find_drifted_any(connection: Connection) -> list[Awake]:
    """Running runtimes of any tenant that nobody is at and that lack something they should have."""
    rows = await connection.fetch(
        """
        select vm.tenant_id, vm.state, vm.epoch
        from lake_vms as vm left join lakes on lakes.tenant_id = vm.tenant_id
        where vm.state = 'running' and (vm.lease_until is null or vm.lease_until < now())
            and (vm.redeploys_done < vm.redeploys_asked
                or (coalesce(lakes.auto_apply, true) and vm.applied_version <> coalesce(lakes.version, 0)))
        order by vm.updated_at limit 200
        """
    )
    return [Awake(**dict(row)) for row in rows]


async def count_drifted_any(connection: Connection) -> int:
    """How many running runtimes work with another version than their lake's newest."""
    count: int | None = await connection.fetchval(
        """
        select count(*) from lake_vms as vm join lakes on lakes.tenant_id = vm.tenant_id
        where vm.state = 'running' and vm.applied_version <> lakes.version
        """
    )
    return count or 0


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


async def find_with_roles_any(connection: Connection) -> list[str]:
    """The tenants of running runtimes with a dataset that is read as their role."""
    rows = await connection.fetch(
        """
        select lake_vms.tenant_id
        from lake_vms join lakes using (tenant_id) join lake_configs using (tenant_id, version)
        where lake_vms.state = 'running'
            and lake_configs.document @? '$.datasets[*].params ? (@.s3_auth == "iam_role")'
        """
    )
    return [str(row["tenant_id"]) for row in rows]


async def count_states_any(connection: Connection) -> dict[str, int]:
    """How many lakes are in each state."""
    rows = await connection.fetch("select state, count(*) as lakes from lake_vms group by state")
    return {row["state"]: row["lakes"] for row in rows}
