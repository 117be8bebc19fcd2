"""The fields of requests' bodies that name another thing, found in the platform's own document by name and by format."""

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.e2e.tenants import Belongings, operations

AGENT, MODEL, EMBEDDER = "/api/v1/agents/{name}", "/api/v1/models/{name}", "embedder"
SCHEMA, SESSION, TASK = "/api/v1/schemas/{name}", "/api/v1/sessions/{session_id}", "/api/v1/tasks/{task_id}"
DATASET, VIEW = "/v1/context-lake/datasets/{name}", "/v1/context-lake/views/{name}"
# Whose places (`Belongings.places`) such a field names.
KINDS = {
    "agent": AGENT,
    "agent_name": AGENT,
    "entry_agent": AGENT,
    "entry_agent_id": AGENT,
    "entry_agent_name": AGENT,
    "can_spawn": AGENT,
    "source": AGENT,
    "target": AGENT,
    "model": MODEL,
    "model_id": MODEL,
    "embedding_model_id": EMBEDDER,
    "config": EMBEDDER,
    "columns": EMBEDDER,
    "schema_id": SCHEMA,
    "schema_name": "another_schema",
    "session_id": SESSION,
    "id": "another_session",
    "parent_task_id": TASK,
    "blocked_by": TASK,
    "knowledge_base_ids": "/api/v1/knowledge-bases/{name}",
    "mcp_servers": "/api/v1/mcp-servers/{name}",
    "tools": "tool",
    "confirm_before": "tool",
    "webhook_path": "webhook_path",
    "datasets": DATASET,
    "removeDatasets": DATASET,
    "updateDatasets": DATASET,
    "query": DATASET,
    "sql": DATASET,
    "addViews": DATASET,
    "removeViews": VIEW,
    "updateViews": VIEW,
    "from": "origin",
    "addDatasets": "origin",
    "name": "name",
}
# How the field holds a name, where it is not a string or a list of strings.
SHAPES: dict[str, Any] = {
    "config": lambda name: {"embedding_model_id": name},
    "columns": lambda name: [{"name": "a", "embeddings": [{"from": name}]}],
    "query": lambda name: f"select * from {name}",
    "sql": lambda name: f"select * from {name}",
    "updateDatasets": lambda name: {name: {"description": "x"}},
    "updateViews": lambda name: {name: {"description": "x"}},
    "addViews": lambda name: [{"name": fresh(), "sql": f"select * from {name}"}],
    "addDatasets": lambda origin: [{"name": fresh(), "from": origin}],
}
# Looks like a reference and is none, or none to what a tenant owns.
NAMES_NOTHING = {
    "api_version",
    "auth_client_id",
    "auth_token_env",
    "base_url",
    "connectorId",
    "createdBy",
    "embedding_dim",
    "embeddings",
    "file",
    "function_call",
    "max_completion_tokens",
    "max_tokens",
    "model_name",
    "ref",
    "replication",
    "sql_ref",
    "tool_call_id",
    "tool_calls",
    "tool_choice",
    "tool_execution",
    "user_sub",
    "version",
}
# What a body may name only together with a question that is open: test_gates.py asks for those of others.
ASKED_ELSEWHERE = {"call_id"}
# The model's own name for what it was given, not a thing of the platform; a search's words; the schema's of a session.
OTHER_MEANING = {("CompletionRequest", "tools"), ("Search", "query"), ("NewRelation", "config")}
OTHER_MEANING |= {("RelationChange", "config"), ("WantedView", "columns")}
# Refused whatever it says: a name that stays, an address that the platform makes.
ALWAYS_REFUSED = {("WantedDataset", "name"), ("NewTrigger", "webhook_path")}
ONE_OF = (
    {"agent", "agent_name"},
    {"model", "model_id"},
    {"entry_agent", "entry_agent_id", "entry_agent_name"},
)
THINGS = (
    "agent|model|schema|session|task|trigger|knowledge|base|server|tool|dataset|view|capabilit|relation|file|token"
    "|setting|call|embedd|connector|replica|parent|source|target|spawn|block|version|tenant|user|path"
)
LOOKS = re.compile(
    rf"{THINGS}|^(?:id|ids|by|ref|from|name|query|sql)$|_(?:ids?|by|ref|from|name)$|(?:Id|By|Ref)$", re.I
)


@dataclass(frozen=True)
class Reference:
    """A field of the body of one operation."""

    method: str
    path: str
    body: str
    field: str
    is_list: bool

    def holding(self, name: str) -> Any:
        if shape := SHAPES.get(self.field):
            return shape(name)
        return [name] if self.is_list else name


def fresh() -> str:
    return f"n{uuid.uuid4().hex[:12]}"


