"""Tools that a tenant describes as HTTP requests: create, read, merge; what of them is secret."""

import json
import re
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from weir.agent_engine.forwarded import is_never_forwarded
from weir.agent_engine.mcp.configured import mask
from weir.agent_engine.naming import Faults, invalid, missing
from weir.agent_engine.tables import http_tools
from weir.agent_engine.tables.http_tools import HttpToolRow
from weir.agent_engine.tools.names import KNOWN
from weir.agent_engine.wire.http_tools import (
    HttpAuth,
    HttpParameter,
    HttpToolChange,
    HttpToolDetail,
    HttpToolFields,
    NewHttpTool,
)
from weir_shared.clock import now
from weir_shared.db.pool import Database, UniqueViolation, Unit
from weir_shared.egress import ForbiddenAddress, check_url
from weir_shared.errors import Conflict
from weir_shared.ids import new_id
from weir_shared.sealing import Vault

PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]{0,63})\s*\}\}")
AUTH = "auth"
WITHOUT_BODY = ("GET", "HEAD")
MOST_BYTES = 32 * 1024
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_SPAWNING = "spawn_"
_DEFAULTS: dict[str, Any] = {"method": "GET", "params": [], "query": {}, "body": None}


class HttpTools:
    """The HTTP tools of all tenants."""

    def __init__(self, database: Database, vault: Vault, *, allow_private: bool) -> None:
        self._database = database
        self._vault = vault
        self.allow_private = allow_private

    def within(self, unit: Unit) -> "HttpTools":
        """The same, with everything that is done in one unit of work."""
        return HttpTools(unit, self._vault, allow_private=self.allow_private)

    async def create(self, tenant_id: str, new: NewHttpTool) -> None:
        """Raises ValidationFailed and Conflict."""
        faults = Faults()
        with faults.gathered():
            check_tool_name(new.name)
        blank = HttpToolRow(
            id=new_id(),
            name=new.name,
            description="",
            config=_DEFAULTS | {"headers": [], "auth": {"type": "none"}},
            secret_names=[],
            secrets_sealed=None,
            confirmation_required=False,
            created_at=now(),
            updated_at=now(),
        )
        row = _merged(blank, new)
        secrets: dict[str, str] = {}
        with faults.gathered():
            secrets = self._checked(row, new, {})
        faults.raise_any()
        row = await self._with_secrets(tenant_id, row, secrets)
        try:
            async with self._database.tenant(tenant_id) as connection:
                await http_tools.add(connection, tenant_id, row)
        except UniqueViolation:
            raise Conflict(f"There is a tool named '{new.name}' already") from None

    async def change(self, tenant_id: str, name: str, change: HttpToolChange) -> None:
        """Raises ValidationFailed and NotFound."""
        async with self._database.tenant(tenant_id) as connection:
            found = await http_tools.find(connection, tenant_id, name)
            if found is None:
                raise missing("tool", name)
            row = _merged(found, change)
            secrets = self._checked(row, change, await self.secrets(tenant_id, found))
            row = await self._with_secrets(tenant_id, row, secrets)
            await http_tools.change(connection, tenant_id, row)

    async def secrets(self, tenant_id: str, row: HttpToolRow) -> dict[str, str]:
        """The values of its headers by their names, and the secret of its auth, in the clear. Raises SealError."""
        if row.secrets_sealed is None:
            return {}
        return json.loads(await self._vault.open(tenant_id, _identity(row.id), row.secrets_sealed))

    async def _with_secrets(self, tenant_id: str, row: HttpToolRow, secrets: dict[str, str]) -> HttpToolRow:
        sealed = None
        if secrets:
            sealed = await self._vault.seal(tenant_id, _identity(row.id), json.dumps(secrets))
        return replace(row, secret_names=sorted(secrets), secrets_sealed=sealed)

    def _checked(self, row: HttpToolRow, said: HttpToolFields, kept: dict[str, str]) -> dict[str, str]:
        """The secrets that the tool has now. Raises ValidationFailed with everything that does not fit together."""
        faults = Faults()
        with faults.gathered():
            self._check_place(row.config["url"])
        with faults.gathered():
            _check_request(row.config)
        secrets: dict[str, str] = {}
        with faults.gathered():
            secrets = _secrets_of(row.config, said, kept)
        faults.raise_any()
        return secrets

    def _check_place(self, url: str) -> None:
        parts = url.partition("://")
        host = re.split(r"[/?#]", parts[2], maxsplit=1)[0]
        if "{{" in parts[0] + host:
            raise invalid("url", "a parameter may stand in the path and in the query, not in the host")
        if not url.isascii():
            raise invalid("url", "write the characters that are not ASCII percent-encoded")
        rest = PLACEHOLDER.sub("x", url)
        if "{{" in rest or "}}" in rest:
            raise invalid("url", "a parameter is written {{name}}")
        try:
            check_url(rest, allow_private=self.allow_private)
        except ForbiddenAddress as fault:
            raise invalid("url", str(fault)) from None
        if urlsplit(rest).fragment:
            raise invalid("url", "a fragment is sent to no server; leave it out")


def check_tool_name(name: str) -> None:
    """Raises ValidationFailed, which says what the name of a tool looks like."""
    if not _NAME.fullmatch(name):
        rule = "a lower-case letter, then letters, digits, _ and -, at most 64 in all"
        raise invalid("name", f"{name[:64]!r} is no name of a tool: {rule}")
    if name in KNOWN or name.startswith(_SPAWNING):
        raise invalid("name", f"'{name}' is a name of the platform's own tools; choose another")


