"""Asking the model within a turn: what it is sent, and what it answers."""

import time
from contextlib import aclosing

from msgspec.structs import replace

from weir.agent_engine.marking import marked
from weir.agent_engine.metrics import (
    LLM_REQUESTS,
    LLM_RETRIES,
    LLM_SECONDS,
    LLM_TTFT_SECONDS,
)
from weir.agent_engine.models.base import (
    AssistantMessage,
    Finish,
    ModelAccess,
    ModelGarbled,
    ModelRefused,
    ModelSilent,
    Prompt,
    TextPart,
    ThinkingPart,
)
from weir.agent_engine.models.usage import believable, count_tokens
from weir.agent_engine.prompt import (
    LAST_STEP,
    TIME_IS_UP,
    UNUSABLE,
    compose_prompt,
    sampling_of,
    with_notes,
)
from weir.agent_engine.studio import Studio
from weir.agent_engine.tools.arguments import mended
from weir.agent_engine.turn import Equipment, Turn

# A model whose answer nobody can use is told so and asked again, so often.
ANSWER_RETRIES = 2


async def ask(turn: Turn, studio: Studio, equipment: Equipment) -> AssistantMessage:
    """The model's answer; one that nobody can use is told to the model, which is asked again.

    Not when its reader has heard some of it: nothing is said twice.
    """
    turn.feedback = ""
    for retries_left in range(ANSWER_RETRIES, -1, -1):
        said = turn.transcript.text
        try:
            answer = await _listen(turn, studio, equipment.access, _compose(turn, equipment))
            if answer.calls or answer.content.strip() or not retries_left:
                return answer
            fault = ModelSilent("it held nothing")
        except ModelGarbled as garbled:
            if not retries_left or turn.transcript.text[len(said) :].strip():
                raise
            fault = garbled
        LLM_RETRIES.labels(equipment.access.type, fault.code).inc()
        turn.feedback = UNUSABLE.format(reason=fault)
    raise AssertionError


def _compose(turn: Turn, equipment: Equipment) -> Prompt:
    """What the model is sent; on its last step it gets no tools, so that it answers."""
    offered = equipment.toolbox.definitions
    tools = [] if turn.is_last_step else offered
    last_step = LAST_STEP if turn.is_last_step and offered else ""
    system = compose_prompt(
        turn.agent,
        tools,
        ending=TIME_IS_UP if turn.is_over else last_step,
        gated=equipment.gated,
        sub_agent=turn.above is not None,
        unavailable=equipment.unavailable,
        instructions=turn.assignment.instructions,
    )
    fitted = turn.budget.fit(turn.messages, system=system, tools=tools)
    turn.prompt_estimate = fitted.estimate
    system = with_notes(
        system,
        note="\n\n".join(filter(None, (turn.watch.note, turn.feedback))),
        steps_left=turn.steps_left if tools else 0,
        is_shortened=fitted.is_shortened,
    )
    sampling = sampling_of(turn.agent, turn.assignment.sampling)
    return Prompt(system=system, messages=marked(fitted.messages), tools=tools, sampling=sampling)


async def _listen(turn: Turn, studio: Studio, access: ModelAccess, prompt: Prompt) -> AssistantMessage:
    """Tells the model's answer as it arrives; what came of a broken one is kept too."""
    asked, result = time.monotonic(), "failed"
    turn.is_listening = True
    finish, has_begun = None, False
    try:
        # What is left now: the turn's time stood still while it waited for the user.
        access = replace(access, deadline=turn.clock.deadline)
        async with aclosing(studio.client.stream(access, prompt)) as parts:
            async for part in parts:
                if not has_begun:
                    LLM_TTFT_SECONDS.observe(time.monotonic() - asked)
                    has_begun = True
                match part:
                    case TextPart(content):
                        turn.transcript.speak(content)
                    case ThinkingPart(content):
                        turn.transcript.think(content)
                    case Finish():
                        finish = believable(part)
        result = "ok"
        turn.is_listening = False
    finally:
        text = turn.transcript.end_answer()
        LLM_REQUESTS.labels(access.type, result).inc()
        LLM_SECONDS.labels(access.type).observe(time.monotonic() - asked)
    if finish is None:
        raise ModelGarbled("The model's answer has no end")
    _count_tokens(turn, access, finish)
    turn.finish_reason = finish.reason
    if not text and not finish.calls and finish.reason == "content_filter":
        raise ModelRefused("The model's provider withheld the answer")
    turn.is_cut_off = finish.reason == "length"
    return AssistantMessage(text, tuple(map(mended, finish.calls)), finish.echo)


def _count_tokens(turn: Turn, access: ModelAccess, finish: Finish) -> None:
    turn.root.input_tokens += finish.input_tokens
    turn.root.output_tokens += finish.output_tokens
    turn.spending.add(_told_model(turn), turn.agent.name, finish)
    turn.budget.learn(turn.prompt_estimate, finish.input_tokens)
    turn.context_tokens = finish.input_tokens or turn.prompt_estimate
    count_tokens(access.type, finish)


def _told_model(turn: Turn) -> str:
    """The name under which a tenant's usage is kept; what callers call their own models does not fill its table."""
    own = turn.assignment.own_access
    return turn.assignment.model.name if own is None else f"{own.type} (own key)"
