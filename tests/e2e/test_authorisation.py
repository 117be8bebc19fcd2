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
from tests.e2e.references import (
    AGENT,
    ALWAYS_REFUSED,
    EMBEDDER,
    KINDS,
    MODEL,
    Reference,
    around,
    changes_most,
    fresh,
    of_nobody,
    own_value,
    owned_values,
    references,
)
from tests.e2e.tenants import LAKE, NOWHERE, Belongings, operations, session_of
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
TEMPLATE = "generic-hello-world"
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


class Namer:
    """A tenant with every scope, which names in its bodies what is its own, nobody's or another's."""

    def __init__(self, caller: httpx.Client) -> None:
        self.caller, self.own = caller, Belongings(caller)
        give_more(self.own)

    def ask(self, reference: Reference, value: str) -> httpx.Response:
        body = around(reference, self.own) | {reference.field: reference.holding(value)}
        path = (self.own.paths(reference.path) or [reference.path.replace("{name}", TEMPLATE)])[-1]
        if reference.field == "datasets" and "{trigger_id}" in reference.path:
            path = reference.path.replace("{trigger_id}", self.own.places["dataset_trigger"][0])
        answer = self.caller.request(reference.method, path, json=body)
        if reference.field == "name" and path.startswith("/api/v1/") and reference.method != "post":
            # A knowledge base or an MCP server took the name; those after it look for the old one.
            back = {"name": self.own.name} | ({"type": "sse", "url": NOWHERE} if "mcp" in path else {})
            self.caller.put(path, json=back)
        return answer

    def bring(self, document: dict[str, Any], name: str) -> httpx.Response:
        content = json.dumps(document).replace('"it"', json.dumps(name))
        headers = {"Content-Type": "application/json"}
        return self.caller.post("/api/v1/config/import", content=content, headers=headers)


def give_more(owned: Belongings) -> None:
    """What only this proof names."""
    name, admin = owned.name, owned.admin
    document = {"tools": {f"{name}-tool": {"type": "http", "url": NOWHERE}}}
    assert admin.post("/api/v1/config/import", json=document).status_code == 200
    owned.made("/api/v1/agents", {"name": f"{name}-3", "model": name})
    trigger = {"type": "dataset_refreshed", "title": owned.content, "agent": name}
    task = {"title": owned.content, "agent": name, "require_approval": True}
    owned.made(f"{LAKE}/datasets", {"name": f"{owned.mark}_t", "from": "s3://bucket/t.parquet"})
    owned.made(f"{LAKE}/views", {"name": f"{owned.mark}_w", "sql": "select 1 as a"})
    [hook] = admin.get("/api/v1/triggers").json()
    owned.places |= {
        "capability_id": [owned.made(f"/api/v1/agents/{name}/capabilities", {"type": "knowledge"})["id"]],
        "another_schema": [owned.made("/api/v1/schemas", {"name": f"{name}-2"})["name"]],
        "removedDatasets": [f"{owned.mark}_t"],
        "removedViews": [f"{owned.mark}_w"],
        "another_session": [owned.made("/api/v1/sessions", {"title": owned.content})["id"]],
        "another_task": [owned.made("/api/v1/tasks", task)["id"]],
        "dataset_trigger": [owned.made("/api/v1/triggers", trigger)["id"]],
        "tool": [f"{name}-tool"],
        "webhook_path": [hook["webhook_path"]],
        "origin": [admin.get(f"{LAKE}/datasets/{owned.mark}").json()["from"]],
    }


def with_field(document: dict[str, Any], body: str, field: str) -> dict[str, Any]:
    """A later document, in which a body has one field more."""
    later = json.loads(json.dumps(document))
    later["components"]["schemas"][body]["properties"][field] = {"type": "string"}
    return later


