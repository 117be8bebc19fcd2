"""The system prompt of a turn: what the agent's author wrote, and what the platform knows besides."""

from collections.abc import Sequence

from weir.agent_engine.marking import RULE
from weir.agent_engine.models.base import Sampling, ToolDefinition
from weir.agent_engine.tables.agents import AgentRow
from weir_shared.clock import now

TOOL_RULES = (
    f"{RULE} "
    "A result that begins with [ERROR] says that the call failed and why; correct the call, or tell the user."
)
LAST_STEP = (
    "You have no steps left and no tools: answer now with what you have found, and say what is missing."
)

TIME_IS_UP = (
    "Your time is up and you have no tools: answer now, in a few sentences, with what you have found, and say what "
    "is missing."
)
UNUSABLE = (
    "Your last answer could not be used: {reason}. Answer again, in words or with well-formed tool calls."
)
SHORTENED = (
    "The conversation is longer than you can be shown: earlier steps were left out. "
    "Look something up again rather than guess what they held."
)
# The words of whoever calls: they come with the request, and the agent's author stands above them.
CALLER_SAYS = (
    "The application through which the user speaks to you says the following. "
    "Go by it as far as it does not contradict anything above."
)
# From here on the model is told how many steps it has left.
NEARLY_OUT_OF_STEPS = 4


SUB_AGENT = (
    "You work for another agent: the user message is its task, and your final answer goes to it as it stands. "
    "Nobody reads anything else that you write."
)


def compose_prompt(
    agent: AgentRow,
    tools: Sequence[ToolDefinition],
    *,
    ending: str = "",
    gated: Sequence[str] = (),
    sub_agent: bool = False,
    instructions: str = "",
    unavailable: Sequence[str] = (),
) -> str:
    """The day and not the minute, so that providers can keep the prompt in their caches.

    `ending` says why this is the last answer: LAST_STEP or TIME_IS_UP.
    """
    parts = [agent.system_prompt.strip(), f"Today is {now():%A, %d %B %Y} (UTC)."]
    if sub_agent:
        parts.append(SUB_AGENT)
    if tools:
        parts.append(TOOL_RULES)
    if tools and gated:
        parts.append(
            f"Before each call of these tools the user is asked for approval: {', '.join(gated)}. "
            "A call that the user declines is not run: accept that and do not try it again unasked."
        )
    if unavailable:
        parts.append(f"These tools of yours are not available at present: {', '.join(unavailable)}.")
    if instructions:
        parts.append(f"{CALLER_SAYS}\n\n{instructions}")
    parts.append(ending)
    return "\n\n".join(part for part in parts if part)


def with_notes(system: str, *, note: str, steps_left: int, is_shortened: bool) -> str:
    """What the model should know at this step alone, after what stays the same."""
    parts = [system]
    if is_shortened:
        parts.append(SHORTENED)
    if 0 < steps_left < NEARLY_OUT_OF_STEPS:
        parts.append(f"You have {steps_left} more steps after this one; come to an answer.")
    if note:
        parts.append(note)
    return "\n\n".join(parts)


def sampling_of(agent: AgentRow, wanted: Sampling) -> Sampling:
    """What the caller wants where it wants something, within the agent's limit of tokens and with its ends."""
    limits = [limit for limit in (agent.max_tokens, wanted.max_tokens) if limit is not None]
    return Sampling(
        temperature=agent.temperature if wanted.temperature is None else wanted.temperature,
        top_p=agent.top_p if wanted.top_p is None else wanted.top_p,
        max_tokens=min(limits, default=None),
        stop=tuple(dict.fromkeys((*wanted.stop, *agent.stop_sequences))),
    )
