"""The audit trail: every change of both APIs, and what was refused, as the door saw it."""

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from weir.gateway.tables import audit_log
from weir.gateway.tables.audit_log import EntryFilter, EntryRow, NewEntry
from weir_shared.auth.principal import ANONYMOUS, DEFAULT_TENANT_ID, Principal
from weir_shared.clock import rfc3339
from weir_shared.db.pool import Database, DatabaseUnavailable
from weir_shared.errors import Unauthorized
from weir_shared.telemetry.metrics import counter
from weir_shared.web.filters import Page

MAX_PATH, MAX_ADDRESS = 500, 100
READS = frozenset({"GET", "HEAD", "OPTIONS"})
# Asked by POST, and change nothing.
_QUERIES = re.compile(r"(/api)?/v1/context-lake/sql|/api/v1/knowledge-bases/[^/]+/search")
SUCCEEDED, REFUSED = 200, 403
PREFIXES = ("/api/v1/context-lake/", "/v1/context-lake/", "/api/v1/", "/v1/")
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}
# The thing that is changed, by the last word of the path that is a collection's.
_NOUNS = {
    "agents": "agent",
    "agent-relations": "agent_relation",
    "capabilities": "capability",
    "models": "model",
    "schemas": "schema",
    "memory": "memory",
    "mcp-servers": "mcp",
    "knowledge-bases": "kb",
    "files": "file",
    "tasks": "task",
    "triggers": "trigger",
    "sessions": "session",
    "settings": "setting",
    "datasets": "dataset",
    "views": "view",
    "imports": "import",
}
_ACTIONS = {
    ("POST", "auth/tokens"): "token.create",
    ("DELETE", "auth/tokens"): "token.revoke",
    ("PATCH", "config"): "config.update",
    ("POST", "config/import"): "config.import",
    ("POST", "config/reload"): "config.reload",
    ("POST", "config/rollback"): "config.rollback",
    ("POST", "chat/completions"): "chat.message",
    ("POST", "mcp"): "mcp.call",
    ("POST", "start"): "runtime.start",
    ("POST", "stop"): "runtime.stop",
    ("POST", "redeploy"): "runtime.redeploy",
}
_SPOKEN = frozenset({"chat.message", "chat.respond"})
# What is done to one thing, by the last word of its path.
_DEEDS = {
    "chat": "chat.message",
    "respond": "chat.respond",
    "verify": "model.verify",
    "fork": "schema.create",
    "refresh": "dataset.refresh",
    "approve": "task.approve",
    "start": "task.start",
    "complete": "task.complete",
    "fail": "task.fail",
    "priority": "task.update",
    "input": "task.input",
}

# Not for what nobody sent: whoever has no credential cannot fill the trail.
FAILURES_A_MINUTE = 120
MAX_CHANGES, MAX_FIELD_CHARACTERS = 50, 100
AUTH_FAILURES = counter("auth_failures_total", "Requests without a good credential", "reason")
AUTH_UNNOTED = counter(
    "auth_failures_unnoted_total", "Those of them beyond what the audit trail takes in a minute"
)

Outcome = Callable[[int, int, list[str] | None], Awaitable[None]]
"""Takes a status, milliseconds, and the fields that were given."""

log = structlog.get_logger(__name__)


class Entry(Struct, frozen=True, kw_only=True):
    """One line of the trail as it is shown; `details` is JSON."""

    id: int
    timestamp: str
    actor_type: str
    actor_id: str
    action: str
    resource: str
    status: str
    details: str


class EntryPage(Struct, frozen=True, kw_only=True):
    data: list[Entry]
    total: int
    page: int
    per_page: int
    total_pages: int


class Trail:
    """Writes the trail while requests pass, and reads it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._minute, self._failures = 0, 0

    async def begin(self, principal: Principal, scope: Mapping[str, Any], send: Any) -> "Noted":
        """Notes a change before it is handed on. Raises DatabaseUnavailable: one that cannot be noted is not made."""
        if principal.actor == "anonymous":
            return Noted(send)
        if scope["method"] in READS or _QUERIES.fullmatch(scope["path"]):
            return Noted(send, on_refusal=partial(self._refused, principal, scope))
        entry = _entry(principal, scope)
        # Not waited for on the disk: the room's own commit is, and the database's log has this one before it.
        async with self._database.tenant(principal.tenant_id, waits_for_disk=False) as connection:
            id = await audit_log.add(connection, principal.tenant_id, entry)
        return Noted(send, on_outcome=partial(self._complete, principal.tenant_id, id))

    async def signed_in(self, principal: Principal, scope: Mapping[str, Any]) -> None:
        """Notes a session that was opened or renewed."""
        entry = msgspec.structs.replace(_entry(principal, scope), action="auth.success")
        await self._note(principal.tenant_id, entry, SUCCEEDED)

    async def unrecognised(self, scope: Mapping[str, Any], error: Unauthorized) -> None:
        """Notes a request without a good credential, for the operator: it is nobody's, so it stands in the default tenant."""
        AUTH_FAILURES.labels(error.code).inc()
        minute = int(time.monotonic() / 60)
        self._failures = self._failures + 1 if minute == self._minute else 1
        self._minute = minute
        if self._failures > FAILURES_A_MINUTE:
            AUTH_UNNOTED.inc()
            return
        entry = msgspec.structs.replace(_entry(ANONYMOUS, scope), actor_type="system", action="auth.fail")
        await self._note(DEFAULT_TENANT_ID, entry, error.status)

    async def page(self, tenant_id: str, wanted: EntryFilter, page: Page) -> EntryPage:
        """Newest first."""
        async with self._database.tenant(tenant_id) as connection:
            rows, total = await audit_log.page(
                connection, tenant_id, wanted, limit=page.size, offset=page.offset
            )
        return EntryPage(
            data=[_shown(row) for row in rows],
            total=total,
            page=page.number,
            per_page=page.size,
            total_pages=page.pages_of(total),
        )

    async def _refused(
        self,
        principal: Principal,
        scope: Mapping[str, Any],
        status: int,
        milliseconds: int,
        changes: list[str] | None,
    ) -> None:
        await self._note(principal.tenant_id, _entry(principal, scope), status, milliseconds, changes)

    async def _note(
        self,
        tenant_id: str,
        entry: NewEntry,
        status: int,
        milliseconds: int = 0,
        changes: list[str] | None = None,
    ) -> None:
        """An entry with its outcome, for what is over already."""
        try:
            async with self._database.tenant(tenant_id, waits_for_disk=False) as connection:
                id = await audit_log.add(connection, tenant_id, entry)
                await audit_log.complete(
                    connection, tenant_id, id, status_code=status, duration_ms=milliseconds, changes=changes
                )
        except DatabaseUnavailable:
            log.warning("not noted", action=entry.action, status=status)

    async def _complete(
        self, tenant_id: str, id: int, status: int, milliseconds: int, changes: list[str] | None
    ) -> None:
        """The answer goes out whether or not its outcome could be noted: what was done is done."""
        try:
            async with self._database.tenant(tenant_id, waits_for_disk=False) as connection:
                await audit_log.complete(
                    connection, tenant_id, id, status_code=status, duration_ms=milliseconds, changes=changes
                )
        except DatabaseUnavailable:
            log.warning("outcome not noted", entry=id, status=status)


