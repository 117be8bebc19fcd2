"""Templates: honest definitions, found by category and text, copied whole or not at all."""

import uuid

import msgspec
import pytest
from tests.fakes.model_server import say
from tests.integration.agent_engine.conftest import Caller, World

from weir.agent_engine.capabilities import TYPES
from weir.agent_engine.templates import every_template
from weir.agent_engine.tools.names import KNOWN
from weir.agent_engine.wire.templates import Template


@pytest.mark.parametrize("template", every_template(), ids=lambda template: template.name)
def test_a_template_refers_only_to_what_there_is(template: Template) -> None:
    agents = {agent.name for agent in template.definition.agents}
    assert template.definition.entry_agent_name in agents
    assert len(agents) == len(template.definition.agents)
    for relation in template.definition.relations:
        assert {relation.source, relation.target} <= agents
        assert relation.source != relation.target
    for agent in template.definition.agents:
        assert set(agent.tools) <= KNOWN
        assert len(agent.system_prompt) > 50
        for capability in agent.capabilities:
            msgspec.convert(capability.config, TYPES[capability.type])


async def test_templates_are_found_by_category_and_text(admin: Caller) -> None:
    listing = await admin.ask(200, "GET", "/schema-templates")
    titles = [template["display"] for template in listing["templates"]]
    assert titles == sorted(titles, key=str.lower)
    assert {template["category"] for template in listing["templates"]} == {
        "support",
        "sales",
        "internal",
        "generic",
    }
    chosen = await admin.ask(200, "GET", "/schema-templates?category=internal&q=SQL")
    assert [template["name"] for template in chosen["templates"]] == ["lake-analyst"]
    assert (await admin.ask(200, "GET", "/schema-templates?q=nothing-like-it"))["templates"] == []
    refusal = await admin.ask(400, "GET", "/schema-templates?category=other")
    assert refusal["errors"][0]["path"] == "category"
    one = listing["templates"][0]
    assert await admin.ask(200, "GET", f"/schema-templates/{one['name']}") == one
    await admin.ask(404, "GET", "/schema-templates/nothing")


@pytest.mark.parametrize("template", every_template(), ids=lambda template: template.name)
async def test_a_fork_is_a_schema_to_chat_with(world: World, admin: Caller, template: Template) -> None:
    default = await world.assistant(admin, say("hello from the fork"))
    name = f"f-{uuid.uuid4().hex[:8]}"
    made = await admin.ask(201, "POST", f"/schema-templates/{template.name}/fork", {"schema_name": name})
    assert made["schema_name"] == name
    assert made["agent_ids"].keys() == {agent.name for agent in template.definition.agents}
    schema = await admin.ask(200, "GET", f"/schemas/{made['schema_id']}")
    assert schema["chat_enabled"] is True
    assert schema["agents"] == sorted(f"{name}-{agent.name}" for agent in template.definition.agents)
    for agent in template.definition.agents:
        read = await admin.ask(200, "GET", f"/agents/{made['agent_ids'][agent.name]}")
        assert (read["name"], read["model"]) == (f"{name}-{agent.name}", default.model)
        assert (read["system"], read["tools"]) == (agent.system_prompt, agent.tools)
        capabilities = await admin.ask(200, "GET", f"/agents/{read['id']}/capabilities")
        assert [item["type"] for item in capabilities] == [item.type for item in agent.capabilities]
    relations = await admin.ask(200, "GET", f"/schemas/{name}/agent-relations")
    assert len(relations) == len(template.definition.relations)
    assert (await admin.chat(name)).text == "hello from the fork"


async def test_a_fork_that_cannot_be_leaves_nothing(world: World, admin: Caller) -> None:
    path = "/schema-templates/customer-support-basic/fork"
    refusal = await admin.ask(400, "POST", path, {"schema_name": "desk"})
    assert "default" in refusal["message"]
    await world.assistant(admin, say("hi"))
    for name in ("Not A Name", "chat", "x" * 95, ""):
        refusal = await admin.ask(400, "POST", path, {"schema_name": name})
        assert {error["path"] for error in refusal["errors"]} == {"schema_name"}
    await admin.ask(400, "POST", path, {})
    await admin.ask(404, "POST", "/schema-templates/nothing/fork", {"schema_name": "desk"})
    # The second agent's name is taken: the first one is not kept either.
    await admin.ask(201, "POST", "/agents", {"name": "desk-resolver"})
    assert (await admin.ask(409, "POST", path, {"schema_name": "desk"}))["error"] == "conflict"
    assert "desk-triage" not in {agent["name"] for agent in await admin.ask(200, "GET", "/agents")}
    await admin.ask(201, "POST", path, {"schema_name": "front"})
    assert (await admin.ask(409, "POST", path, {"schema_name": "front"}))["error"] == "conflict"
