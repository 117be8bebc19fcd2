"""How a connector declares its parameters once, and how a dataset's parameters are held against that."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Literal
from urllib.parse import urlsplit

from msgspec import Struct

from weir_shared.errors import FieldError

Kind = Literal["text", "choice", "switch", "count", "character", "url", "duration"]
Params = Mapping[str, str]

SWITCH_WORDS = {"true": True, "enabled": True, "false": False, "disabled": False}
_DURATION = re.compile(r"(?:\d+(?:ms|s|m|h|d|w))+")
_REFERENCE = re.compile(r"\$\{\s*secrets\s*:\s*([^{}]*?)\s*\}")


class When(Struct, frozen=True):
    """A condition on another parameter, with the words that a message has for it."""

    param: str
    value: str
    words: str

    def holds(self, params: Params) -> bool:
        return params.get(self.param) == self.value


class Param(Struct, frozen=True, kw_only=True):
    """One parameter of a connector; its declaration is its validation and its documentation."""

    name: str
    help: str
    kind: Kind = "text"
    credential: bool = False
    default: str | None = None
    choices: tuple[str, ...] = ()
    required_when: When | None = None
    only_when: When | None = None
    without_effect: bool = False
    """Accepted so that a document of others can be used as it stands, and said to do nothing."""


class Place(Struct, frozen=True):
    """Where in the request a dataset or view stands: '' alone in its body, `addDatasets[0]` in a patch.

    An update of something that the same patch adds lies over it: `over` has the fields that came later.
    """

    prefix: str = ""
    over: "Place | None" = None
    fields: frozenset[str] = frozenset()

    def field(self, name: str) -> str:
        if self.over is not None and name in self.fields:
            return self.over.field(name)
        return f"{self.prefix}.{name}" if self.prefix else name

    def param(self, name: str) -> str:
        """A body of its own addresses a parameter by its bare name, as the reference does."""
        return f"{self.field('params')}.{name}" if self.prefix else name


class Findings(Struct):
    """What was found wrong, and what is only worth a word."""

    errors: list[FieldError]
    warnings: list[FieldError]

    def refuse(self, path: str, message: str, code: str = "invalid") -> None:
        self.errors.append(FieldError(path=path, message=message, code=code))

    def warn(self, path: str, message: str, code: str = "note") -> None:
        self.warnings.append(FieldError(path=path, message=message, code=code))


def check_params(declared: Iterable[Param], params: Params, at: Place, found: Findings) -> None:
    """Holds each parameter against its declaration, in the order sent; then what is missing."""
    known = {param.name: param for param in declared}
    for name, value in params.items():
        param = known.get(name)
        if param is None:
            found.refuse(at.param(name), _unknown(name, known), "unknown_param")
            continue
        if fault := _fault_of(param, value, params):
            found.refuse(at.param(name), *fault)
        elif param.without_effect:
            found.warn(at.param(name), f"{name} has no effect in this version", "without_effect")
    for param in known.values():
        if param.required_when and param.required_when.holds(params) and not params.get(param.name):
            message = f"{param.name} is required when {param.required_when.words}"
            found.refuse(at.param(param.name), message, "required")


def reference_in(value: str) -> str | None:
    """The secret that a value refers to as a whole, e.g. `ds.sales.s3_key`, or None for a literal."""
    match = _REFERENCE.fullmatch(value.strip())
    return match[1] if match else None


def is_on(value: str | None) -> bool:
    return SWITCH_WORDS.get((value or "").lower(), False)


def _unknown(name: str, known: Iterable[str]) -> str:
    shown = name[:64]
    close = difflib.get_close_matches(shown, list(known), n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"{shown} is an unknown parameter{hint}"


def _fault_of(param: Param, value: str, params: Params) -> tuple[str, str] | None:
    if "${" in value and not param.credential:
        return f"{param.name} must be written out: only credentials refer to secrets", "secret_reference"
    condition = param.only_when
    if condition and not condition.holds(params):
        return f"{param.name} needs {condition.param} set to {condition.value}", "conflict"
    if param.required_when and not value:
        return None  # told once, as missing
    wish = _WISHES[param.kind](param, value)
    return (f"{param.name} must be {wish}", "invalid") if wish else None


def _choice(param: Param, value: str) -> str:
    return "" if value in param.choices else f"one of {', '.join(param.choices)}"


def _count(_: Param, value: str) -> str:
    return (
        "" if value.isascii() and value.isdigit() and int(value[:12]) > 0 else "a whole number of at least 1"
    )


def _url(_: Param, value: str) -> str:
    try:
        parts = urlsplit(value)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        fine = False
    return "" if fine else "a URL that begins with http:// or https://"


def _text(_: Param, value: str) -> str:
    return "" if value else "a text that is not empty"


def _switch(_: Param, value: str) -> str:
    return "" if value.lower() in SWITCH_WORDS else "true or false"


def _character(_: Param, value: str) -> str:
    return "" if len(value) == 1 else "one character"


def _duration(_: Param, value: str) -> str:
    return "" if _DURATION.fullmatch(value) else "a duration such as 30s or 1h30m"


# What a value should be in words, or '' when it is that.
_WISHES: dict[Kind, Callable[[Param, str], str]] = {
    "text": _text,
    "choice": _choice,
    "switch": _switch,
    "count": _count,
    "character": _character,
    "url": _url,
    "duration": _duration,
}
