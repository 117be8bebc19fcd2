"""The two API references' own examples, held against a started platform: shapes, statuses, sentences."""

import re
import uuid
from pathlib import Path

import httpx
import pytest
from tests.starting import StartedPlatform

LAKE = "/v1/context-lake"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
VM_STATES = {"running", "paused", "provisioning", "error", "not_provisioned"}


@pytest.fixture
def anonymous(platform: StartedPlatform) -> httpx.Client:
    return httpx.Client(base_url=platform.url, timeout=60)


def fresh(stem: str) -> str:
    return f"{stem}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def model(admin: httpx.Client):
    """The model of the reference, under a fresh name."""
    body = {
        "type": "ollama",
        "model_name": "llama3.2",
        "base_url": "http://localhost:11434",
        "api_key": "ollama",
    }
    made = admin.post("/api/v1/models", json={"name": fresh("my-model"), **body})
    assert made.status_code == 201, made.text
    yield made.json()
    assert admin.delete(f"/api/v1/models/{made.json()['name']}").status_code == 204


def test_a_local_session_has_a_token_and_its_end(anonymous: httpx.Client) -> None:
    session = anonymous.post("/api/v1/auth/local-session")
    assert session.status_code == 200
    assert session.json()["access_token"].startswith("eyJ")
    assert TIME.fullmatch(session.json()["expires_at"])


def test_the_two_error_bodies_of_the_engine(admin: httpx.Client, anonymous: httpx.Client) -> None:
    refused = anonymous.get("/api/v1/agents", headers={"Authorization": "Bearer bb_" + "0" * 64})
    assert refused.status_code == 401
    assert refused.json() == {"error": "unauthorized", "message": "Invalid or expired API token"}
    token = admin.post("/api/v1/auth/tokens", json={"name": fresh("t"), "scopes": ["chat"]}).json()["token"]
    forbidden = anonymous.get("/api/v1/agents", headers={"Authorization": f"Bearer {token}"})
    assert forbidden.status_code == 403
    assert forbidden.json() == {"error": "forbidden", "message": "Token does not have 'agents:read' scope"}


def test_health_has_the_four_fields(anonymous: httpx.Client) -> None:
    health = anonymous.get("/api/v1/health").json()
    assert health["status"] == "ok"
    assert re.fullmatch(r"\d+\.\d+\.\d+", health["version"])
    assert isinstance(health["agents_count"], int)
    assert re.fullmatch(r"(\d+h)?(\d+m)?\d+s", health["uptime"])


def test_a_model_has_the_fields_of_the_list(admin: httpx.Client, model: dict) -> None:
    [listed] = [item for item in admin.get("/api/v1/models").json() if item["name"] == model["name"]]
    shown = {key: listed[key] for key in ("type", "base_url", "model_name", "has_api_key")}
    assert shown == {
        "type": "ollama",
        "base_url": "http://localhost:11434",
        "model_name": "llama3.2",
        "has_api_key": True,
    }
    assert isinstance(listed["id"], int)
    assert TIME.fullmatch(listed["created_at"])


def test_a_models_key_is_replaced_only_by_a_key(admin: httpx.Client, model: dict) -> None:
    path = f"/api/v1/models/{model['name']}"
    changed = admin.put(path, json={"api_key": "new-key", "model_name": "qwen3:70b"})
    assert (changed.status_code, changed.json()["model_name"]) == (200, "qwen3:70b")
    kept = admin.put(path, json={"api_key": ""}).json()
    assert (kept["has_api_key"], kept["model_name"]) == (True, "qwen3:70b")
    assert "new-key" not in changed.text


