"""Memory: one user's within a schema, for all of its agents, across sessions; bounded, and forgotten when told."""

import asyncio
from typing import Any

import pytest
from tests.fakes.model_server import Call, Reply, say, use
from tests.integration.agent_engine.conftest import Assistant, Caller, World
from tests.integration.agent_engine.test_sub_agents import spawn, sub_agent

from weir.agent_engine.tables import memories
from weir_shared.db.pool import Database


async def remembering(
    world: World, caller: Caller, *replies: Reply, config: dict[str, Any] | None = None, **agent: Any
) -> Assistant:
    assistant = await world.assistant(caller, *replies, **agent)
    body = {"type": "memory", "config": config or {}}
    await caller.ask(201, "POST", f"/agents/{assistant.agent}/capabilities", body)
    return assistant


def store(*contents: str) -> Reply:
    return Reply(calls=tuple(Call("memory_store", {"content": content}) for content in contents))


async def kept(caller: Caller, schema: str) -> list[str]:
    return [entry["content"] for entry in await caller.ask(200, "GET", f"/schemas/{schema}/memory")]


async def test_what_is_stored_in_one_session_is_recalled_in_another(world: World, admin: Caller) -> None:
    assistant = await remembering(
        world,
        admin,
        store("Likes green tea"),
        say("Noted."),
        use("memory_recall", {"query": "TEA"}),
        say("Tea."),
    )
    await admin.chat(assistant.schema)
    turn = await admin.chat(assistant.schema)
    assert "Likes green tea" in turn.one("tool_result")["output"]
    offered = [tool["function"]["name"] for tool in assistant.brain.requests[0]["tools"]]
    assert offered == ["memory_recall", "memory_store"]


async def test_every_word_must_occur_and_the_newest_come_first(world: World, admin: Caller) -> None:
    asked = [use("memory_recall", {"query": query}) for query in ("tea green", "tea", "100%", "a_b", "")]
    replies = [store("green tea", "black tea", "100% sure", "a_b", "axb"), say("ok")]
    for question in asked:
        replies += [question, say("ok")]
    assistant = await remembering(world, admin, *replies)
    await admin.chat(assistant.schema)
    told = [(await admin.chat(assistant.schema)).one("tool_result")["output"] for _ in asked]
    lines = [[line.split("Z ", 1)[1] for line in text.splitlines()] for text in told]
    assert lines[:4] == [["green tea"], ["black tea", "green tea"], ["100% sure"], ["a_b"]]
    assert lines[4] == ["axb", "a_b", "100% sure", "black tea", "green tea"]


async def test_nothing_found_is_said_in_words(world: World, admin: Caller) -> None:
    assistant = await remembering(world, admin, use("memory_recall", {"query": "tea"}), say("Hm."))
    result = (await admin.chat(assistant.schema)).one("tool_result")
    assert result["output"] == "Nothing is remembered with the words 'tea'."
    assert result["has_error"] is False


@pytest.mark.parametrize(
    ("tool", "arguments", "told"),
    [
        ("memory_store", {}, "content"),
        ("memory_store", {"content": 5}, "content"),
        ("memory_store", {"content": "x" * 20_001}, "At most 20000"),
        ("memory_store", {"content": "x", "metadata": []}, None),
        ("memory_store", {"content": "x", "metadata": {"a": "y" * 9000}}, "metadata"),
        ("memory_recall", {"query": 5}, "query"),
        ("memory_recall", {"query": "x", "limit": "many"}, "limit"),
    ],
)
async def test_wrong_arguments_are_told_to_the_model(
    world: World, admin: Caller, tool: str, arguments: dict[str, Any], told: str | None
) -> None:
    assistant = await remembering(world, admin, use(tool, arguments), say("ok"))
    result = (await admin.chat(assistant.schema)).one("tool_result")
    assert result["has_error"] is (told is not None)
    assert (told or "") in result["output"]


async def test_users_and_schemas_have_memories_of_their_own(
    world: World, admin: Caller, tenant_id: str
) -> None:
    bob = world.caller(tenant_id, "chat", "schemas:read", "schemas:write", subject="bob")
    assistant = await remembering(
        world, admin, store("secret of one"), say("ok"), store("secret of two"), say("ok")
    )
    await admin.chat(assistant.schema)
    await bob.chat(assistant.schema)
    entries = await admin.ask(200, "GET", f"/schemas/{assistant.schema}/memory")
    assert [entry["user_sub"] for entry in entries] == ["bob", "local-admin"]
    [own] = await bob.ask(200, "GET", f"/schemas/{assistant.schema}/memory")
    assert own["user_sub"] == "bob"
    other = next(entry["id"] for entry in entries if entry["user_sub"] == "local-admin")
    await bob.ask(404, "DELETE", f"/schemas/{assistant.schema}/memory/{other}")
    await bob.ask(204, "DELETE", f"/schemas/{assistant.schema}/memory")
    assert len(await kept(admin, assistant.schema)) == 1
    second = await remembering(world, admin, use("memory_recall", {}), say("ok"))
    assert (await admin.chat(second.schema)).one("tool_result")["output"] == "Nothing is remembered."


