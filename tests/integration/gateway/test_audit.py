"""The audit trail: every change is in it before it is made, with its outcome before the caller knows it."""

import asyncio
import json
import uuid
from typing import Any

import httpx
import pytest
from msgspec.structs import replace
from tests.integration.gateway.conftest import Door
from tests.integration.gateway.test_credentials import signed

from weir.gateway import audit, jobs
from weir.gateway.audit import action_of, fields_of
from weir.gateway.tables import audit_log
from weir_shared.db.pool import Database, DatabaseUnavailable
from weir_shared.queue.rounds import Tools

AUDIT = "/api/v1/audit"


class Tenant:
    """Callers of one fresh tenant."""

    def __init__(self, door: Door) -> None:
        self.door, self.id = door, str(uuid.uuid4())

    async def ask(self, method: str, path: str, scope: str | None = None, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {signed(self.door, tenant_id=self.id, scope=scope, sub='ada')}"}
        async with self.door.client(**headers) as client:
            return await client.request(method, path, **options)

    async def trail(self, query: str = "") -> list[dict[str, Any]]:
        answer = await self.ask("GET", f"{AUDIT}{query}")
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]


@pytest.fixture
def tenant(door: Door) -> Tenant:
    return Tenant(door)


async def test_a_change_is_noted_with_who_what_and_how_it_went(tenant: Tenant) -> None:
    answer = await tenant.ask("POST", "/api/v1/agents", json={"name": "a"})
    [entry] = await tenant.trail()
    assert (entry["actor_type"], entry["actor_id"], entry["action"]) == ("admin", "ada", "agent.create")
    assert (entry["resource"], entry["status"]) == ("POST /api/v1/agents", "completed")
    details = json.loads(entry["details"])
    assert (details["method"], details["path"], details["status_code"]) == ("POST", "/api/v1/agents", 200)
    assert details["request_id"] == answer.headers["x-request-id"]
    assert details["duration_ms"] >= 0


async def test_changes_of_the_lake_and_of_the_gateway_are_in_the_same_trail(tenant: Tenant) -> None:
    await tenant.ask("DELETE", "/v1/context-lake/datasets/d")
    await tenant.ask("PATCH", "/api/v1/context-lake/config", json={})
    made = await tenant.ask("POST", "/api/v1/auth/tokens", json={"name": "t", "scopes": ["chat"]})
    await tenant.ask("DELETE", f"/api/v1/auth/tokens/{made.json()['id']}")
    actions = [entry["action"] for entry in await tenant.trail()]
    assert actions == ["token.revoke", "token.create", "config.update", "dataset.delete"]


async def test_reads_and_queries_are_no_changes(tenant: Tenant) -> None:
    await tenant.ask("GET", "/api/v1/agents")
    await tenant.ask("POST", "/v1/context-lake/sql", json={"query": "select 1"})
    assert await tenant.trail() == []


async def test_what_is_refused_is_noted_even_when_it_only_reads(tenant: Tenant) -> None:
    assert (await tenant.ask("GET", AUDIT, scope="chat")).status_code == 403
    [entry] = await tenant.trail()
    assert (entry["actor_type"], entry["resource"], entry["status"]) == ("user", f"GET {AUDIT}", "failed")


async def test_what_fails_at_the_door_has_its_outcome_too(tenant: Tenant) -> None:
    answer = await tenant.ask("POST", "/api/v1/agents", content=b"x" * (2 * 1024 * 1024))
    assert answer.status_code == 413
    encoded = await tenant.ask("POST", "/api/v1/agents", content=b"x", headers={"content-encoding": "gzip"})
    assert encoded.status_code == 415
    codes = [json.loads(entry["details"])["status_code"] for entry in await tenant.trail()]
    assert codes == [415, 413]


async def test_a_room_that_dies_in_the_middle_leaves_what_was_answered(tenant: Tenant) -> None:
    with pytest.raises(httpx.HTTPError):
        await tenant.ask("POST", "/api/v1/agents/cut")
    [entry] = await tenant.trail()
    assert json.loads(entry["details"])["status_code"] == 200


async def test_an_outcome_that_was_never_learnt_is_unknown(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: Any, **__: Any) -> None:
        raise DatabaseUnavailable

    monkeypatch.setattr(audit_log, "complete", lost)
    assert (await tenant.ask("POST", "/api/v1/agents", json={})).status_code == 200
    [entry] = await tenant.trail()
    assert (entry["status"], json.loads(entry["details"])["status_code"]) == ("unknown", None)