def test_an_agent_is_made_read_changed_and_deleted(admin: httpx.Client, model: dict) -> None:
    name = fresh("my-agent")
    body = {
        "name": name,
        "system": "You are a helpful assistant.",
        "model": model["name"],
        "tools": ["knowledge_search"],
        "can_spawn": ["researcher"],
        "lifecycle": "persistent",
        "max_steps": 50,
    }
    assert admin.post("/api/v1/agents", json=body).status_code == 201
    detail = admin.get(f"/api/v1/agents/{name}").json()
    documented = {
        "name": name,
        "model": model["name"],
        "lifecycle": "persistent",
        "tools": ["knowledge_search"],
        "mcp_servers": [],
        "can_spawn": ["researcher"],
        "max_steps": 50,
        "max_context_size": 16000,
    }
    assert {key: detail[key] for key in documented} == documented
    [summary] = [item for item in admin.get("/api/v1/agents").json() if item["name"] == name]
    assert summary.keys() >= {"name", "model", "lifecycle", "tools_count", "has_knowledge"}
    changed = admin.put(f"/api/v1/agents/{name}", json={"system": "Updated prompt.", "max_steps": 100})
    assert (changed.status_code, changed.json()["max_steps"]) == (200, 100)
    assert changed.json()["can_spawn"] == ["researcher"]
    gone = admin.delete(f"/api/v1/agents/{name}")
    assert (gone.status_code, gone.content) == (204, b"")


def test_sessions_are_listed_in_their_envelope(admin: httpx.Client) -> None:
    listing = admin.get("/api/v1/sessions", params={"agent": "lake-analyst", "limit": 10}).json()
    assert listing.keys() >= {"sessions", "total", "limit", "offset"}


def test_the_lakes_validation_error_is_the_documented_one(admin: httpx.Client) -> None:
    params = {"s3_auth": "key", "s3_secret": "…", "s3_region": "us-east-1", "file_format": "parquet"}
    body = {
        "from": "s3://bucket/path/data.parquet",
        "name": fresh("sales").replace("-", "_"),
        "params": params,
    }
    refused = admin.post(f"{LAKE}/datasets", json=body)
    assert refused.status_code == 400
    assert refused.json()["error"] == "Validation failed"
    [fault] = refused.json()["errors"]
    assert (fault["path"], fault["message"]) == ("s3_key", "s3_key is required when auth mode is key")


def test_a_query_answers_rows_as_objects(admin: httpx.Client) -> None:
    answered = admin.post(f"{LAKE}/sql", json={"query": "SELECT 1 AS id, 'Alice' AS name, 100.5 AS amount"})
    assert answered.status_code == 200
    assert answered.json()["rows"] == [{"id": 1, "name": "Alice", "amount": 100.5}]


def test_status_has_the_documented_fields(admin: httpx.Client) -> None:
    status = admin.get(f"{LAKE}/status").json()
    assert status["vmStatus"] in VM_STATES
    assert status["datasets"]["flights"].keys() >= {"ok", "status", "connectorId", "notifications"}
    assert status["datasets"]["flights"]["connectorId"] == "file"


def test_datasets_are_listed_and_deleted_with_ok(platform: StartedPlatform, admin: httpx.Client) -> None:
    name = fresh("one").replace("-", "_")
    folder = platform.data_dir / "imports"
    (folder / f"{name}.csv").write_text("a,b\n1,2\n")
    body = {"name": name, "from": f"file:{Path(folder, name)}.csv"}
    made = admin.post(f"{LAKE}/datasets", json=body)
    assert (made.status_code, made.json()["ok"]) == (201, True)
    assert name in {item["name"] for item in admin.get(f"{LAKE}/datasets").json()["datasets"]}
    gone = admin.delete(f"{LAKE}/datasets/{name}")
    assert (gone.status_code, gone.json()["ok"]) == (200, True)
    assert admin.delete(f"{LAKE}/datasets/{name}").status_code == 404


def test_both_addresses_of_the_lake_answer(admin: httpx.Client) -> None:
    assert admin.get("/v1/context-lake/status").status_code == 200
    assert admin.get("/api/v1/context-lake/status").status_code == 200