async def test_a_sub_agent_shares_the_memory_of_its_schema(world: World, admin: Caller) -> None:
    child, _ = await sub_agent(world, admin, store("from below"), say("stored"))
    await admin.ask(201, "POST", f"/agents/{child}/capabilities", {"type": "memory"})
    assistant = await remembering(
        world, admin, spawn(child), use("memory_recall", {}), say("ok"), can_spawn=[child]
    )
    turn = await admin.chat(assistant.schema)
    assert "from below" in turn.of("tool_result")[-1].data["output"]


async def test_the_oldest_go_when_there_are_too_many_also_when_many_are_stored_at_once(
    world: World, admin: Caller
) -> None:
    assistant = await remembering(
        world,
        admin,
        store(*(f"entry {n}" for n in range(6))),
        say("ok"),
        store("last"),
        say("ok"),
        config={"max_entries": 3},
        tool_execution="parallel",
    )
    await admin.chat(assistant.schema)
    assert len(await kept(admin, assistant.schema)) == 3
    await asyncio.gather(*(admin.chat(assistant.schema) for _ in range(4)))
    assert len(await kept(admin, assistant.schema)) == 3


async def test_without_a_limit_all_is_kept(world: World, admin: Caller) -> None:
    config = {"max_entries": 2, "unlimited_entries": True}
    assistant = await remembering(world, admin, store("a", "b", "c"), say("ok"), config=config)
    await admin.chat(assistant.schema)
    assert await kept(admin, assistant.schema) == ["c", "b", "a"]


async def test_what_has_outlived_its_time_is_forgotten(
    world: World, admin: Caller, database: Database
) -> None:
    short = await remembering(world, admin, store("old", "new"), say("ok"), config={"retention_days": 30})
    endless = await remembering(
        world, admin, store("old"), say("ok"), config={"retention_days": 30, "unlimited_retention": True}
    )
    for assistant in (short, endless):
        await admin.chat(assistant.schema)
    async with database.any_tenant() as connection:
        await connection.execute(
            "update memories set created_at = now() - interval '31 days' where tenant_id = $1 and content = 'old'",
            admin.principal.tenant_id,
        )
        await memories.remove_any_outlived(connection)
    assert await kept(admin, short.schema) == ["new"]
    assert await kept(admin, endless.schema) == ["old"]


async def test_entries_are_listed_and_deleted_one_by_one(world: World, admin: Caller) -> None:
    assistant = await remembering(world, admin, store("a", "b"), say("ok"))
    await admin.chat(assistant.schema)
    entries = await admin.ask(200, "GET", f"/schemas/{assistant.schema}/memory")
    assert set(entries[0]) == {
        "id", "schema_id", "user_sub", "content", "metadata", "created_at", "updated_at",
    }  # fmt: skip
    path = f"/schemas/{assistant.schema}/memory/{entries[0]['id']}"
    assert await admin.ask(200, "DELETE", path) == {"status": "deleted"}
    await admin.ask(404, "DELETE", path)
    await admin.ask(404, "DELETE", f"/schemas/{assistant.schema}/memory/nonsense")
    assert await kept(admin, assistant.schema) == ["a"]
    await admin.ask(404, "GET", "/schemas/no-such/memory")


async def test_a_disabled_capability_brings_no_tools(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, say("ok"))
    body = {"type": "memory", "enabled": False}
    await admin.ask(201, "POST", f"/agents/{assistant.agent}/capabilities", body)
    await admin.chat(assistant.schema)
    assert "tools" not in assistant.brain.requests[0]


async def test_what_a_model_stores_is_kept_whatever_is_in_it(world: World, admin: Caller) -> None:
    assistant = await remembering(world, admin, store("a\0b % _ \\ 'x'; drop table memories"), say("ok"))
    await admin.chat(assistant.schema)
    assert await kept(admin, assistant.schema) == ["a\ufffdb % _ \\ 'x'; drop table memories"]
