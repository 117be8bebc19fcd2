"""Blocks that the client renders: told as one event when they are right, an error for the model when not."""

from typing import Any

import pytest
from tests.fakes.model_server import Reply, say, use
from tests.integration.agent_engine.conftest import Caller, Streamed, World
from tests.integration.agent_engine.gates import TABLE

FORM = {
    "output_type": "form",
    "title": "Which?",
    "questions": [
        {"id": "size", "label": "Size?", "type": "select", "options": [{"label": "S"}, {"label": "L"}]}
    ],
}


def show(block: dict[str, Any]) -> Reply:
    return use("show_structured_output", block)


async def assistant_that_shows(world: World, admin: Caller, *replies: Reply) -> Any:
    return await world.assistant(admin, *replies, tools=["show_structured_output"])


async def test_a_table_is_told_between_its_call_and_its_result_and_the_turn_goes_on(
    world: World, admin: Caller
) -> None:
    assistant = await assistant_that_shows(world, admin, show(TABLE), say("Done."))
    turn = await admin.chat(assistant.schema)
    assert turn.events == [
        *("tool_call", "structured_output", "tool_result"),
        *("message_delta", "message", "done"),
    ]
    assert turn.one("structured_output") == TABLE
    assert turn.one("tool_result")["output"] == "The output was displayed to the user."


async def test_a_form_ends_the_turn_and_the_next_message_brings_its_answers(
    world: World, admin: Caller
) -> None:
    assistant = await assistant_that_shows(world, admin, show(FORM), say("L it is."))
    turn = await admin.chat(assistant.schema)
    assert turn.events == ["tool_call", "structured_output", "tool_result", "done"]
    question = turn.one("structured_output")["questions"][0]
    assert question["options"] == [{"label": "S", "value": "S"}, {"label": "L", "value": "L"}]
    assert len(assistant.brain.requests) == 1
    answered = await admin.chat(assistant.schema, "size: L", turn.session_id)
    assert answered.text == "L it is."
    roles = [message["role"] for message in assistant.brain.requests[1]["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "user"]


async def test_a_turn_that_ends_with_a_form_is_completed_and_whole_without_a_stream(
    world: World, admin: Caller
) -> None:
    assistant = await assistant_that_shows(world, admin, show(FORM))
    body = {"message": "hi", "stream": False}
    answer = await admin.ask(200, "POST", f"/schemas/{assistant.schema}/chat", body)
    assert "error" not in answer
    assert answer["message"] == ""
    session = await admin.ask(200, "GET", f"/sessions/{answer['session_id']}")
    assert session["status"] == "completed"


async def test_a_block_that_is_wrong_goes_back_to_the_model(world: World, admin: Caller) -> None:
    assistant = await assistant_that_shows(
        world, admin, show({"output_type": "form"}), show(TABLE), say("Mended.")
    )
    turn = await admin.chat(assistant.schema)
    first, second = turn.of("tool_result")
    assert first.data["has_error"] is True
    assert first.data["output"] == "[ERROR] show_structured_output: a form has 1 to 5 questions"
    assert second.data["has_error"] is False
    assert len(turn.of("structured_output")) == 1


@pytest.mark.parametrize("block", [TABLE, FORM])
async def test_a_block_is_told_again_from_the_ledger(
    world: World, admin: Caller, block: dict[str, Any]
) -> None:
    assistant = await assistant_that_shows(world, admin, show(block), say("Done."))
    live = await admin.chat(assistant.schema)
    await world.app.state.studio.running.stop((admin.principal.tenant_id, live.session_id))
    async with admin.streaming(f"/sessions/{live.session_id}/events", method="GET") as frames:
        replayed = Streamed([frame async for frame in frames])
    assert replayed.events == live.events
    assert replayed.one("structured_output") == live.one("structured_output")
