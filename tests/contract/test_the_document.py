"""`/schema/openapi.json` of a started platform: valid, and true of every route."""

import re

import httpx
import pytest
from openapi_spec_validator import validate
from tests.starting import StartedPlatform

METHODS = ("get", "post", "put", "patch", "delete")
PUBLIC = {
    "/api/hooks/cl/{token}",
    "/api/v1/auth/local-session",
    "/api/v1/health",
    "/api/v1/live",
    "/api/v1/models/registry",
    "/api/v1/models/registry/providers",
    "/api/v1/ready",
    # Whoever knows the secret of the path may.
    "/api/v1/webhooks/{path}",
    "/live",
    "/ready",
}
# Refuses by its handler, which wants a session and no scope.
REFRESH = "/api/v1/auth/local-session/refresh"


@pytest.fixture(scope="module")
def document(platform: StartedPlatform) -> dict:
    told = httpx.get(f"{platform.url}/schema/openapi.json", timeout=30)
    assert told.status_code == 200
    return told.json()


def operations(document: dict) -> list[tuple[str, str, dict]]:
    return [
        (method, path, item[method])
        for path, item in document["paths"].items()
        for method in METHODS
        if method in item
    ]


def concrete(path: str) -> str:
    """The path with something that nobody has in each place."""
    return re.sub(r"\{\w+\}", "1", path)


def test_the_document_is_valid_and_every_operation_says_what_it_does(document: dict) -> None:
    validate(document)
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names)) > 40
    silent = [path for _, path, operation in operations(document) if not operation.get("description")]
    assert [path for path in silent if not path.startswith("/v1/context-lake/")] == []


def test_credentials_are_asked_for_as_the_document_says(platform: StartedPlatform, document: dict) -> None:
    for method, path, operation in operations(document):
        answered = httpx.request(method, platform.url + concrete(path), timeout=30)
        guarded = answered.status_code == 401
        assert bool(operation["security"]) == guarded, (method, path)
        assert ("401" in operation["responses"]) == guarded, (method, path)
        assert guarded == (path not in PUBLIC), (method, path)


def test_the_scope_that_a_route_wants_is_the_one_it_refuses_without(
    platform: StartedPlatform, admin: httpx.Client, document: dict
) -> None:
    # Each has one scope, so that for every route there is one that has another.
    tokens = {
        scope: admin.post("/api/v1/auth/tokens", json={"name": f"only-{scope}", "scopes": [scope]}).json()
        for scope in ("tasks", "chat")
    }
    with (
        platform.client(API_KEY=tokens["tasks"]["token"]) as with_tasks,
        platform.client(API_KEY=tokens["chat"]["token"]) as with_chat,
    ):
        for method, path, operation in operations(document):
            if not operation["security"] or path == REFRESH:
                continue
            client = with_chat if operation["security"][0]["bearer"] == ["tasks"] else with_tasks
            refused = client.request(method, concrete(path), json={})
            if not operation["security"][0]["bearer"]:
                # Any caller may, whatever its scopes.
                assert refused.status_code in (200, 404), (method, path)
                continue
            [scope] = operation["security"][0]["bearer"]
            assert refused.status_code == 403, (method, path)
            assert f"'{scope}' scope" in refused.text, (method, path)
    for token in tokens.values():
        assert admin.delete(f"/api/v1/auth/tokens/{token['id']}").status_code == 204


def test_refusals_look_as_documented(admin: httpx.Client, document: dict) -> None:
    for path, name in (("/api/v1/agents", "EngineError"), ("/v1/context-lake/datasets", "LakeError")):
        documented = document["paths"][path]["post"]["responses"]["400"]
        reference = documented["content"]["application/json"]["schema"]["$ref"]
        assert reference == f"#/components/schemas/{name}"
        schema = document["components"]["schemas"][name]
        body = admin.post(path, json={"name": 1}).json()
        assert set(schema["required"]) <= set(body) <= set(schema["properties"])
        assert set(schema["properties"]["errors"]["items"]["properties"]) == set(body["errors"][0])


def test_a_chat_is_documented_as_the_stream_it_is(document: dict) -> None:
    answer = document["paths"]["/api/v1/schemas/{name}/chat"]["post"]["responses"]["200"]
    assert set(answer["content"]) == {"text/event-stream", "application/json"}
    assert "ChatAnswer" in document["components"]["schemas"]
