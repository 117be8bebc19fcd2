"""Asking a model, whichever of the three protocols it speaks."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from weir.agent_engine.models import anthropic_messages, gemini, openai_chat
from weir.agent_engine.models.answer import Answer
from weir.agent_engine.models.asking import Asker, Question
from weir.agent_engine.models.base import ModelAccess, Part, Prompt
from weir.agent_engine.models.providers import PROVIDERS, Protocol

_WIRES: dict[Protocol, Callable[[ModelAccess, Prompt], tuple[Question, Answer]]] = {
    "openai_chat": openai_chat.begin,
    "anthropic_messages": anthropic_messages.begin,
    "gemini": gemini.begin,
}


class WireClient:
    """The model client of turns: one HTTP session for all providers and all tenants, and nothing kept of any."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    async def stream(self, access: ModelAccess, prompt: Prompt) -> AsyncGenerator[Part, None]:
        """The parts of the answer as they arrive, `Finish` last. Raises ModelError."""
        asked, answer = _WIRES[PROVIDERS[access.type].protocol](access, prompt)
        async with aclosing(self._asker.read(access, asked)) as contents:
            async for content in contents:
                for part in answer.read(content):
                    yield part
        for part in answer.end():
            yield part
