"""The audit trail: every change is in it before it is made, with its outcome before the caller knows it."""

import asyncio
import json
import uuid
from typing import Any

import httpx
import pytest
from tests.integration.gateway.conftest import Door
from tests.integration.gateway.test_credentials import signed

from weir.gateway.audit import action_of
from weir.gateway.tables import audit_log
from weir_shared.db.pool import Database, DatabaseUnavailable

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
