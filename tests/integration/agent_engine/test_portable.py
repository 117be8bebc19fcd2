"""Configuration documents: out, in again, elsewhere; merged whole or not at all."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import yaml
from tests.integration.agent_engine.conftest import Caller, World

from weir.agent_engine.mcp.configured import find_server
from weir_shared.db.pool import Database

YAML = {"content-type": "application/x-yaml"}


async def send(caller: Caller, document: Any, query: str = "", **headers: str) -> httpx.Response:
    content = document if isinstance(document, bytes) else yaml.safe_dump(document).encode()
    return await caller.http.post(f"/api/v1/config/import{query}", content=content, headers=YAML | headers)


async def imported(caller: Caller, document: Any, query: str = "") -> dict[str, Any]:
    answer = await send(caller, document, query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def refused(caller: Caller, document: Any) -> dict[str, Any]:
    answer = await send(caller, document)
    assert answer.status_code == 400, answer.text
    return answer.json()


async def exported(caller: Caller) -> str:
    answer = await caller.call("GET", "/config/export")
    assert answer.status_code == 200
    return answer.text


def without_time(text: str) -> str:
    return text.partition("\n")[2]


@pytest.fixture
async def elsewhere(world: World, database: Database) -> AsyncIterator[Caller]:
    """An administrator of another fresh tenant."""
    tenant_id = str(uuid.uuid4())
    async with database.any_tenant() as connection:
        await connection.execute("insert into tenants (id) values ($1)", tenant_id)
    caller = world.caller(tenant_id)
    yield caller
    await caller.http.aclose()


DOCUMENT: dict[str, Any] = {
    "models": [
        {"name": "main-chat", "type": "openai-compatible", "model_name": "medium", "api_key": "sk-canary-1"},
        {"name": "aside", "type": "ollama", "model_name": "small", "is_default": True},
        {"name": "embed", "type": "ollama", "kind": "embedding", "model_name": "nomic", "embedding_dim": 768},
    ],
    "agents": [
        {
            "name": "front-desk",
            "model": "main-chat",
            "system": 'Greet.\nDelegate: "kindly".\n',
            "lifecycle": "spawn",
            "tool_execution": "parallel",
            "max_steps": 40,
            "temperature": 0.2,
            "stop_sequences": ["END", "no", "017"],
            "tools": ["lake_query", "show_structured_output"],
            "can_spawn": ["clerk"],
            "confirm_before": ["lake_query"],
            "capabilities": [{"type": "memory", "config": {"max_entries": 50}}],
        },
        {"name": "clerk", "system_prompt": "Answer."},
    ],
    "schemas": [
        {
            "name": "help-desk",
            "description": "Customers' desk",
            "entry_agent": "front-desk",
            "chat_enabled": True,
            "relations": [{"source": "front-desk", "target": "clerk", "config": {"x": 1}}],
        }
    ],
}


SERVERS: dict[str, Any] = {
    "models": DOCUMENT["models"],
    "mcp_servers": [
        {
            "name": "desk",
            "type": "streamable-http",
            "url": "https://desk.example.com/mcp",
            "env_vars": {"DESK_KEY": "mcp-canary-1", "DESK_REGION": "eu"},
            "auth_type": "api_key",
            "auth_key_env": "DESK_KEY",
            "forward_headers": ["X-Org-Id"],
        },
        {"name": "idle", "type": "sse", "url": "https://idle.example.com/sse", "enabled": False},
    ],
    "knowledge_bases": [
        {"name": "handbook", "description": "How we work", "embedding_model": "embed"},
        {"name": "prices", "embedding_model": "embed"},
    ],
    "agents": [
        {
            "name": "front-desk",
            "mcp_servers": ["desk"],
            "knowledge_base_ids": ["handbook"],
            "capabilities": [{"type": "knowledge", "config": {"top_k": 3}}],
        }
    ],
}


async def seen(caller: Caller) -> dict[str, Any]:
    """Everything that a document may touch, with the times at which it was changed."""
    paths = ("/models", "/mcp-servers", "/knowledge-bases", "/agents/front-desk")
    return {path: await caller.ask(200, "GET", path) for path in paths}


async def environment(world: World, caller: Caller, name: str) -> dict[str, str]:
    """The values that are kept for a server."""
    studio, tenant_id = world.app.state.studio, caller.principal.tenant_id
    async with studio.database.tenant(tenant_id) as connection:
        row = await find_server(connection, tenant_id, name)
    return await studio.mcp_servers.environment(tenant_id, row)


async def test_servers_and_knowledge_bases_are_made_before_the_agents_that_name_them(
    admin: Caller, world: World
) -> None:
    answer = await imported(admin, SERVERS)
    assert (answer["mcp_servers_imported"], answer["knowledge_bases_imported"]) == (2, 2)
    desk = await admin.ask(200, "GET", "/mcp-servers/desk")
    assert (desk["type"], desk["auth_type"], desk["auth_key_env"]) == (
        "streamable-http",
        "api_key",
        "DESK_KEY",
    )
    assert (desk["forward_headers"], desk["agents"]) == (["X-Org-Id"], ["front-desk"])
    assert (await admin.ask(200, "GET", "/mcp-servers/idle"))["enabled"] is False
    assert await environment(world, admin, "desk") == {"DESK_KEY": "mcp-canary-1", "DESK_REGION": "eu"}
    base = await admin.ask(200, "GET", "/knowledge-bases/handbook")
    assert (base["description"], base["embedding_model"]) == ("How we work", "embed")
    assert base["linked_agents"] == ["front-desk"]
    agent = await admin.ask(200, "GET", "/agents/front-desk")
    assert (agent["mcp_servers"], agent["knowledge_base_ids"]) == (["desk"], ["handbook"])


async def test_an_export_of_servers_over_itself_keeps_their_values_and_touches_nothing(
    admin: Caller, world: World
) -> None:
    await imported(admin, SERVERS)
    text, before = await exported(admin), await seen(admin)
    assert "mcp-canary" not in text
    shown = yaml.safe_load(text)
    assert shown["mcp_servers"][0]["env_vars"] == {"DESK_KEY": "${DESK_KEY}", "DESK_REGION": "${DESK_REGION}"}
    answer = await imported(admin, text.encode())
    assert answer["warnings"] == []
    for name in ("mcp_servers", "knowledge_bases"):
        assert answer["changes"][name] == {"created": 0, "updated": 0, "unchanged": 2}
    assert await seen(admin) == before
    assert without_time(await exported(admin)) == without_time(text)
    assert (await environment(world, admin, "desk"))["DESK_KEY"] == "mcp-canary-1"


async def test_elsewhere_a_server_lacks_its_values_until_they_are_entered(
    admin: Caller, elsewhere: Caller, world: World
) -> None:
    await imported(admin, SERVERS)
    text = await exported(admin)
    answer = await imported(elsewhere, text.encode())
    lacking = [w.partition(":")[0] for w in answer["warnings"]]
    assert lacking == ["mcp_servers.desk.env_vars.DESK_KEY", "mcp_servers.desk.env_vars.DESK_REGION"]
    desk = await elsewhere.ask(200, "GET", "/mcp-servers/desk")
    assert (desk["auth_key_env"], desk["env_vars"]) == ("DESK_KEY", {})
    again = await imported(elsewhere, text.encode())
    assert again["changes"]["mcp_servers"]["unchanged"] == 2
    await elsewhere.ask(
        200, "PATCH", "/mcp-servers/desk", {"env_vars": {"DESK_KEY": "k", "DESK_REGION": "x"}}
    )
    assert (await imported(elsewhere, text.encode()))["warnings"] == []
    assert without_time(await exported(elsewhere)) == without_time(text)
    assert (await environment(world, elsewhere, "desk"))["DESK_KEY"] == "k"


async def test_a_value_that_is_given_is_set_and_one_that_is_not_named_is_gone(
    admin: Caller, world: World
) -> None:
    await imported(admin, SERVERS)
    changed = {"name": "desk", "env_vars": {"DESK_KEY": "${ANY_NAME}", "NEW": "value"}}
    answer = await imported(admin, {"mcp_servers": [changed]})
    assert answer["changes"]["mcp_servers"]["updated"] == 1
    assert await environment(world, admin, "desk") == {"DESK_KEY": "mcp-canary-1", "NEW": "value"}


async def test_a_knowledge_base_takes_another_model_of_the_same_document(admin: Caller) -> None:
    await imported(admin, SERVERS)
    other = {
        "name": "embed-2",
        "type": "ollama",
        "kind": "embedding",
        "model_name": "other",
        "embedding_dim": 384,
    }
    base = {"name": "handbook", "embedding_model": "embed-2"}
    answer = await imported(admin, {"models": [other], "knowledge_bases": [base]})
    assert answer["changes"]["knowledge_bases"]["updated"] == 1
    shown = await admin.ask(200, "GET", "/knowledge-bases/handbook")
    assert (shown["embedding_model"], shown["description"]) == ("embed-2", "How we work")


async def test_a_fault_of_a_server_or_a_base_undoes_the_whole_document(admin: Caller) -> None:
    await imported(admin, SERVERS)
    before, shown = without_time(await exported(admin)), await seen(admin)
    refusal = await refused(
        admin,
        {
            "models": [{"name": "new", "type": "ollama", "model_name": "x"}],
            "mcp_servers": [
                {"name": "program", "type": "stdio", "command": "sh", "args": ["-c", "true"]},
                {"name": "inside", "type": "sse", "url": "http://169.254.169.254/latest"},
                {"name": "typeless", "url": "https://x.example.com"},
                {"name": "desk", "url": "https://other.example.com/mcp", "auth_type": "forwarded"},
                {"name": "numbers", "type": "sse", "url": "https://x.example.com", "env_vars": {"A": 1}},
            ],
            "knowledge_bases": [
                {"name": "lost", "embedding_model": "no-such"},
                {"name": "chatty", "embedding_model": "main-chat"},
                {"name": "blank"},
            ],
            "agents": [{"name": "front-desk", "mcp_servers": ["program", "no-such"]}],
        },
    )
    places = {error["path"] for error in refusal["errors"]}
    assert places >= {
        "mcp_servers.program.type",
        "mcp_servers.inside.url",
        "mcp_servers.typeless.type",
        "mcp_servers.desk.auth_type",
        "mcp_servers.numbers.env_vars",
        "knowledge_bases.lost.embedding_model_id",
        "knowledge_bases.chatty.embedding_model_id",
        "knowledge_bases.blank.embedding_model_id",
        "agents.front-desk.mcp_servers.1",
    }
    assert without_time(await exported(admin)) == before
    assert await seen(admin) == shown


async def test_variables_are_filled_in_where_the_operator_names_their_prefix(
    start_world: Callable[..., Any], tenant_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENANTS_KEY", "var-canary")
    monkeypatch.setenv("TENANTS_HOST", "desk.example.com")
    monkeypatch.setenv("PLATFORM_KEY", "never")
    document = {
        "models": [
            {
                "name": "m",
                "type": "openai_compatible",
                "model_name": "x",
                "base_url": "https://${TENANTS_HOST}/v1",
                "api_key": "${PLATFORM_KEY}",
            }
        ],
        "mcp_servers": [
            {
                "name": "desk",
                "type": "sse",
                "url": "https://${TENANTS_HOST}/sse",
                "env_vars": {"A": "${TENANTS_KEY}", "B": "${PLATFORM_KEY}", "C": "${TENANTS_LACKING}"},
            }
        ],
        "agents": [{"name": "a", "system": "Say ${TENANTS_KEY}"}],
    }
    async with start_world(config_variables_prefix="TENANTS_") as world:
        admin = world.caller(tenant_id)
        answer = await imported(admin, document)
        places = [warning.partition(":")[0] for warning in answer["warnings"]]
        assert places == ["models.m.api_key", "mcp_servers.desk.env_vars.B", "mcp_servers.desk.env_vars.C"]
        model = await admin.ask(200, "GET", "/models/m")
        assert (model["base_url"], model["has_api_key"]) == ("https://desk.example.com/v1", False)
        assert (await admin.ask(200, "GET", "/mcp-servers/desk"))["url"] == "https://desk.example.com/sse"
        assert await environment(world, admin, "desk") == {"A": "var-canary"}
        assert (await admin.ask(200, "GET", "/agents/a"))["system"] == "Say ${TENANTS_KEY}"
        await admin.http.aclose()


async def test_without_a_prefix_no_variable_is_filled_in(
    admin: Caller, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH_LIKE", "never")
    server = {
        "type": "sse",
        "url": "https://x.example.com/",
        "env_vars": {"A": "${PATH_LIKE}", "B": "${PATH}"},
    }
    assert len((await imported(admin, {"mcp_servers": {"desk": server}}))["warnings"]) == 2
    assert await environment(world, admin, "desk") == {}


async def test_servers_that_are_described_within_an_agent_are_made_too(admin: Caller) -> None:
    described = {
        "type": "streamable_http",
        "url": "https://a.example.com/mcp",
        "env": {"K": "v"},
        "tools": ["x"],
    }
    answer = await imported(
        admin,
        {
            "models": DOCUMENT["models"],
            "agents": [
                {
                    "name": "front-desk",
                    "tools": {"builtin": ["lake_tables"], "mcp_servers": {"inner": described}},
                },
                {
                    "name": "clerk",
                    "tools": {"mcp_servers": {"inner": {"type": "sse"}, "outer": {"type": "sse"}}},
                },
            ],
            "mcp_servers": {"outer": {"transport": "sse", "url": "https://b.example.com/sse"}},
        },
    )
    assert answer["mcp_servers_imported"] == 2
    inner = await admin.ask(200, "GET", "/mcp-servers/inner")
    assert (inner["type"], inner["env_vars"]) == ("streamable-http", {"K": "${K}"})
    assert inner["agents"] == ["clerk", "front-desk"]
    agent = await admin.ask(200, "GET", "/agents/front-desk")
    assert (agent["tools"], agent["mcp_servers"]) == (["lake_tables"], ["inner"])
    places = [warning.partition(":")[0] for warning in answer["warnings"]]
    assert places.count("agents.front-desk.tools.mcp_servers.inner.tools") == 1


async def test_a_document_makes_everything_it_names_and_refers_to(admin: Caller) -> None:
    answer = await imported(admin, DOCUMENT)
    assert (answer["status"], answer["agents_imported"], answer["models_imported"]) == ("ok", 2, 3)
    assert answer["changes"]["schemas"] == {"created": 1, "updated": 0, "unchanged": 0}
    agent = await admin.ask(200, "GET", "/agents/front-desk")
    assert (agent["model"], agent["max_steps"], agent["can_spawn"]) == ("main-chat", 40, ["clerk"])
    assert (await admin.ask(200, "GET", "/agents/clerk"))["model"] == "aside"
    model = await admin.ask(200, "GET", "/models/main-chat")
    assert (model["type"], model["has_api_key"], model["is_default"]) == ("openai_compatible", True, False)
    schema = await admin.ask(200, "GET", "/schemas/help-desk")
    assert (schema["entry_agent_name"], schema["chat_enabled"]) == ("front-desk", True)
    [relation] = await admin.ask(200, "GET", "/schemas/help-desk/agent-relations")
    assert (relation["source"], relation["target"], relation["config"]) == ("front-desk", "clerk", {"x": 1})


async def test_an_export_over_itself_changes_nothing(admin: Caller) -> None:
    await imported(admin, DOCUMENT)
    before = await exported(admin)
    seen = {path: await admin.ask(200, "GET", path) for path in ("/agents/front-desk", "/models", "/schemas")}
    answer = await imported(admin, before.encode())
    for counts in answer["changes"].values():
        assert (counts["created"], counts["updated"]) == (0, 0)
    assert answer["warnings"] == []
    assert without_time(await exported(admin)) == without_time(before)
    for path, was in seen.items():
        assert await admin.ask(200, "GET", path) == was


async def test_an_export_makes_the_same_configuration_elsewhere(admin: Caller, elsewhere: Caller) -> None:
    await imported(admin, DOCUMENT)
    text = await exported(admin)
    await imported(elsewhere, text.encode())
    assert without_time(await exported(elsewhere)) == without_time(text)


async def test_an_export_holds_no_secret_and_is_a_file(admin: Caller) -> None:
    await imported(admin, DOCUMENT)
    answer = await admin.call("GET", "/config/export")
    assert answer.headers["content-type"].startswith("application/x-yaml")
    assert answer.headers["content-disposition"] == 'attachment; filename="weir-config.yaml"'
    assert "sk-canary" not in answer.text
    assert "api_key" not in answer.text
    as_json = await admin.call("GET", "/config/export", headers={"accept": "application/json"})
    assert as_json.json() == yaml.safe_load(answer.text)


async def test_a_key_that_is_kept_stays_unless_another_is_given(admin: Caller) -> None:
    await imported(admin, DOCUMENT)
    model = {"name": "main-chat", "type": "openai_compatible", "model_name": "medium"}
    answer = await imported(admin, {"models": [model | {"api_key": "${MAIN_KEY}"}]})
    assert answer["changes"]["models"]["unchanged"] == 1
    assert any("models.main-chat.api_key" in warning for warning in answer["warnings"])
    assert (await admin.ask(200, "GET", "/models/main-chat"))["has_api_key"] is True


async def test_sections_may_map_names_to_things(admin: Caller) -> None:
    await imported(admin, {"models": {"m": {"type": "ollama", "model_name": "x"}}, "agents": {"a": None}})
    assert (await admin.ask(200, "GET", "/agents/a"))["model"] == "m"


async def test_what_a_document_leaves_out_stays(admin: Caller) -> None:
    await imported(admin, DOCUMENT)
    await imported(admin, {"agents": [{"name": "front-desk", "max_steps": 9}]})
    agent = await admin.ask(200, "GET", "/agents/front-desk")
    assert (agent["max_steps"], agent["tools"]) == (9, ["lake_query", "show_structured_output"])
    assert len(await admin.ask(200, "GET", "/agents")) == 2


async def test_relations_that_are_given_are_the_whole_graph(admin: Caller) -> None:
    await imported(admin, DOCUMENT | {"agents": [*DOCUMENT["agents"], {"name": "third"}]})
    turned = [{"source": "front-desk", "target": "third"}]
    await imported(admin, {"schemas": [{"name": "help-desk", "relations": turned}]})
    [relation] = await admin.ask(200, "GET", "/schemas/help-desk/agent-relations")
    assert (relation["source"], relation["target"]) == ("front-desk", "third")


async def test_every_fault_is_told_with_its_place_and_nothing_is_done(admin: Caller) -> None:
    await imported(admin, DOCUMENT)
    before = without_time(await exported(admin))
    refusal = await refused(
        admin,
        {
            "models": [
                {"name": "new", "type": "ollama", "model_name": "x"},
                {"name": "bad", "type": "nobody"},
            ],
            "agents": [
                {"name": "front-desk", "max_steps": -1, "temperature": 9},
                {"name": "lost", "model": "no-such"},
                {"name": "Not A Name"},
            ],
            "schemas": [
                {
                    "name": "help-desk",
                    "relations": [
                        {"source": "front-desk", "target": "clerk"},
                        {"source": "clerk", "target": "front-desk"},
                    ],
                }
            ],
        },
    )
    places = {error["path"] for error in refusal["errors"]}
    assert places >= {
        "models.bad.model_name",
        "agents.front-desk.max_steps",
        "agents.front-desk.temperature",
        "agents.lost.model",
        "agents.Not A Name.name",
        "schemas.help-desk.target",
    }
    assert without_time(await exported(admin)) == before


async def test_an_import_may_be_tried_first(admin: Caller) -> None:
    answer = await imported(admin, DOCUMENT, "?dry_run=true")
    assert (answer["dry_run"], answer["changes"]["agents"]["created"]) == (True, 2)
    assert await admin.ask(200, "GET", "/agents") == []
    assert await admin.ask(200, "GET", "/models") == []


async def test_documents_of_other_systems_are_read_with_a_warning(admin: Caller) -> None:
    answer = await imported(
        admin,
        {
            "models": {
                "providers": [
                    {"name": "m", "provider": "openai", "model": "gpt", "base_url": "https://x.example/v1"}
                ],
                "byok": {"enabled": True},
            },
            "agents": {
                "a": {
                    "model_name": "m",
                    "tools": {"builtin": ["lake_tables"], "custom": [{"name": "t"}]},
                    "knowledge": "./docs",
                    "kit": "developer",
                    "unheard_of": 1,
                }
            },
            "byok": {"enabled": True},
            "triggers": [{"title": "x"}],
            "nonsense": 1,
        },
    )
    assert (await admin.ask(200, "GET", "/agents/a"))["tools"] == ["lake_tables"]
    assert (await admin.ask(200, "GET", "/models/m"))["model_name"] == "gpt"
    places = [warning.partition(":")[0] for warning in answer["warnings"]]
    assert {"models.byok", "agents.a.tools.custom", "agents.a.knowledge", "agents.a.kit"} <= set(places)
    assert {"agents.a.unheard_of", "byok", "triggers", "nonsense"} <= set(places)


HOSTILE: dict[str, bytes] = {
    "not closed": b"agents: [unclosed",
    "deep": b"[" * 30_000,
    "aliases": b"a: &a [1]\nagents: *a\n",
    "a tag": b"agents: !!python/object/apply:os.system ['true']\n",
    "a list": b"- a\n- b\n",
    "a text": b"hello",
    "a section that is a number": b"agents: 5\n",
    "a thing that is a text": b"agents: [hello]\n",
    "a thing without a name": b"agents: [{model: x}]\n",
    "a name twice": b"agents: [{name: a}, {name: a}]\n",
    "a name that is a number": b"agents: {1: {}}\n",
    "a NUL": b'agents: [{name: a, system: "x\\0y"}]\n',
    "half a surrogate pair": b'agents: [{name: a, system: "\\ud800"}]\n',
    "a number beyond any": b"agents: [{name: a, max_steps: 1" + b"0" * 400 + b"}]\n",
    "no number": b"agents: [{name: a, temperature: .nan}]\n",
    "a date for a name": b"agents: [{name: 2026-01-01}]\n",
    "relations of nonsense": b"schemas: [{name: s, relations: {a: 5}}]\n",
    "servers that are a text": b"mcp_servers: hello\n",
    "a server that is a list": b"mcp_servers: {a: [1]}\n",
    "a server of no address": b"mcp_servers: [{name: a, type: sse}]\n",
    "a server on the platform itself": b"mcp_servers: [{name: a, type: stdio, command: sh}]\n",
    "a server on a file": b"mcp_servers: [{name: a, type: sse, url: 'file:///etc/passwd'}]\n",
    "a server of metadata": b"mcp_servers: [{name: a, type: sse, url: 'http://169.254.169.254/'}]\n",
    "values that are a text": b"mcp_servers: [{name: a, type: sse, url: 'https://x.example', env_vars: x}]\n",
    "a value with a NUL": b'mcp_servers: [{name: a, type: sse, url: "https://x.example", env_vars: {A: "\\0"}}]\n',
    "servers within an agent that are a list": b"agents: [{name: a, tools: {mcp_servers: {b: [1]}}}]\n",
    "a base of no model": b"knowledge_bases: [{name: a}]\n",
    "a base of a list for a model": b"knowledge_bases: [{name: a, embedding_model: [1]}]\n",
    "tools that are a number": b"tools: 5\n",
    "a tool that is a list": b"tools: {a: [1]}\n",
    "a tool of nothing": b"tools: {a: }\n",
    "a tool of an empty endpoint": b"tools: {a: {endpoint: ''}}\n",
    "a tool of a list for an address": b"tools: {a: {url: [1]}}\n",
    "a tool whose parameters are numbers": b"tools: {a: {url: 'https://x.example', params: [1]}}\n",
    "a tool whose parameters are lists": b"tools: {a: {url: 'https://x.example', params: {b: [1]}}}\n",
    "a tool that says who it is with a text": b"tools: {a: {url: 'https://x.example', auth: x}}\n",
    "a tool on a file": b"tools: {a: {url: 'file:///etc/passwd'}}\n",
    "a tool with a body beyond depth": b"tools: {a: {method: PUT, url: 'https://x.example', body: "
    + b"[" * 100
    + b"]" * 100
    + b"}}\n",
    "builtin tools that are a text": b"agents: [{name: a, tools: {builtin: hello}}]\n",
    "bytes": b"\x00\x01\xff",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_document_is_the_callers_fault(admin: Caller, name: str) -> None:
    refusal = await refused(admin, HOSTILE[name])
    assert refusal["message"]
    assert await admin.ask(200, "GET", "/agents") == []


async def test_a_document_of_ten_thousand_agents_is_refused_by_its_size(admin: Caller) -> None:
    many = [{"name": f"agent-{n}", "system": "x" * 100} for n in range(10_000)]
    answer = await send(admin, {"agents": many})
    assert answer.status_code in (400, 413)


async def test_json_is_taken_too(admin: Caller) -> None:
    content = b'{"models": [{"name": "m", "type": "ollama", "model_name": "x"}]}'
    answer = await admin.http.post("/api/v1/config/import", content=content)
    assert answer.status_code == 200
    deep = b"[" * 100_000
    answer = await admin.http.post(
        "/api/v1/config/import", content=deep, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 400


async def test_an_empty_document_is_nothing_to_do(admin: Caller) -> None:
    assert (await imported(admin, b""))["agents_imported"] == 0


async def test_one_tenants_document_touches_no_other(admin: Caller, elsewhere: Caller) -> None:
    await imported(elsewhere, DOCUMENT)
    before = without_time(await exported(elsewhere))
    await imported(admin, DOCUMENT | {"agents": [{"name": "front-desk", "max_steps": 3}], "schemas": []})
    assert without_time(await exported(elsewhere)) == before


async def test_a_reload_counts_what_there_is(admin: Caller) -> None:
    await imported(admin, DOCUMENT)
    answer = await admin.ask(200, "POST", "/config/reload")
    assert (answer["status"], answer["agents_loaded"], answer["models_loaded"]) == ("ok", 2, 3)


async def test_only_who_may_configure_may(world: World, tenant_id: str) -> None:
    reader = world.caller(tenant_id, "agents:write", "models:write")
    await reader.ask(403, "GET", "/config/export")
    assert (await send(reader, DOCUMENT)).status_code == 403


async def test_imports_at_once_leave_one_of_them_whole(admin: Caller) -> None:
    def wanted(steps: int) -> dict[str, Any]:
        agents = [{"name": f"agent-{n}", "max_steps": steps} for n in range(8)]
        return {"models": DOCUMENT["models"], "agents": agents}

    answers = await asyncio.gather(*(send(admin, wanted(steps)) for steps in range(1, 7)))
    assert all(answer.status_code in (200, 400) for answer in answers), [a.text for a in answers]
    assert any(answer.status_code == 200 for answer in answers)
    steps = {(await admin.ask(200, "GET", f"/agents/agent-{n}"))["max_steps"] for n in range(8)}
    assert len(steps) == 1
