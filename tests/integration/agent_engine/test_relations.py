"""Who hands work to whom within a schema: named or by id, never in a circle, and whose agents a schema has."""

import asyncio
import uuid

import pytest
from tests.fakes.model_server import say
from tests.integration.agent_engine.conftest import Caller, World


async def team(admin: Caller, size: int = 3) -> tuple[str, list[dict]]:
    """The path of a new schema without an entry agent, and agents."""
    name = f"s-{uuid.uuid4().hex[:8]}"
    model = {"name": f"m-{uuid.uuid4().hex[:8]}", "type": "ollama", "model_name": "x"}
    await admin.ask(201, "POST", "/models", model)
    agents = [
        await admin.ask(201, "POST", "/agents", {"name": f"a{number}-{uuid.uuid4().hex[:8]}"})
        for number in range(size)
    ]
    await admin.ask(201, "POST", "/schemas", {"name": name})
    return f"/schemas/{name}", agents


async def relate(admin: Caller, path: str, source: str, target: str, status: int = 201) -> dict:
    return await admin.ask(status, "POST", f"{path}/agent-relations", {"source": source, "target": target})


async def test_a_relation_is_made_read_changed_and_deleted(admin: Caller) -> None:
    path, [one, two, three] = await team(admin)
    body = {"source": one["id"], "target": two["name"], "config": {"x": 1}}
    made = await admin.ask(201, "POST", f"{path}/agent-relations", body)
    assert (made["source"], made["target"], made["config"]) == (one["name"], two["name"], {"x": 1})
    schema = await admin.ask(200, "GET", path)
    assert made["schema_id"] == schema["id"]
    one_path = f"/schemas/{schema['id']}/agent-relations/{made['id']}"
    assert await admin.ask(200, "GET", one_path) == made
    changed = await admin.ask(200, "PUT", one_path, {"target": three["id"]})
    assert changed == made | {"target": three["name"], "updated_at": changed["updated_at"]}
    assert (await admin.ask(200, "PATCH", one_path, {"config": None}))["config"] == {}
    [listed] = await admin.ask(200, "GET", f"{path}/agent-relations")
    assert (listed["source"], listed["target"]) == (one["name"], three["name"])
    await admin.ask(204, "DELETE", one_path)
    for method in ("GET", "PUT", "DELETE"):
        await admin.ask(404, method, one_path, {})
    assert await admin.ask(200, "GET", f"{path}/agent-relations") == []


async def test_the_first_source_begins_the_schema_and_both_ends_are_its_agents(admin: Caller) -> None:
    path, [one, two, three] = await team(admin)
    await relate(admin, path, one["name"], two["name"])
    await relate(admin, path, two["name"], three["name"])
    schema = await admin.ask(200, "GET", path)
    names = [one["name"], two["name"], three["name"]]
    assert (schema["entry_agent_name"], schema["agents"], schema["agents_count"]) == (one["name"], names, 3)
    assert await admin.ask(200, "GET", f"{path}/agents") == names
    for agent in names:
        read = await admin.ask(200, "GET", f"/agents/{agent}")
        assert read["used_in_schemas"] == [schema["name"]]


async def test_the_entry_agent_is_one_of_the_schemas_agents(admin: Caller) -> None:
    path, [one, two, outsider] = await team(admin)
    await relate(admin, path, one["name"], two["name"])
    refusal = await admin.ask(400, "PUT", path, {"entry_agent_id": outsider["id"]})
    assert refusal["errors"][0]["path"] == "entry_agent_id"
    assert two["name"] in refusal["message"]
    assert (await admin.ask(200, "PUT", path, {"entry_agent_id": two["id"]}))["entry_agent_name"] == two[
        "name"
    ]
    assert (await admin.ask(200, "PUT", path, {"entry_agent_id": None}))["entry_agent_name"] is None


async def test_work_never_comes_back_to_its_giver(admin: Caller) -> None:
    path, [one, two, three] = await team(admin)
    first = await relate(admin, path, one["name"], two["name"])
    second = await relate(admin, path, two["name"], three["name"])
    for source, target in ((one, one), (two, one), (three, one), (three, two)):
        refusal = await relate(admin, path, source["name"], target["name"], 400)
        assert refusal["errors"][0]["path"] == "target"
    # What replaces an edge is held against the others, not against itself.
    turned = {"source": two["name"], "target": one["name"]}
    await admin.ask(200, "PUT", f"{path}/agent-relations/{first['id']}", turned)
    circle = {"source": one["name"], "target": two["name"]}
    await admin.ask(400, "PUT", f"{path}/agent-relations/{second['id']}", circle)
    assert len(await admin.ask(200, "GET", f"{path}/agent-relations")) == 2


async def test_two_relations_at_once_make_no_circle(admin: Caller) -> None:
    for _ in range(5):
        path, [one, two] = await team(admin, 2)
        answers = await asyncio.gather(
            admin.call("POST", f"{path}/agent-relations", {"source": one["id"], "target": two["id"]}),
            admin.call("POST", f"{path}/agent-relations", {"source": two["id"], "target": one["id"]}),
        )
        assert sorted(answer.status_code for answer in answers) == [201, 400]


