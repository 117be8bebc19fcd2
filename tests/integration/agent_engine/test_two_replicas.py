"""Two replicas of the engine: a turn runs on one, and is read, resumed and stopped on the other."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.model_server import say, use
from tests.integration.agent_engine.conftest import Caller, Frame, Streamed, World

from weir.agent_engine.replica import make_round
from weir.agent_engine.tables.replicas import drop_any_lease, renew_any_lease
from weir_shared.ids import new_id


@pytest.fixture(scope="module")
def keys_between(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Replicas have their keys in common."""
    return tmp_path_factory.mktemp("replicas")


@pytest.fixture(scope="module")
async def world(start_world: Callable[..., Any], keys_between: Path) -> AsyncIterator[World]:
    async with start_world(keys_between) as started:
        yield started


@pytest.fixture(scope="module")
async def other(start_world: Callable[..., Any], keys_between: Path) -> AsyncIterator[World]:
    async with start_world(keys_between) as started:
        yield started


@pytest.fixture
async def there(other: World, tenant_id: str) -> AsyncIterator[Caller]:
    """The same administrator, at the other replica."""
    caller = other.caller(tenant_id)
    yield caller
    await caller.http.aclose()


async def follow(caller: Caller, session_id: str, last: str = "") -> Streamed:
    headers = {"Last-Event-ID": last} if last else {}
    path = f"/sessions/{session_id}/events"
    async with caller.streaming(path, method="GET", headers=headers) as frames:
        return Streamed([frame async for frame in frames])


@asynccontextmanager
async def begun(caller: Caller, schema: str, session_id: str) -> AsyncIterator[AsyncIterator[Frame]]:
    """A chat of which the first piece of text has arrived."""
    body = {"message": "hi", "session_id": session_id}
    async with caller.streaming(f"/schemas/{schema}/chat", body) as frames:
        async for frame in frames:
            if frame.event == "message_delta":
                break
        yield frames


async def test_a_reader_on_another_replica_sees_every_event_while_the_turn_runs(
    world: World, admin: Caller, there: Caller
) -> None:
    assistant = await world.assistant(
        admin, use("x", {"n": 1}, after=("a ", "b ")), say(*"cdefgh", pause=0.1)
    )
    session_id = str(uuid.uuid4())
    async with begun(admin, assistant.schema, session_id) as frames:
        told, rest = await asyncio.gather(follow(there, session_id), _all(frames))
    assert told.events[0] == "message_delta"
    assert [frame.id for frame in told.frames[1:]] == [f"1-{number}" for number in range(1, len(told.frames))]
    assert told.frames[-len(rest) :] == rest
    assert told.text == told.one("message")["content"] == "a b cdefgh"
    assert told.events[-1] == "done"


async def test_a_reader_comes_back_to_its_place_on_another_replica(
    world: World, admin: Caller, there: Caller
) -> None:
    assistant = await world.assistant(admin, say(*"abcdef", pause=0.05))
    session_id = str(uuid.uuid4())
    async with begun(admin, assistant.schema, session_id):
        resumed = await follow(there, session_id, "1-2")
    assert resumed.text == "cdef"
    assert resumed.one("message")["content"] == "abcdef"
    # The turn has ended, and the replica that ran it still has it in memory.
    assert (await follow(there, session_id, "1-3")).text == "def"
    assert (await follow(there, session_id, "1-8")).events == []


async def test_a_turn_that_is_over_is_told_by_any_replica(world: World, admin: Caller, there: Caller) -> None:
    assistant = await world.assistant(admin, say("one"), say("two"))
    session_id = (await there.chat(assistant.schema, "first")).session_id
    second = await admin.chat(assistant.schema, "second", session_id)
    # The other replica still remembers the first turn, and must not take it for the latest.
    told = await follow(there, session_id)
    assert (told.text, told.events) == ("two", ["message_delta", "message", "done"])
    assert told.one("done") == second.one("done")


async def test_deleting_a_session_stops_its_turn_on_another_replica(
    world: World, admin: Caller, there: Caller
) -> None:
    assistant = await world.assistant(admin, say("Well", hangs=True))
    session_id = str(uuid.uuid4())
    async with begun(admin, assistant.schema, session_id) as frames:
        await there.ask(204, "DELETE", f"/sessions/{session_id}")
        rest = await _all(frames)
    assert [frame.event for frame in rest] == ["error", "done"]
    await asyncio.wait_for(assistant.brain.cut_off.wait(), 5)
    await admin.ask(404, "GET", f"/sessions/{session_id}")