def shown(row: HttpToolRow) -> HttpToolDetail:
    """A tool without its secrets."""
    config = row.config
    auth = msgspec.convert(config["auth"], HttpAuth)
    if AUTH in row.secret_names:
        auth = replace(auth, token=mask(AUTH.upper()))
    return HttpToolDetail(
        name=row.name,
        description=row.description,
        method=config["method"],
        url=config["url"],
        params=msgspec.convert(config["params"], list[HttpParameter]),
        query=config["query"],
        body=config["body"],
        headers={name: mask(name) for name in config["headers"] if _header(name) in row.secret_names},
        auth=auth,
        confirmation_required=row.confirmation_required,
    )


def parameters_of(config: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of what the model gives: what is declared, and what only stands somewhere as {{name}}."""
    declared = msgspec.convert(config["params"], list[HttpParameter])
    in_place = placeholders(config["url"])
    properties: dict[str, Any] = {}
    for parameter in declared:
        about = {"description": parameter.description} if parameter.description else {}
        properties[parameter.name] = {"type": parameter.type} | about
    for name in (*in_place, *placeholders(config["query"]), *placeholders(config["body"])):
        properties.setdefault(name, {"type": "string"})
    required = [one.name for one in declared if one.required or one.name in in_place]
    undeclared = set(properties) - {one.name for one in declared}
    required += [name for name in properties if name in undeclared]
    return {"type": "object", "properties": properties, "required": required}


def placeholders(template: Any) -> list[str]:
    """The parameters that stand in a template, once each, in their order."""
    if isinstance(template, str):
        return list(dict.fromkeys(PLACEHOLDER.findall(template)))
    parts = template.values() if isinstance(template, dict) else template
    found = (
        [name for part in parts for name in placeholders(part)] if isinstance(template, dict | list) else []
    )
    return list(dict.fromkeys(found))


def _merged(row: HttpToolRow, said: NewHttpTool | HttpToolChange) -> HttpToolRow:
    config = dict(row.config)
    for name, default in _DEFAULTS.items():
        value = getattr(said, name)
        if value is not UNSET:
            config[name] = default if value is None else msgspec.to_builtins(value)
    if said.url is not UNSET:
        config["url"] = said.url
    if said.headers is not UNSET:
        config["headers"] = list(said.headers or {})
    if said.auth is not UNSET:
        auth = said.auth or HttpAuth()
        config["auth"] = {
            "type": auth.type,
            "username": auth.username if auth.type == "basic" else None,
            "header": auth.header if auth.type == "header" else None,
        }
    description = row.description if said.description is UNSET else said.description or ""
    gated = said.confirmation_required
    return replace(
        row,
        config=config,
        description=description,
        confirmation_required=row.confirmation_required if gated is UNSET else bool(gated),
        updated_at=now(),
    )


def _check_request(config: dict[str, Any]) -> None:
    faults = Faults()
    with faults.gathered():
        if config["method"] in WITHOUT_BODY and config["body"] is not None:
            raise invalid("body", f"a {config['method']} request has none")
    with faults.gathered():
        names = [parameter["name"] for parameter in config["params"]]
        if len(set(names)) < len(names):
            raise invalid("params", "two have one name")
    with faults.gathered():
        if len(msgspec.json.encode(config)) > MOST_BYTES:
            raise invalid("body", f"the whole tool is larger than {MOST_BYTES // 1024} KiB")
    with faults.gathered():
        auth = config["auth"]
        if auth["type"] == "basic" and (not auth.get("username") or ":" in auth["username"]):
            raise invalid("auth.username", "basic needs a user name without a colon")
        if auth["type"] == "header" and not auth.get("header"):
            raise invalid("auth.header", "name the header that carries the secret")
    for name in (*config["headers"], *([config["auth"]["header"]] if config["auth"].get("header") else ())):
        with faults.gathered():
            if is_never_forwarded(name):
                raise invalid(f"headers.{name}", "this header is the connection's own; leave it out")
    faults.raise_any()


def _secrets_of(config: dict[str, Any], said: HttpToolFields, kept: dict[str, str]) -> dict[str, str]:
    """What is given, and what is kept where `${NAME}` or nothing was said of it."""
    secrets: dict[str, str] = {}
    given = {} if said.headers is UNSET else said.headers or {}
    for name in config["headers"]:
        value = given.get(name, mask(name))
        if value != mask(name):
            secrets[_header(name)] = _printable(f"headers.{name}", value)
        elif _header(name) in kept:
            secrets[_header(name)] = kept[_header(name)]
    token = mask(AUTH.upper()) if said.auth is UNSET else said.auth and said.auth.token
    if config["auth"]["type"] != "none":
        if token is not None and token != mask(AUTH.upper()):
            secrets[AUTH] = _printable("auth.token", token)
        elif token is not None and AUTH in kept:
            secrets[AUTH] = kept[AUTH]
    return secrets


def _printable(path: str, value: str) -> str:
    if not (value and value.isascii() and value.isprintable()):
        raise invalid(path, "a value is printable ASCII without line breaks")
    if "{{" in value:
        raise invalid(
            path, "what the model says is sent in no header; a parameter may stand in url, query and body"
        )
    return value


def _header(name: str) -> str:
    return f"header:{name}"


def _identity(id: str) -> str:
    return f"http_tools|{id}|secrets"
