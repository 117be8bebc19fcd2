"""How much of a conversation a model is sent: what was asked first of all, then the newest that fits."""

from collections.abc import Sequence
from itertools import chain

import msgspec
from msgspec import Struct

from weir.agent_engine.history import groups_of
from weir.agent_engine.models.base import AssistantMessage, Message, ToolDefinition, ToolMessage, UserMessage

# An estimate that holds for English and for JSON alike, until the provider says what it counted.
CHARACTERS_A_TOKEN = 4
MESSAGE_TOKENS = 4
# However full a context is, so much of a result is shown.
LEAST_CHARACTERS = 400
# A provider may count a prompt of its own besides; what it says is believed within these bounds.
LEAST_SCALE, MOST_SCALE = 1.0, 3.0


class Fitted(Struct, frozen=True):
    """What is sent of the messages, whether something was left out, and the estimate for the whole prompt."""

    messages: list[Message]
    is_shortened: bool
    estimate: int


class Budget:
    """The context of one turn; learns from the provider's counts how many tokens its texts are.

    `scale` is what the turn before it learnt.
    """

    def __init__(self, max_tokens: int, scale: float = 1.0) -> None:
        self._max_tokens = max_tokens
        self.scale = scale

    def fit(self, messages: Sequence[Message], *, system: str, tools: Sequence[ToolDefinition]) -> Fitted:
        """The messages that fit beside prompt and tools, in their order.

        Calls and their results stay together. The live user message and the newest step stay whatever they
        cost, with results cut to what is left; then come the other user messages and then the other steps,
        newest first, each until one does not fit.
        """
        fixed = _tokens(system) + sum(_tokens(_shown(tool)) for tool in tools)
        left = int(self._max_tokens / self.scale) - fixed
        whole = sum(map(_cost, messages))
        if whole <= left:
            return Fitted(list(messages), False, fixed + whole)
        groups = groups_of(messages)
        asked = [place for place, group in enumerate(groups) if isinstance(group[0], UserMessage)]
        live = asked[-1] if asked else 0
        newest = len(groups) - 1
        left -= _total(groups[live]) if live != newest else 0
        groups[newest] = _cut(groups[newest], left)
        left -= _total(groups[newest])
        kept = {live, newest}
        for places in (asked, [place for place in range(len(groups)) if place not in asked]):
            for place in reversed(places):
                if place in kept:
                    continue
                cost = _total(groups[place])
                if cost > left:
                    break
                left -= cost
                kept.add(place)
        sent = list(chain.from_iterable(groups[place] for place in sorted(kept)))
        return Fitted(sent, True, fixed + sum(map(_cost, sent)))

    def learn(self, estimate: int, counted: int) -> None:
        """Takes the provider's count of a prompt for which there was this estimate; 0 says nothing."""
        if estimate > 0 and counted > 0:
            self.scale = min(max(counted / estimate, LEAST_SCALE), MOST_SCALE)


def _cut(group: list[Message], left: int) -> list[Message]:
    """The step with its results cut to what is left, each to its share."""
    results = [message for message in group if isinstance(message, ToolMessage)]
    if not results or _total(group) <= left:
        return group
    others = _total(group) - sum(_tokens(message.content) for message in results)
    share = max(CHARACTERS_A_TOKEN * (left - others) // len(results), LEAST_CHARACTERS)
    return [
        ToolMessage(message.call_id, _shortened(message.content, share))
        if isinstance(message, ToolMessage)
        else message
        for message in group
    ]


def _shortened(text: str, characters: int) -> str:
    """Its beginning and its end, and how much is missing between."""
    if len(text) <= characters:
        return text
    note = f"\n[... {len(text) - characters} characters left out ...]\n"
    end = characters // 4
    return text[: characters - end] + note + text[-end:]


def _total(group: Sequence[Message]) -> int:
    return sum(map(_cost, group))


def _cost(message: Message) -> int:
    tokens = MESSAGE_TOKENS + _tokens(message.content)
    if isinstance(message, AssistantMessage):
        tokens += sum(_tokens(call.name) + _tokens(call.arguments) + MESSAGE_TOKENS for call in message.calls)
    return tokens


def _tokens(text: str) -> int:
    return len(text) // CHARACTERS_A_TOKEN + 1


def _shown(tool: ToolDefinition) -> str:
    return msgspec.json.encode(tool).decode()