def documents(own: Belongings) -> Iterator[tuple[str, dict[str, Any]]]:
    """Configurations of the caller's that name a thing each: how it is named, and the document."""
    for field, kind in (
        ("model", MODEL),
        ("can_spawn", AGENT),
        ("mcp_servers", KINDS["mcp_servers"]),
        ("knowledge_base_ids", KINDS["knowledge_base_ids"]),
        ("tools", "tool"),
    ):
        agent = {"name": f"{own.name}-3", field: "it" if field == "model" else ["it"]}
        yield kind, {"agents": [agent]}
    yield EMBEDDER, {"knowledge_bases": [{"name": fresh(), "embedding_model_id": "it"}]}
    yield AGENT, {"schemas": [{"name": fresh(), "entry_agent": "it"}]}
    yield AGENT, {"schemas": [{"name": own.name, "relations": [{"source": own.name, "target": "it"}]}]}


def told(answer: httpx.Response, value: str) -> str:
    """A refusal without what differs each time: what was asked for, the request's own id and names, and hints."""
    text = re.sub(r'"requestId": ?"[^"]*"', "", answer.text)
    text = re.sub(r'; (?:did you mean|the tools are) [^"]*|\bn[0-9a-f]{12}\b', "", text)
    # A whole word: the id of a model is a number of one digit.
    return re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "it", text)


@pytest.mark.promise("P10")
def test_what_a_body_names_of_another_tenant_is_answered_as_what_does_not_exist(
    platform: StartedPlatform, promise: Promise
) -> None:
    document = httpx.get(f"{platform.url}/schema/openapi.json", timeout=30).json()
    fields, unknown = references(document)
    assert unknown == [], "does it name another thing? tests/e2e/references.py has to know"
    assert references(with_field(document, "NewTask", "reviewer_id"))[1] == [
        "post /api/v1/tasks: reviewer_id"
    ]
    admin, caller = (platform.client(**session_of(platform, str(uuid.uuid4()))) for _ in range(2))
    owned, namer = Belongings(admin), Namer(caller)
    give_more(owned)
    before = seen_by(admin, owned, document)
    faults, outcomes = list[str](), Counter[str]()
    for kind, configuration in documents(namer.own):
        for value in owned.places[kind]:
            nothing = of_nobody(value, owned)
            theirs, nobodys = (namer.bring(configuration, name) for name in (value, nothing))
            outcomes["refused" if theirs.is_error else "made"] += 1
            if theirs.status_code != nobodys.status_code or told(theirs, value) != told(nobodys, nothing):
                faults.append(
                    f"imported {kind} {value}: {theirs.text[:200]}, and of nobody's: {nobodys.text[:200]}"
                )
    for reference in sorted(fields, key=changes_most):
        for value in owned_values(reference, owned):
            nothing = of_nobody(value, owned)
            theirs, nobodys = namer.ask(reference, value), namer.ask(reference, nothing)
            outcomes["refused" if theirs.is_error else "made"] += 1
            fault = theirs.status_code != nobodys.status_code or theirs.status_code >= 500
            fault |= theirs.is_error and told(theirs, value) != told(nobodys, nothing)
            fault |= theirs.is_error and owned.mark in theirs.text.replace(value, "")
            if fault or owned.content in theirs.text:
                faults.append(
                    f"{reference} {value}: {theirs.text[:200]}, and of nobody's: {nobodys.text[:200]}"
                )
        # Its own is taken in the same place: what differs is whose it is.
        mine = namer.ask(reference, own_value(reference, namer.own))
        allowed = mine.is_success or mine.status_code != theirs.status_code
        if not allowed and (reference.body, reference.field) not in ALWAYS_REFUSED:
            faults.append(f"{reference}, its own: {mine.status_code} {mine.text[:200]}")
    assert not faults, "\n".join(faults)
    assert seen_by(admin, owned, document) == before
    for path in ("/api/v1/agents", "/api/v1/schemas", "/api/v1/tasks", "/api/v1/sessions", f"{LAKE}/config"):
        assert owned.content not in caller.get(path).text
    assert len(fields) > 80
    promise.held(
        f"{len(fields)} fields of bodies that name another thing, {outcomes.total()} times another tenant's:"
        f" {outcomes['refused']} refused as what nobody has, {outcomes['made']} made the caller's own,"
        f" 0 leaks, {len(before)} readings of the owner unchanged"
    )
