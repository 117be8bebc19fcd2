"""A block that the client renders: a table, a piece of information, or a form that the user fills in."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from weir.agent_engine.models.base import ToolDefinition
from weir.agent_engine.signals import ToolFailed
from weir.agent_engine.tools.base import Call

NAME = "show_structured_output"
SHOWN = "The output was displayed to the user."
FORM_SHOWN = "The form was displayed to the user; the answers come with the user's next message."
MAX_BYTES = 64 * 1024
_ARRAYS = ("rows", "actions", "questions")
_CHOICES = ("select", "multiselect")

Label = Annotated[str, Meta(min_length=1, max_length=500)]
Text = Annotated[str, Meta(max_length=10_000)]
Choice = TypeVar("Choice", "Action", "Option")
Scalar = str | int | float | bool | None


class Row(Struct, frozen=True, kw_only=True):
    label: Label
    value: Scalar


class Action(Struct, frozen=True, kw_only=True):
    label: Label
    type: Literal["primary", "secondary"] = "secondary"
    value: Text | UnsetType = UNSET


class Option(Struct, frozen=True, kw_only=True):
    label: Label
    value: Text | UnsetType = UNSET


class Question(Struct, frozen=True, kw_only=True):
    id: Annotated[str, Meta(min_length=1, max_length=100)]
    label: Label
    type: Literal["text", "select", "multiselect"]
    options: Annotated[list[Option], Meta(min_length=2, max_length=5)] | UnsetType = UNSET
    default: Text | list[Text] | UnsetType = UNSET


class Block(Struct, frozen=True, kw_only=True):
    output_type: Literal["summary_table", "table", "info", "form"]
    title: Annotated[str, Meta(max_length=500)] | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    rows: Annotated[list[Row], Meta(max_length=200)] | UnsetType = UNSET
    actions: Annotated[list[Action], Meta(max_length=10)] | UnsetType = UNSET
    questions: Annotated[list[Question], Meta(min_length=1, max_length=5)] | UnsetType = UNSET

    @property
    def is_form(self) -> bool:
        return self.output_type == "form"


class StructuredOutput:
    """Validates what the model wants to show and shows it; a block that is wrong is the model's to mend."""

    def __init__(self, show: Callable[[dict[str, Any], bool], None], *, forms: bool) -> None:
        self._show = show
        self._forms = forms
        self.definition = ToolDefinition(name=NAME, description=_DESCRIPTION, parameters=_PARAMETERS)

    async def run(self, call: Call) -> str:
        block = block_of(call.arguments)
        if block.is_form and not self._forms:
            raise ToolFailed("a sub-agent cannot ask the user; say in your answer what you need to know")
        self._show(msgspec.to_builtins(block), block.is_form)
        return FORM_SHOWN if block.is_form else SHOWN


def block_of(arguments: dict[str, Any]) -> Block:
    """The block that the arguments describe, complete with its defaults. Raises ToolFailed, which says what is wrong."""
    try:
        block = msgspec.convert(_with_arrays(arguments), Block)
    except (msgspec.ValidationError, RecursionError) as fault:
        raise ToolFailed(f"{NAME}: {fault}") from None
    _check(block)
    block = _completed(block)
    if len(msgspec.json.encode(block)) > MAX_BYTES:
        raise ToolFailed(f"{NAME}: the block is larger than {MAX_BYTES // 1024} KiB; show less")
    return block


def _with_arrays(arguments: dict[str, Any]) -> dict[str, Any]:
    """Some models write an array as a text that holds its JSON; null is the same as nothing."""
    given = {name: value for name, value in arguments.items() if value is not None}
    for name in _ARRAYS:
        if isinstance(given.get(name), str):
            try:
                given[name] = msgspec.json.decode(given[name])
            except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
                raise ToolFailed(f"{NAME}: `{name}` is an array; the text given is no JSON") from None
    return given


def _check(block: Block) -> None:
    if not block.is_form:
        if not (block.title or block.description or block.rows):
            raise ToolFailed(f"{NAME}: there is nothing to show; give a title, a description or rows")
        return
    if not block.questions:
        raise ToolFailed(f"{NAME}: a form has 1 to 5 questions")
    if repeated := _repeated(question.id for question in block.questions):
        raise ToolFailed(f"{NAME}: two questions have the id '{repeated}'; each needs its own")
    for question in block.questions:
        if question.type in _CHOICES and not question.options:
            raise ToolFailed(f"{NAME}: the question '{question.id}' needs 2 to 5 options to choose from")


def _repeated(ids: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for id in ids:
        if id in seen:
            return id
        seen.add(id)
    return None


def _completed(block: Block) -> Block:
    """What the user picks stands for itself unless it is given a value of its own."""
    changes: dict[str, Any] = {}
    if block.actions:
        changes["actions"] = [_valued(action) for action in block.actions]
    if block.questions:
        changes["questions"] = [
            replace(question, options=[_valued(option) for option in question.options])
            if question.options
            else question
            for question in block.questions
        ]
    return replace(block, **changes)


def _valued(choice: Choice) -> Choice:
    return replace(choice, value=choice.label) if choice.value is UNSET else choice


_DESCRIPTION = (
    "Shows the user a block: a summary_table (rows of label and value), an info, or a form of 1 to 5 questions. "
    "After a form the turn ends; the answers come with the user's next message."
)
_LABEL: dict[str, Any] = {"type": "string"}
_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "output_type": {"type": "string", "enum": ["summary_table", "info", "form"]},
        "title": {"type": "string"},
        "description": {"type": "string"},
        "rows": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"label": _LABEL, "value": {"type": "string"}},
                "required": ["label", "value"],
            },
        },
        "actions": {
            "type": "array",
            "description": "Buttons below the block.",
            "items": {
                "type": "object",
                "properties": {
                    "label": _LABEL,
                    "type": {"type": "string", "enum": ["primary", "secondary"]},
                    "value": {"type": "string"},
                },
                "required": ["label"],
            },
        },
        "questions": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "id": {"type": "string"},
                    "label": _LABEL,
                    "type": {"type": "string", "enum": ["text", "select", "multiselect"]},
                    "options": {
                        "type": "array",
                        "description": "2 to 5 for select and multiselect.",
                        "items": {
                            "type": "object",
                            "properties": {"label": _LABEL, "value": {"type": "string"}},
                            "required": ["label"],
                        },
                    },
                    "default": {"type": "string"},
                },
                "required": ["id", "label", "type"],
            },
        },
    },
    "required": ["output_type"],
}
