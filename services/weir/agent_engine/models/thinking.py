"""Reasoning that a model writes into its text between `<think>` and `</think>`."""

from collections.abc import Iterator

from weir.agent_engine.models.base import TextPart, ThinkingPart

OPEN, CLOSE = "<think>", "</think>"


class ThinkingSplitter:
    """Sorts text into answer and reasoning; a tag may come in pieces, and counts only before any answer."""

    def __init__(self) -> None:
        self._pending = ""
        self._mode = "start"

    def feed(self, text: str) -> Iterator[TextPart | ThinkingPart]:
        if self._mode == "text":
            yield TextPart(text)
            return
        self._pending += text
        if self._mode == "start":
            yield from self._begin()
        if self._mode == "thinking":
            yield from self._think()

    def finish(self) -> Iterator[TextPart | ThinkingPart]:
        """What was held back because it could have been the beginning of a tag."""
        pending, self._pending = self._pending, ""
        if pending:
            yield ThinkingPart(pending) if self._mode == "thinking" else TextPart(pending)

    def _begin(self) -> Iterator[TextPart | ThinkingPart]:
        opening = self._pending.lstrip()
        if opening.startswith(OPEN):
            self._pending = opening[len(OPEN) :]
            self._mode = "thinking"
        elif not OPEN.startswith(opening):
            self._mode = "text"
            yield from self.finish()

    def _think(self) -> Iterator[TextPart | ThinkingPart]:
        thought, closed, answer = self._pending.partition(CLOSE)
        if closed:
            self._mode, self._pending = "text", ""
            if thought:
                yield ThinkingPart(thought)
            if answer := answer.lstrip():
                yield TextPart(answer)
            return
        held = _tag_beginning(self._pending)
        thought, self._pending = (
            self._pending[: len(self._pending) - held],
            self._pending[-held:] if held else "",
        )
        if thought:
            yield ThinkingPart(thought)


def _tag_beginning(text: str) -> int:
    """How many of the last characters may be the beginning of the closing tag."""
    return next((size for size in range(len(CLOSE) - 1, 0, -1) if text.endswith(CLOSE[:size])), 0)