def references(document: dict[str, Any]) -> tuple[list[Reference], list[str]]:
    """Every field that names another thing; and those that look so and are not known here."""
    found, unknown = list[Reference](), list[str]()
    schemas = document["components"]["schemas"]
    for method, path, operation in operations(document):
        sent = (
            operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        )
        body = sent.get("$ref", "").rpartition("/")[2]
        # What a list in the body holds is of the body too: a field named there is looked for as well.
        for field, told in _fields(sent, schemas, frozenset()):
            if field in ASKED_ELSEWHERE or field in NAMES_NOTHING or (body, field) in OTHER_MEANING:
                continue
            if field in KINDS and field in schemas.get(body, sent).get("properties", {}):
                found.append(Reference(method, path, body, field, "array" in _types(told)))
            elif field not in KINDS and (LOOKS.search(field) or "uuid" in str(told.get("format"))):
                unknown.append(f"{method} {path}: {field}")
    return found, unknown


def _fields(
    told: dict[str, Any], schemas: dict[str, Any], within: frozenset[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    if reference := told.get("$ref", "").rpartition("/")[2]:
        if reference not in within:
            yield from _fields(schemas[reference], schemas, within | {reference})
        return
    for part in (*told.get("oneOf", ()), *told.get("anyOf", ()), *told.get("allOf", ())):
        yield from _fields(part, schemas, within)
    if "items" in told:
        yield from _fields(told["items"], schemas, within)
    for name, field in told.get("properties", {}).items():
        yield name, field
        yield from _fields(field, schemas, within)


def _types(told: dict[str, Any]) -> set[Any]:
    return {told.get("type")} | {part.get("type") for part in told.get("oneOf", ())}


def around(reference: Reference, own: Belongings) -> dict[str, Any]:
    """A body that is right but for the field, naming only what is the caller's own."""
    name, field = own.name, reference.field
    bodies: dict[str, dict[str, Any]] = {
        "NewAgent": {"name": fresh(), "model": name},
        "NewBase": {"name": fresh(), "embedding_model_id": f"{name}-e"},
        "NewCapability": {"type": "knowledge"},
        "NewMcpServer": {"name": fresh(), "type": "streamable-http", "url": "http://127.0.0.1:9/"},
        "McpServerPut": {"type": "streamable-http", "url": "http://127.0.0.1:9/"},
        "NewModel": {"name": fresh(), "type": "ollama", "model_name": "m"},
        "NewRelation": {"source": name, "target": f"{name}-2"},
        "NewSchema": {"name": fresh(), "entry_agent_id": name},
        "NewSession": {"title": "x"},
        "NewTask": {"title": "x", "agent": name, "require_approval": True},
        "NewToken": {"name": fresh(), "scopes": ["chat"]},
        "NewTrigger": {
            "type": "dataset_refreshed" if field == "datasets" else "webhook",
            "title": "x",
            "agent": name,
        },
        "ChatRequest": {"message": "x", "stream": False},
        "CompletionRequest": {"messages": [{"role": "user", "content": "x"}]},
        "WantedDataset": {"name": fresh(), "from": "s3://bucket/b.parquet"},
        "WantedView": {"name": fresh(), "sql": "select 1 as a"},
    }
    body = bodies.get(reference.body, {})
    if field == "columns":
        body |= {"acceleration": {"enabled": True}}
    if "{name}" in reference.path and reference.path.startswith("/v1/context-lake/"):
        body.pop("name", None)
    others = next((group for group in ONE_OF if field in group), set[str]())
    return {key: value for key, value in body.items() if key not in others}


def owned_values(reference: Reference, owned: Belongings) -> list[str]:
    """The names and ids of what the tenant has and the field could name."""
    kind = KINDS[reference.field]
    if kind == "name":
        places = owned.places.get(
            reference.path, owned.places.get(f"{reference.path}/{{name}}", [owned.name])
        )
        return places[:1]
    return owned.places[kind]


def own_value(reference: Reference, own: Belongings) -> str:
    """What the caller may write into the field, so that only what it names makes the difference."""
    kind, makes = KINDS[reference.field], reference.method == "post"
    if kind == AGENT:
        return own.name if reference.field == "source" else f"{own.name}-{3 if makes else 2}"
    if makes and reference.field in ("name", "schema_name"):
        return fresh()
    if kind == TASK:
        return own.places["another_task"][0]
    if reference.field.startswith("remove"):
        return own.places["removed" + reference.field.removeprefix("remove")][0]
    return owned_values(reference, own)[0]


def changes_most(reference: Reference) -> int:
    """What takes away is asked for late, and last what makes the caller's own under another's name."""
    if reference.field.startswith("remove"):
        return 1
    return 2 * (reference.field in ("name", "schema_name", "id", "session_id"))


def of_nobody(value: str, owned: Belongings) -> str:
    """The same kind of name or id, and nobody has it."""
    if owned.mark in value:
        return value.replace(owned.mark, f"mark{uuid.uuid4().hex[:12]}")
    if value.startswith("import:"):
        return f"import:{uuid.uuid4().hex}.csv"
    if value.isdigit():
        return "987654321"
    try:
        uuid.UUID(value)
    except ValueError:
        return value[:-8] + uuid.uuid4().hex[:8]
    return str(uuid.uuid4())
