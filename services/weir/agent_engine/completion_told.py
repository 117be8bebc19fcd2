"""A turn's events as a client sees them that knows of text only: what is shown or asked otherwise becomes text."""

from typing import Any

import msgspec

from weir.agent_engine.tools.structured_output import Action, Block, Option, Question, Scalar
from weir.agent_engine.turn import Fault
from weir.agent_engine.wire.completions import Delta

BREAK = "\n\n"


class Telling:
    """Follows one turn, event by event; afterwards it knows why the turn failed, if it did."""

    def __init__(self) -> None:
        self.fault: Fault | None = None
        self._has_spoken = False
        self._after_block = False

    def take(self, event: str, data: dict[str, Any]) -> Delta | None:
        """What an event adds to the answer, if it does. Calls of tools are the platform's own and are not told."""
        match event:
            case "message_delta":
                return self._text(data["content"])
            case "thinking":
                return Delta(reasoning_content=data["content"])
            case "structured_output":
                return self._block(text_of_block(msgspec.convert(data, Block)))
            case "confirmation":
                return self._block(text_of_confirmation(data))
            case "error":
                self.fault = Fault(data["code"], data["message"])
            case _:
                pass
        return None

    def _text(self, content: str) -> Delta:
        before = BREAK if self._after_block else ""
        self._has_spoken, self._after_block = True, False
        return Delta(content=before + content)

    def _block(self, text: str) -> Delta:
        before = BREAK if self._has_spoken else ""
        self._has_spoken = self._after_block = True
        return Delta(content=before + text)


def text_of_block(block: Block) -> str:
    """A block as Markdown that also reads well as it stands."""
    lines = [f"**{block.title}**"] if block.title else []
    if block.description:
        lines.append(block.description)
    if block.rows:
        lines.append("\n".join(f"- {row.label}: {_shown(row.value)}" for row in block.rows))
    if block.questions:
        lines += [_question(number, question) for number, question in enumerate(block.questions, 1)]
    if block.actions:
        lines.append("\n".join(f"- {_choice(action)}" for action in block.actions))
    if block.is_form:
        lines.append("Please answer in your next message.")
    return BREAK.join(lines)


def text_of_confirmation(data: dict[str, Any]) -> str:
    """The question, and how it is answered; the stream goes on once it is."""
    body = msgspec.json.encode({"call_id": data["call_id"], "answers": ["approve"]}).decode()
    return (
        f"**Approval needed.** {data['content']}{BREAK}"
        f"Answer with `POST /api/v1/sessions/{data['session_id']}/respond` and the body `{body}`; "
        "any other answer declines."
    )


def _question(number: int, question: Question) -> str:
    default = question.default or ""
    shown = ", ".join(default) if isinstance(default, list) else default
    lines = [f"{number}. {question.label}" + (f" (default: {shown})" if shown else "")]
    lines += [f"   - {_choice(option)}" for option in question.options or ()]
    return "\n".join(lines)


def _choice(choice: Action | Option) -> str:
    return (
        f"{choice.label} ({choice.value})"
        if choice.value not in (choice.label, msgspec.UNSET)
        else choice.label
    )


def _shown(value: Scalar) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