async def test_a_change_that_cannot_be_noted_is_not_made(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> int:
        raise DatabaseUnavailable

    monkeypatch.setattr(audit_log, "add", away)
    before = len(tenant.door.engine.asked)
    assert (await tenant.ask("POST", "/api/v1/agents", json={})).status_code == 503
    assert len(tenant.door.engine.asked) == before


async def test_as_many_changes_are_noted_as_clients_have_made(tenant: Tenant) -> None:
    await asyncio.gather(*(tenant.ask("PUT", f"/api/v1/agents/a{n}", json={}) for n in range(40)))
    first = await tenant.ask("GET", f"{AUDIT}?per_page=15")
    assert (first.json()["total"], first.json()["total_pages"]) == (40, 3)
    pages = [await tenant.trail(f"?per_page=15&page={page}") for page in (1, 2, 3, 4)]
    assert [len(page) for page in pages] == [15, 15, 10, 0]
    assert len({entry["resource"] for page in pages for entry in page}) == 40


async def test_filters_combine(tenant: Tenant) -> None:
    await tenant.ask("POST", "/api/v1/agents", json={})
    await tenant.ask("POST", "/api/v1/models", json={}, scope="models:write")
    assert len(await tenant.trail("?action=agent.create&actor_type=admin&actor_id=ada&status_code=200")) == 1
    assert len(await tenant.trail("?resource=POST%20/api/v1/models")) == 1
    assert await tenant.trail("?action=agent.create&actor_type=user") == []
    assert len(await tenant.trail("?from=2026-01-01&to=2999-01-01")) == 2
    assert await tenant.trail("?from=2999-01-01") == []


@pytest.mark.parametrize("query", ["from=yesterday", "to=2026-99-99", "page=0", "page=x", "status_code=x"])
async def test_a_wrong_parameter_is_named(tenant: Tenant, query: str) -> None:
    answer = await tenant.ask("GET", f"{AUDIT}?{query}")
    assert answer.status_code == 400
    assert query.partition("=")[0] in answer.text


async def test_a_tenant_sees_its_own_trail_only(tenant: Tenant, door: Door) -> None:
    await tenant.ask("POST", "/api/v1/agents", json={})
    assert await Tenant(door).trail() == []


async def test_nobody_changes_what_was_noted(tenant: Tenant, database: Database) -> None:
    await tenant.ask("POST", "/api/v1/agents", json={})
    for statement in ("delete from audit_log", "update audit_log set action = 'nothing'"):
        with pytest.raises(Exception, match="permission denied"):
            async with database.tenant(tenant.id) as connection:
                await connection.execute(statement)


async def test_no_body_and_no_credential_is_in_the_trail(tenant: Tenant, database: Database) -> None:
    await tenant.ask("POST", "/api/v1/models", json={"api_key": "sk-canary-audit"})
    async with database.any_tenant() as connection:
        rows = await connection.fetch("select * from audit_log where tenant_id = $1", tenant.id)
    assert rows
    assert "canary" not in str([dict(row) for row in rows])


class Operator:
    """The trail of the default tenant, from a moment on."""

    def __init__(self, door: Door) -> None:
        self.door = door

    async def since(self, action: str, last: int = 0) -> list[dict[str, Any]]:
        headers = {"Authorization": f"Bearer {signed(self.door, sub='operator')}"}
        async with self.door.client(**headers) as client:
            answer = await client.get(f"{AUDIT}?action={action}&per_page=100")
        return [entry for entry in answer.json()["data"] if entry["id"] > last]

    async def last(self) -> int:
        entries = [*await self.since("auth.success"), *await self.since("auth.fail")]
        return max((entry["id"] for entry in entries), default=0)


@pytest.fixture
def operator(door: Door, monkeypatch: pytest.MonkeyPatch) -> Operator:
    monkeypatch.setattr(audit, "FAILURES_A_MINUTE", 1_000_000)
    return Operator(door)


async def test_sessions_that_are_opened_and_renewed_are_noted(door: Door, operator: Operator) -> None:
    last = await operator.last()
    session = await door.session()
    async with door.client(**session) as client:
        assert (await client.post("/api/v1/auth/local-session/refresh")).status_code == 200
    renewed, opened = await operator.since("auth.success", last)
    assert (opened["actor_type"], opened["actor_id"]) == ("admin", "local-admin")
    assert (opened["resource"], opened["status"]) == ("POST /api/v1/auth/local-session", "completed")
    assert renewed["resource"].endswith("/refresh")
    details = json.loads(opened["details"])
    assert (details["client_ip"], details["status_code"]) == ("127.0.0.1", 200)


async def test_a_renewed_session_is_noted_in_its_own_tenant(tenant: Tenant) -> None:
    assert (await tenant.ask("POST", "/api/v1/auth/local-session/refresh")).status_code == 200
    [entry] = await tenant.trail("?action=auth.success")
    assert entry["actor_id"] == "ada"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/agents"),
        ("POST", "/v1/context-lake/sql"),
        ("GET", AUDIT),
        ("POST", "/api/v1/auth/local-session/refresh"),
    ],
)
async def test_requests_without_a_good_credential_are_noted_for_the_operator(
    door: Door, operator: Operator, method: str, path: str
) -> None:
    last = await operator.last()
    async with door.client() as client:
        assert (await client.request(method, path)).status_code == 401
    async with door.client(Authorization="Bearer bb_" + "0" * 64) as client:
        assert (await client.request(method, path)).status_code == 401
    entries = await operator.since("auth.fail", last)
    assert [(entry["actor_type"], entry["actor_id"]) for entry in entries] == [("system", "")] * 2
    assert {(entry["resource"], entry["status"]) for entry in entries} == {(f"{method} {path}", "failed")}
    assert {json.loads(entry["details"])["client_ip"] for entry in entries} == {"127.0.0.1"}
    assert "0000" not in str(entries)