async def test_a_pair_is_related_once_in_a_schema_and_again_in_another(admin: Caller) -> None:
    path, [one, two, three] = await team(admin)
    await relate(admin, path, one["name"], two["name"])
    assert (await relate(admin, path, one["id"], two["id"], 409))["error"] == "conflict"
    other = await relate(admin, path, one["name"], three["name"])
    taken = {"target": two["name"]}
    await admin.ask(409, "PUT", f"{path}/agent-relations/{other['id']}", taken)
    second = f"s-{uuid.uuid4().hex[:8]}"
    await admin.ask(201, "POST", "/schemas", {"name": second})
    await relate(admin, f"/schemas/{second}", two["name"], one["name"])
    await admin.ask(404, "GET", f"/schemas/{second}/agent-relations/{other['id']}")


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({}, ["source", "target"]),
        ({"source": "nobody", "target": "nobody-else"}, ["source", "target"]),
        ({"source": 1, "target": None}, ["source", "target"]),
        ({"source": "{one}", "target": "00000000-0000-0000-0000-000000000001"}, ["target"]),
        ({"source": "{one}", "target": "{two}", "config": []}, ["config"]),
        ({"source": "{one}", "target": "{two}", "config": {"x": "y" * 20_000}}, ["config"]),
    ],
)
async def test_a_relation_that_cannot_be_is_refused_with_every_field_at_fault(
    admin: Caller, body: dict, paths: list[str]
) -> None:
    path, [one, two] = await team(admin, 2)
    names = {"{one}": one["name"], "{two}": two["name"]}
    said = {key: names.get(value, value) if isinstance(value, str) else value for key, value in body.items()}
    refusal = await admin.ask(400, "POST", f"{path}/agent-relations", said)
    assert [error["path"] for error in refusal["errors"]] == paths


async def test_a_name_that_is_nearly_one_is_answered_with_the_one(admin: Caller) -> None:
    path, [one, two] = await team(admin, 2)
    refusal = await relate(admin, path, one["name"] + "x", two["name"], 400)
    assert f"did you mean '{one['name']}'" in refusal["errors"][0]["message"]


async def test_deleting_an_agent_ends_its_relations_and_a_schema_takes_its_own_along(admin: Caller) -> None:
    path, [one, two, three] = await team(admin)
    await relate(admin, path, one["name"], two["name"])
    await relate(admin, path, two["name"], three["name"])
    await admin.ask(204, "DELETE", f"/agents/{two['id']}")
    assert await admin.ask(200, "GET", f"{path}/agent-relations") == []
    assert await admin.ask(200, "GET", f"{path}/agents") == [one["name"]]
    await relate(admin, path, one["name"], three["name"])
    await admin.ask(204, "DELETE", path)
    assert (await admin.ask(200, "GET", f"/agents/{three['name']}"))["used_in_schemas"] == []


async def test_an_agent_deleted_amid_changes_of_its_schemas_breaks_nothing(admin: Caller) -> None:
    for _ in range(5):
        path, [one, two] = await team(admin, 2)
        answers = await asyncio.gather(
            admin.call("PUT", path, {"entry_agent_id": one["name"]}),
            admin.call("POST", f"{path}/agent-relations", {"source": one["name"], "target": two["name"]}),
            admin.call("DELETE", f"/agents/{one['name']}"),
            admin.call("DELETE", f"/agents/{one['name']}"),
            admin.call("PUT", f"/agents/{one['name']}", {"system": "x"}),
        )
        statuses = [answer.status_code for answer in answers]
        assert sorted(statuses[2:4]) == [204, 404]
        assert all(status in (200, 201, 204, 400, 404) for status in statuses), statuses
        assert one["name"] not in await admin.ask(200, "GET", f"{path}/agents")


async def test_a_relation_lets_its_source_spawn_its_target_in_its_schema_only(
    world: World, admin: Caller
) -> None:
    one, two = [await world.assistant(admin, say("hi")) for _ in range(2)]
    elsewhere = f"s-{uuid.uuid4().hex[:8]}"
    body = {"name": elsewhere, "entry_agent_id": one.agent, "chat_enabled": True}
    await admin.ask(201, "POST", "/schemas", body)

    async def offered(schema: str) -> set[str]:
        await admin.chat(schema)
        tools = one.brain.requests[-1].get("tools") or []
        return {tool["function"]["name"] for tool in tools}

    assert f"spawn_{two.agent}" not in await offered(one.schema)
    made = await relate(admin, f"/schemas/{one.schema}", one.agent, two.agent)
    assert f"spawn_{two.agent}" in await offered(one.schema)
    assert f"spawn_{two.agent}" not in await offered(elsewhere)
    await admin.ask(204, "DELETE", f"/schemas/{one.schema}/agent-relations/{made['id']}")
    assert f"spawn_{two.agent}" not in await offered(one.schema)
