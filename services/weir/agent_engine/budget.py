"""How much of a conversation a model is sent: the newest that fits, and always the live message."""

from collections.abc import Sequence
from itertools import chain

import msgspec

from weir.agent_engine.history import groups_of
from weir.agent_engine.models.base import AssistantMessage, Message, ToolDefinition, UserMessage

# An estimate that holds for English and for JSON alike.
CHARACTERS_A_TOKEN = 4
MESSAGE_TOKENS = 4


def fit(
    messages: Sequence[Message], *, max_tokens: int, system: str, tools: Sequence[ToolDefinition]
) -> list[Message]:
    """The messages that fit beside prompt and tools, in their order.

    Calls and their results stay together. The last user message and the newest group stay whatever they cost.
    """
    left = max_tokens - _tokens(system) - sum(_tokens(_shown(tool)) for tool in tools)
    if sum(_cost(message) for message in messages) <= left:
        return list(messages)
    groups = groups_of(messages)
    live = max((place for place, group in enumerate(groups) if isinstance(group[0], UserMessage)), default=0)
    kept = {live, len(groups) - 1}
    left -= sum(_cost(message) for place in kept for message in groups[place])
    for place in range(len(groups) - 1, -1, -1):
        if place in kept:
            continue
        left -= sum(_cost(message) for message in groups[place])
        if left < 0:
            break
        kept.add(place)
    return list(chain.from_iterable(groups[place] for place in sorted(kept)))


def _cost(message: Message) -> int:
    tokens = MESSAGE_TOKENS + _tokens(message.content)
    if isinstance(message, AssistantMessage):
        tokens += sum(_tokens(call.name) + _tokens(call.arguments) + MESSAGE_TOKENS for call in message.calls)
    return tokens


def _tokens(text: str) -> int:
    return len(text) // CHARACTERS_A_TOKEN + 1


def _shown(tool: ToolDefinition) -> str:
    return msgspec.json.encode(tool).decode()