async def test_readers_of_a_turn_whose_replica_died_are_told_that_it_was_interrupted(
    world: World, admin: Caller, there: Caller, other: World, database: Any
) -> None:
    assistant = await world.assistant(admin, use("x", after=("Hm.",)), say("Done."))
    session_id = (await admin.chat(assistant.schema)).session_id
    # As a replica that was killed leaves it: a turn that runs, without its last step, and a lease that runs out.
    killed = new_id()
    await renew_any_lease(database, killed, seconds=60)
    async with database.any_tenant() as connection:
        await connection.execute(
            """
            with entry as (
                delete from messages where session_id = $1 and payload @> '{"content": "Done."}'
            )
            update turns
            set status = 'running', replica = $2, events = null, ended_at = null
            where session_id = $1
            """,
            session_id,
            killed,
        )
    reading = asyncio.create_task(follow(there, session_id))
    await asyncio.sleep(0.7)
    assert not reading.done()
    await drop_any_lease(database, killed)
    # This round or one that a replica makes by itself.
    studio = other.app.state.studio
    await make_round(studio.database, studio.elsewhere.replica_id)
    told = await asyncio.wait_for(reading, 5)
    assert told.events == ["message_delta", "tool_call", "tool_result", "error", "done"]
    assert told.one("error")["code"] == "interrupted"
    assert (await there.chat(assistant.schema, "again", session_id)).text == "Done."


async def test_a_message_to_a_session_whose_replica_died_does_not_wait_for_the_sweep(
    world: World, admin: Caller, database: Any
) -> None:
    assistant = await world.assistant(admin, say("hi"))
    session_id = (await admin.chat(assistant.schema)).session_id
    async with database.any_tenant() as connection:
        await connection.execute(
            "update turns set status = 'running', replica = gen_random_uuid() where session_id = $1",
            session_id,
        )
    assert (await admin.chat(assistant.schema, "again", session_id)).text == "hi"


async def test_a_session_whose_replica_is_silent_says_how_long_it_may_take(
    world: World, admin: Caller, database: Any
) -> None:
    assistant = await world.assistant(admin, say("hi"))
    session_id = (await admin.chat(assistant.schema)).session_id
    silent = str(uuid.uuid4())
    async with database.any_tenant() as connection:
        await connection.execute(
            "insert into engine_replicas (id, lease_until) values ($1, now() + interval '1.2 seconds')",
            silent,
        )
        await connection.execute(
            "update turns set status = 'running', replica = $2 where session_id = $1", session_id, silent
        )
    body = {"message": "again", "session_id": session_id}
    refusal = await admin.call("POST", f"/schemas/{assistant.schema}/chat", body)
    assert refusal.status_code == 409
    assert refusal.headers["retry-after"] == "2"
    assert "does not report; if it is gone, the session is free in 2 s" in refusal.json()["message"]
    await asyncio.sleep(int(refusal.headers["retry-after"]))
    assert (await admin.chat(assistant.schema, "again", session_id)).text == "hi"


async def test_a_turn_that_was_given_up_meanwhile_says_so_and_writes_nothing(
    world: World, admin: Caller, database: Any
) -> None:
    assistant = await world.assistant(admin, say("a", "b", pause=0.3))
    session_id = str(uuid.uuid4())
    async with begun(admin, assistant.schema, session_id) as frames:
        async with database.any_tenant() as connection:
            await connection.execute(
                "update turns set status = 'failed', error_code = 'interrupted' where session_id = $1",
                session_id,
            )
        rest = await _all(frames)
    assert [frame.event for frame in rest][-2:] == ["error", "done"]
    assert rest[-2].data["code"] == "interrupted"
    session = await admin.ask(200, "GET", f"/sessions/{session_id}")
    assert [message["role"] for message in session["messages"]] == ["user"]


async def test_a_replica_whose_own_lease_ran_out_gives_nobody_up_at_once(database: Any) -> None:
    """After an outage everyone's lease has run out, and everyone shall renew before anyone is judged."""
    replica_id = str(uuid.uuid4())
    assert await make_round(database, replica_id) == 0
    async with database.any_tenant() as connection:
        held = await connection.fetchval(
            "select lease_until > now() from engine_replicas where id = $1", replica_id
        )
        await connection.execute("delete from engine_replicas where id = $1", replica_id)
    assert held


async def test_a_turn_that_nobody_reads_elsewhere_is_not_told_elsewhere(
    world: World, admin: Caller, there: Caller, doorbell: Any
) -> None:
    assistant = await world.assistant(admin, say("hi"))
    session_id = (await admin.chat(assistant.schema)).session_id
    assert not await doorbell.redis.exists(f"weir:feed:{admin.principal.tenant_id}:{session_id}:1")


async def _all(frames: AsyncIterator[Frame]) -> list[Frame]:
    return [frame async for frame in frames]
