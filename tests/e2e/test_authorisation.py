"""Who may do what: every route of the platform's own document, with every scope, on one's own and on another's things."""

import json
import re
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from tests.e2e.tenants import Belongings, operations, session_of
from tests.promises import Promise
from tests.starting import StartedPlatform, started

from weir_shared.auth.scopes import ALL_SCOPES

SCOPES = ["", *sorted(ALL_SCOPES)]
# Refuses by its handler, which wants a session and no scope.
REFRESH = "/api/v1/auth/local-session/refresh"
# A tenant's own catalogue of what everybody may have: no tenant's things.
COMMON = (
    "/api/v1/schema-templates/",
    "/api/v1/webhooks/",
    "/api/hooks/cl/",
    "/v1/context-lake/config/versions/",
)
# Makes a setting of the caller's own under whatever name.
WRITES_ITS_OWN = {("put", "/api/v1/settings/{key}")}
# What makes sense to the route if the thing were the caller's; the others want no body.
BODIES: dict[str, Any] = {
    "Response": {"call_id": "x", "answers": []},
    "TaskInput": {"input": "x"},
    "TaskPriority": {"priority": 1},
    "TaskFailure": {"reason": "x"},
    "Search": {"query": "x"},
    "ChatRequest": {"message": "x"},
    "NewCapability": {"type": "memory"},
    "NewRelation": {"source": "x", "target": "y"},
    "McpServerPut": {"type": "streamable-http", "url": "http://127.0.0.1:9/"},
    "WantedDataset": {"from": "s3://bucket/a.parquet"},
    "WantedView": {"sql": "select 1"},
}
# What the platform itself finds out about a file or a dataset meanwhile.
MOVING = re.compile(r'"(?:status|status_message|updated_at|error)": ?(?:"[^"]*"|null)')


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedPlatform]:
    with started(tmp_path_factory.mktemp("authorisation")) as running:
        yield running


def body_of(operation: dict[str, Any]) -> dict[str, Any]:
    content = operation.get("requestBody", {}).get("content", {})
    reference = content.get("application/json", {}).get("schema", {}).get("$ref", "")
    return BODIES.get(reference.rpartition("/")[2], {})


def request(client: httpx.Client, method: str, path: str, operation: dict[str, Any]) -> httpx.Response:
    if method == "post" and path.endswith("/files"):
        return client.post(path, files={"file": ("x.md", b"text")})
    return client.request(method, path, json=None if method == "get" else body_of(operation))


def tell(
    client: httpx.Client, method: str, path: str, operation: dict[str, Any], *, harmless: bool
) -> httpx.Response:
    """Asks; where that would make, start or stop something for real, with a body that is no JSON."""
    if harmless or method == "get":
        return request(client, method, path, operation)
    return client.request(method, path, content=b"[", headers={"Content-Type": "application/json"})


def seen_by(admin: httpx.Client, owned: Belongings, document: dict[str, Any]) -> dict[str, str]:
    """What an admin reads of its own things."""
    seen = dict[str, str]()
    for method, template, _ in operations(document):
        if (
            method == "get"
            and "{" in template
            and not template.startswith(COMMON)
            and not template.endswith("/events")
        ):
            for path in owned.paths(template):
                answer = admin.get(path)
                assert answer.status_code == 200, f"{path}: {answer.text}"
                seen[path] = MOVING.sub("", json.dumps(answer.json()))
    return seen


@pytest.mark.promise("P10")
def test_every_route_opens_to_its_scope_and_no_tenant_reaches_anothers_things(
    platform: StartedPlatform, promise: Promise
) -> None:
    document = httpx.get(f"{platform.url}/schema/openapi.json", timeout=30).json()
    guarded = [
        (method, path, operation)
        for method, path, operation in operations(document)
        if operation["security"] and path != REFRESH
    ]
    owner_id, stranger_id = str(uuid.uuid4()), str(uuid.uuid4())
    admin = platform.client(**session_of(platform, owner_id))
    owned = Belongings(admin)
    before = seen_by(admin, owned, document)
    assert len(before) > 25
    faults, cells, foreign = list[str](), Counter[str](), Counter[str]()

    def ask(client: httpx.Client, tenant: str, scope: str) -> None:
        for method, path, operation in guarded:
            wanted = operation["security"][0]["bearer"]
            may = not wanted or scope in (*wanted, "admin")
            theirs = "{" in path and not path.startswith(COMMON)
            # Its own things too: who lacks the scope is refused before anything is looked for.
            if theirs and (tenant == "stranger" or not may):
                places = owned.paths(path)[: None if may else 1]
            else:
                places = [re.sub(r"\{\w+\}", "1", path)]
            assert places, f"nothing stands for the places of {path}"
            for place in places:
                answer = tell(client, method, place, operation, harmless=not may or theirs)
                cells[tenant] += 1
                foreign[tenant] += may and theirs
                fault = (answer.status_code == 403) == may or answer.status_code in (401, 429)
                fault |= answer.status_code >= 500
                if tenant == "stranger" and may and (method, path) not in WRITES_ITS_OWN:
                    fault |= theirs and answer.status_code != 404
                    fault |= owned.content in answer.text
                    # A refusal repeats the name that it was asked for, and so does the stranger's own audit.
                    names = answer.status_code < 400 and path != "/api/v1/audit"
                    fault |= names and owned.mark in answer.text
                if fault:
                    told = f"{answer.status_code} {answer.text[:200]}"
                    faults.append(f"{tenant}, {scope or 'no scope'}: {method} {place}: {told}")

    clients = [
        (platform.client(**session_of(platform, tenant_id, scope)), tenant, scope)
        for tenant, tenant_id in (("owner", owner_id), ("stranger", stranger_id))
        for scope in SCOPES
    ]
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(ask, *one) for one in clients]:
            done.result()
    assert faults == []
    assert seen_by(admin, owned, document) == before
    routes = len(guarded)
    assert routes > 110
    assert foreign["stranger"] > 200
    promise.held(
        f"{routes} routes x 2 tenants x {len(SCOPES)} scopes (none included): {cells.total()} cells, "
        f"{foreign['stranger']} of them a stranger with the scope at another's thing (404), 0 leaks, "
        f"{len(before)} readings of the owner unchanged"
    )
