"""The MCP servers that a tenant has configured: create, read, merge, delete."""

import json
from typing import Any

from msgspec import UNSET
from msgspec.structs import replace

from weir.agent_engine.forwarded import is_never_forwarded
from weir.agent_engine.naming import Faults, check_name, invalid, missing, reference
from weir.agent_engine.tables import mcp_servers
from weir.agent_engine.tables.mcp_servers import McpServerRow
from weir.agent_engine.wire.mcp_servers import McpServerChange, McpServerDetail, McpServerPut, NewMcpServer
from weir_shared.clock import now, rfc3339
from weir_shared.db.pool import Connection, Database, UniqueViolation, Unit
from weir_shared.egress import ForbiddenAddress, check_url
from weir_shared.errors import Conflict
from weir_shared.ids import new_id
from weir_shared.sealing import Vault

STDIO_IS_OFF = (
    "servers of the type stdio are programs on the platform's own machine, and this platform runs none; "
    "its operator allows them with WEIR_MCP_STDIO=1"
)
_DEFAULTS: dict[str, Any] = {
    "command": None,
    "args": (),
    "url": None,
    "forward_headers": (),
    "auth_type": "none",
    "auth_key_env": None,
    "auth_token_env": None,
    "auth_client_id": None,
    "enabled": True,
}
_Said = McpServerChange | McpServerPut | NewMcpServer
_SECRET_OF = {"api_key": "auth_key_env", "oauth2": "auth_token_env", "service_account": "auth_token_env"}


class McpServers:
    """The MCP servers of all tenants, as their administrators see them."""

    def __init__(self, database: Database, vault: Vault, *, allow_private: bool, stdio: bool) -> None:
        self._database = database
        self._vault = vault
        self._allow_private = allow_private
        self._stdio = stdio

    def within(self, unit: Unit) -> "McpServers":
        """The same, with everything that is done in one unit of work."""
        return McpServers(unit, self._vault, allow_private=self._allow_private, stdio=self._stdio)

    async def list(self, tenant_id: str) -> list[McpServerDetail]:
        async with self._database.tenant(tenant_id) as connection:
            return [_detail(row) for row in await mcp_servers.every(connection, tenant_id)]

    async def read(self, tenant_id: str, name: str) -> McpServerDetail:
        async with self._database.tenant(tenant_id) as connection:
            return _detail(await find_server(connection, tenant_id, name))

    async def create(
        self, tenant_id: str, new: NewMcpServer, *, may_lack_secret: bool = False
    ) -> McpServerDetail:
        """Raises ValidationFailed and Conflict."""
        faults = Faults()
        with faults.gathered():
            check_name(new.name)
        row = _merged(_blank(new.name, new.type), new)
        with faults.gathered():
            self._check(row)
        with faults.gathered():
            env = _environment(new, {})
            _check_secret(row, env, may_lack=may_lack_secret)
        faults.raise_any()
        row = await self._with_environment(tenant_id, row, env)
        try:
            async with self._database.tenant(tenant_id) as connection:
                await mcp_servers.add(connection, tenant_id, row)
        except UniqueViolation:
            raise Conflict(f"There is an MCP server named '{new.name}' already") from None
        return _detail(row)

    async def change(
        self,
        tenant_id: str,
        name: str,
        change: McpServerChange | McpServerPut,
        *,
        may_lack_secret: bool = False,
    ) -> McpServerDetail:
        """Raises ValidationFailed, NotFound, and Conflict for another name."""
        await self.read(tenant_id, name)
        # A first secret makes the tenant's key, in a unit of its own: not while this one holds its lock.
        await self._vault.seal(tenant_id, "mcp_servers", "")
        async with self._database.tenant(tenant_id) as connection:
            found = await find_server(connection, tenant_id, name)
            if change.name is not UNSET and change.name != found.name:
                raise Conflict("The name of an MCP server cannot change")
            row = _merged(found, change)
            faults = Faults()
            with faults.gathered():
                self._check(row)
            with faults.gathered():
                env = _environment(change, await self.environment(tenant_id, found))
                _check_secret(row, env, may_lack=may_lack_secret)
            faults.raise_any()
            row = await self._with_environment(tenant_id, row, env)
            await mcp_servers.change(connection, tenant_id, row)
            return _detail(row)

    async def delete(self, tenant_id: str, name: str) -> None:
        """Raises NotFound, and Conflict while an agent uses it."""
        async with self._database.tenant(tenant_id) as connection:
            row = await find_server(connection, tenant_id, name)
            # Read anew behind the lock: an agent may have begun to use it while the lock was waited for.
            if users := (await find_server(connection, tenant_id, row.id)).agents:
                shown = ", ".join(users[:5]) + ("…" if len(users) > 5 else "")
                raise Conflict(
                    f"MCP server '{row.name}' is used by {shown}; take it from their mcp_servers first"
                )
            await mcp_servers.remove(connection, tenant_id, row.id)

    async def environment(self, tenant_id: str, row: McpServerRow) -> dict[str, str]:
        """Its environment in the clear. Raises SealError."""
        if row.env_sealed is None:
            return {}
        return json.loads(await self._vault.open(tenant_id, _identity(row.id), row.env_sealed))

    async def _with_environment(self, tenant_id: str, row: McpServerRow, env: dict[str, str]) -> McpServerRow:
        sealed = await self._vault.seal(tenant_id, _identity(row.id), json.dumps(env)) if env else None
        return replace(row, env_names=sorted(env), env_sealed=sealed)

    def _check(self, row: McpServerRow) -> None:
        """Raises ValidationFailed with everything that does not fit together."""
        faults = Faults()
        with faults.gathered():
            self._check_place(row)
        with faults.gathered():
            if row.auth_type == "forward_headers" and not row.forward_headers:
                raise invalid("forward_headers", "name the headers that this server gets")
        for position, name in enumerate(row.forward_headers):
            with faults.gathered():
                if is_never_forwarded(name):
                    raise invalid(f"forward_headers.{position}", "this header is not passed on; leave it out")
        faults.raise_any()

    def _check_place(self, row: McpServerRow) -> None:
        if row.type == "stdio":
            if not self._stdio:
                raise invalid("type", STDIO_IS_OFF)
            if not (row.command or "").strip():
                raise invalid("command", "a server of the type stdio needs the command that starts it")
            return
        if not row.url:
            raise invalid("url", f"a server of the type {row.type} needs its address")
        try:
            check_url(row.url, allow_private=self._allow_private)
        except ForbiddenAddress as fault:
            raise invalid("url", str(fault)) from None