class Noted:
    """A request that is noted: its way out tells the outcome to the trail before the caller sees it."""

    def __init__(
        self, send: Any, on_outcome: Outcome | None = None, on_refusal: Outcome | None = None
    ) -> None:
        self._send = send
        self._on_outcome = on_outcome
        self._on_refusal = on_refusal
        self._started = time.monotonic()
        self._changes: list[str] | None = None

    def saw(self, scope: Mapping[str, Any], body: bytes) -> None:
        """Takes note of the fields that a change gives; not of what is said in chats, and of no value."""
        if self._on_outcome is not None and action_of(scope["method"], scope["path"]) not in _SPOKEN:
            self._changes = fields_of(body)

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            await self.ended(message["status"])
        await self._send(message)

    async def ended(self, status: int) -> None:
        """Once; whatever comes afterwards belongs to the same answer."""
        tell = self._on_outcome or (self._on_refusal if status == REFUSED else None)
        self._on_outcome = self._on_refusal = None
        if tell is not None:
            await tell(status, round((time.monotonic() - self._started) * 1000), self._changes)


def fields_of(body: bytes) -> list[str] | None:
    """The names in a JSON object, sorted; None for a body that is none."""
    try:
        names = sorted(msgspec.json.decode(body, type=dict[str, msgspec.Raw]))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return [name.replace("\0", "\ufffd")[:MAX_FIELD_CHARACTERS] for name in names[:MAX_CHANGES]]


def action_of(method: str, path: str) -> str:
    """What a request does, in the words of the trail: `agent.create`, `chat.message`; else `api_call`."""
    rest = next((path[len(prefix) :] for prefix in PREFIXES if path.startswith(prefix)), path.strip("/"))
    words = [word for word in rest.split("/") if word]
    for length in (2, 1):
        known = _ACTIONS.get((method, "/".join(words[:length])))
        if known is not None:
            return known
    if method in _VERBS and words:
        if method == "POST" and len(words) % 2 == 0:
            return "api_call"
        if method == "POST" and len(words) > 1 and words[-1] in _DEEDS:
            return _DEEDS[words[-1]]
        # Collections and what is in them take turns: the last collection is what is changed.
        collections = words[::2]
        noun = _NOUNS.get(collections[-1])
        if noun is not None:
            return f"{noun}.{_VERBS[method]}"
    return "api_call"


def _entry(principal: Principal, scope: Mapping[str, Any]) -> NewEntry:
    kind = principal.actor if principal.actor in ("api_token", "system") else "user"
    return NewEntry(
        actor_type="admin" if kind == "user" and principal.is_admin else kind,
        actor_id=principal.subject,
        action=action_of(scope["method"], scope["path"]),
        method=scope["method"],
        path=scope["path"].replace("\0", "\ufffd")[:MAX_PATH],
        client_ip=scope["client"][0][:MAX_ADDRESS] if scope.get("client") else None,
        request_id=structlog.contextvars.get_contextvars().get("request_id", ""),
    )


def _shown(row: EntryRow) -> Entry:
    details: dict[str, Any] = {
        "method": row.method,
        "path": row.path,
        "status_code": row.status_code,
        "duration_ms": row.duration_ms,
        "request_id": row.request_id,
        "client_ip": row.client_ip,
    }
    if row.changes is not None:
        details["changes"] = row.changes
    return Entry(
        id=row.id,
        timestamp=rfc3339(row.occurred_at),
        actor_type=row.actor_type,
        actor_id=row.actor_id,
        action=row.action,
        resource=f"{row.method} {row.path}",
        status=_status(row.status_code),
        details=msgspec.json.encode(details).decode(),
    )


def _status(code: int | None) -> str:
    return "unknown" if code is None else "failed" if code >= 400 else "completed"