async def test_whoever_has_no_credential_cannot_fill_the_trail(
    door: Door, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "FAILURES_A_MINUTE", 0)
    counted = [metric._value.get() for metric in (audit.AUTH_UNNOTED,)]
    last = await operator.last()
    async with door.client() as client:
        for _ in range(5):
            assert (await client.get("/api/v1/agents")).status_code == 401
    assert await operator.since("auth.fail", last) == []
    assert audit.AUTH_UNNOTED._value.get() - counted[0] == 5


async def test_a_proxy_that_is_believed_tells_the_address(tenant: Tenant) -> None:
    await tenant.ask("POST", "/api/v1/agents", json={}, headers={"x-forwarded-for": "203.0.113.9"})
    [entry] = await tenant.trail()
    # The tests' own connections come from loopback, which is believed.
    assert json.loads(entry["details"])["client_ip"] == "203.0.113.9"


async def test_the_fields_of_a_change_are_noted_and_none_of_their_values(tenant: Tenant) -> None:
    await tenant.ask("PATCH", "/api/v1/models/m", json={"name": "canary", "api_key": "sk-canary"})
    await tenant.ask("POST", "/api/v1/schemas/s/chat", json={"message": "canary"})
    await tenant.ask("PUT", "/api/v1/agents/a", content=b"canary")
    broken, spoken, changed = [json.loads(entry["details"]) for entry in await tenant.trail()]
    assert changed["changes"] == ["api_key", "name"]
    assert "changes" not in spoken and "changes" not in broken
    assert "canary" not in str([changed, spoken, broken])


def test_the_fields_of_a_body_are_few_and_short() -> None:
    assert fields_of(b'{"b": 1, "a": {"c": 2}}') == ["a", "b"]
    assert fields_of(b"[1]") is fields_of(b"") is fields_of(b"\xff") is fields_of(b"[" * 100_000) is None
    assert fields_of(b'{"a\\u0000": 1}') == ["a\ufffd"]
    many = fields_of(json.dumps({f"{n:03}" + "x" * 500: 1 for n in range(500)}).encode())
    assert many is not None
    assert (len(many), {len(name) for name in many}) == (50, {100})


async def test_old_entries_are_removed_only_where_that_is_wanted(
    tenant: Tenant, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "REMOVED_AT_ONCE", 2)
    for n in range(7):
        await tenant.ask("PUT", f"/api/v1/agents/a{n}", json={})
    async with database.any_tenant() as connection:
        await connection.execute(
            """
            update audit_log set occurred_at = now() - interval '31 days'
            where tenant_id = $1 and path <> '/api/v1/agents/a6'
            """,
            tenant.id,
        )
    for days, left in ((0, 7), (32, 7), (30, 1)):
        settings = replace(tenant.door.settings, audit_days=days)
        await jobs.forget_old_entries_any({jobs.PART: Tools(settings, database, Any, Any)})
        assert len(await tenant.trail()) == left


@pytest.mark.parametrize(
    ("method", "path", "action"),
    [
        ("POST", "/api/v1/agents", "agent.create"),
        ("PATCH", "/api/v1/agents/agents", "agent.update"),
        ("DELETE", "/api/v1/schemas/s/agent-relations/r", "agent_relation.delete"),
        ("POST", "/api/v1/agents/a/capabilities", "capability.create"),
        ("POST", "/api/v1/schemas/chat", "api_call"),
        ("POST", "/api/v1/schemas/s/chat", "chat.message"),
        ("POST", "/v1/chat/completions", "chat.message"),
        ("POST", "/api/v1/sessions/s/respond", "chat.respond"),
        ("DELETE", "/api/v1/sessions/s", "session.delete"),
        ("PUT", "/api/v1/settings/k", "setting.update"),
        ("POST", "/api/v1/config/import", "config.import"),
        ("POST", "/api/v1/models/m/verify", "model.verify"),
        ("POST", "/v1/context-lake/start", "runtime.start"),
        ("POST", "/api/v1/tasks", "task.create"),
        ("POST", "/api/v1/tasks/t/start", "task.start"),
        ("POST", "/api/v1/tasks/t/input", "task.input"),
        ("DELETE", "/api/v1/tasks/t", "task.delete"),
        ("POST", "/v1/context-lake/datasets/d/refresh", "dataset.refresh"),
        ("POST", "/v1/context-lake/config/rollback", "config.rollback"),
        ("POST", "/v1/context-lake/imports", "import.create"),
        ("GET", "/api/v1/agents", "api_call"),
        ("POST", "/api/v1/nonsense", "api_call"),
        ("POST", "/", "api_call"),
    ],
)
def test_actions_have_names(method: str, path: str, action: str) -> None:
    assert action_of(method, path) == action