async def find_server(connection: Connection, tenant_id: str, name: str) -> McpServerRow:
    """Raises NotFound."""
    row = await mcp_servers.find(connection, tenant_id, *reference(name, "MCP server"))
    if row is None:
        raise missing("MCP server", name)
    return row


def _blank(name: str, type: str) -> McpServerRow:
    return McpServerRow(
        id=new_id(),
        name=name,
        type=type,
        command=None,
        args=[],
        url=None,
        forward_headers=[],
        auth_type="none",
        auth_key_env=None,
        auth_token_env=None,
        auth_client_id=None,
        enabled=True,
        env_names=[],
        env_sealed=None,
        created_at=now(),
        updated_at=now(),
    )


def _merged(row: McpServerRow, change: _Said) -> McpServerRow:
    said: dict[str, Any] = {}
    for name, default in _DEFAULTS.items():
        value = getattr(change, name)
        if value is not UNSET:
            said[name] = default if value is None else value
    for name in ("args", "forward_headers"):
        if name in said:
            said[name] = list(said[name])
    kind = row.type if change.type is UNSET else change.type
    # Of the two ways to reach a server only one is kept: the other would come back to life unseen.
    said |= {"url": None} if kind == "stdio" else {"command": None, "args": []}
    return replace(row, **said, type=kind, updated_at=now())


def _environment(change: _Said, kept: dict[str, str]) -> dict[str, str]:
    """The values that are sent, and for each `${NAME}` that stands for itself the one that is kept."""
    if change.env_vars is UNSET:
        return kept
    faults = Faults()
    env: dict[str, str] = {}
    for name, value in (change.env_vars or {}).items():
        with faults.gathered():
            if "\0" in value:
                raise invalid(f"env_vars.{name}", "a value must not hold the character U+0000")
            if value == mask(name) and name not in kept:
                raise invalid(f"env_vars.{name}", "there is no value to keep; enter it")
            env[name] = kept[name] if value == mask(name) else value
    faults.raise_any()
    return env


def _check_secret(row: McpServerRow, env: dict[str, str], *, may_lack: bool) -> None:
    """The secret of a server is one of its own values, never one of the platform's environment.

    One that was configured from a document may lack it until it is entered: a document holds no secrets.
    """
    field = _SECRET_OF.get(row.auth_type)
    if field is None:
        return
    name = getattr(row, field)
    if not name:
        raise invalid(
            field, f"with auth_type {row.auth_type} this names the one of env_vars that is the secret"
        )
    if name not in env and may_lack:
        return
    if name not in env:
        raise invalid(field, f"env_vars has no '{name}'; enter the secret there")
    if not (env[name] and env[name].isascii() and env[name].isprintable()):
        raise invalid(f"env_vars.{name}", "a secret is printable ASCII without line breaks")


def mask(name: str) -> str:
    return f"${{{name}}}"


def _identity(id: str) -> str:
    return f"mcp_servers|{id}|env_vars"


def _detail(row: McpServerRow) -> McpServerDetail:
    return McpServerDetail(
        id=row.id,
        name=row.name,
        type=row.type,  # type: ignore[arg-type]
        **{name: getattr(row, name) for name in _DEFAULTS},
        env_vars={name: mask(name) for name in row.env_names},
        agents=row.agents,
        created_at=rfc3339(row.created_at),
        updated_at=rfc3339(row.updated_at),
    )
