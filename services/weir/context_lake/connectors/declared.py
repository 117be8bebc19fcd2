"""How a connector declares its parameters once, and how a dataset's parameters are held against that."""

import difflib
import re
from collections.abc import Iterable, Mapping

from msgspec import Struct

from weir.context_lake.connectors.kinds import Kind, is_on, wish_of
from weir_shared.errors import FieldError

Params = Mapping[str, str]

_REFERENCE = re.compile(r"\$\{\s*secrets\s*:\s*([^{}]*?)\s*\}")


class When(Struct, frozen=True):
    """A condition on another parameter, with the words that a message has for it."""

    param: str
    value: str
    """'' when the other parameter is not given."""
    words: str

    def holds(self, params: Params) -> bool:
        return params.get(self.param, "") == self.value


class Param(Struct, frozen=True, kw_only=True):
    """One parameter of a connector; its declaration is its validation and its documentation."""

    name: str
    help: str
    kind: Kind = "text"
    credential: bool = False
    default: str | None = None
    choices: tuple[str, ...] = ()
    required: bool = False
    required_when: When | None = None
    only_when: When | None = None
    requires: tuple[str, ...] = ()
    """Parameters that have to be given with it."""
    one_of: str = ""
    """The name of a group of which a dataset has at most one."""
    also: tuple[str, ...] = ()
    """Other names that are accepted; the dataset keeps the parameter under its own."""
    option: str = ""
    """Its name in the runtime's words, when that is another."""
    without_effect: bool = False
    """Accepted so that a document of others can be used as it stands, and said to do nothing."""
    unavailable: bool = False
    """Known, and refused: without it a dataset would be read from elsewhere, as somebody else or differently."""
    unavailable_choices: tuple[str, ...] = ()
    instead: str = ""
    """The parameter that does what an unavailable one would."""


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


def with_own_names(declared: Iterable[Param], params: Params, at: Place, found: Findings) -> dict[str, str]:
    """The parameters under the names that they are declared by."""
    own = {other: param.name for param in declared for other in param.also}
    named: dict[str, str] = {}
    for name, value in params.items():
        if name in own and own[name] in params:
            found.refuse(at.param(name), f"{name} and {own[name]} are one parameter", "conflict")
        elif name in own:
            found.warn(at.param(name), f"{name} is kept as {own[name]}", "renamed")
        named.setdefault(own.get(name, name), value)
    return named


def check_params(declared: Iterable[Param], params: Params, at: Place, found: Findings) -> None:
    """Holds each parameter against its declaration, in the order sent; then what is missing."""
    known = {param.name: param for param in declared}
    for name, value in params.items():
        param = known.get(name)
        if param is None:
            found.refuse(at.param(name), _unknown(name, known), "unknown_param")
        elif fault := _fault_of(param, value, params) or _rival_of(param, params, known):
            found.refuse(at.param(name), *fault)
        elif param.without_effect:
            found.warn(at.param(name), f"{name} has no effect in this version", "without_effect")
    for name, reason in _missing(known, params).items():
        message = f"{name} is required when {reason}" if reason else f"{name} is required"
        found.refuse(at.param(name), message, "required")


def options_of(declared: Iterable[Param], params: Params) -> dict[str, str]:
    """The parameters that have an effect, in the runtime's words."""
    return {
        param.option or param.name: str(is_on(value)).lower() if param.kind == "switch" else value
        for param in declared
        if (value := params.get(param.name)) and not param.without_effect and not param.unavailable
    }


def reference_in(value: str) -> str | None:
    """The secret that a value refers to as a whole, e.g. `ds.sales.s3_key`, or None for a literal."""
    match = _REFERENCE.fullmatch(value.strip())
    return match[1] if match else None


def literal_of(params: Params, name: str) -> str:
    """A credential's text, or '' when it is not given or is a reference to what was checked before."""
    value = params.get(name, "")
    return "" if reference_in(value) else value


def _unknown(name: str, known: Mapping[str, Param]) -> str:
    shown = name[:64]
    others = [other for param in known.values() for other in param.also]
    close = difflib.get_close_matches(shown, [*known, *others], n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"{shown} is an unknown parameter{hint}"


def _fault_of(param: Param, value: str, params: Params) -> tuple[str, str] | None:
    condition = param.only_when
    if "${" in value and not param.credential:
        return f"{param.name} must be written out: only credentials refer to secrets", "secret_reference"
    if param.unavailable:
        hint = f"; use {param.instead}" if param.instead else ""
        return f"{param.name} is not available in this version{hint}", "not_available"
    if condition and not condition.holds(params):
        return f"{param.name} needs {condition.param} set to {condition.value}", "conflict"
    if value in param.unavailable_choices:
        return f"{param.name} {value} is not available in this version", "not_available"
    wish = _wish_of(param, value)
    return (f"{param.name} must be {wish}", "invalid") if wish else None


def _wish_of(param: Param, value: str) -> str:
    if not value and (param.required or param.required_when):
        return ""  # told once, as missing
    if param.credential and reference_in(value):
        return ""  # checked when it was sealed
    return wish_of(param.kind, value, param.choices)


def _rival_of(param: Param, params: Params, known: Mapping[str, Param]) -> tuple[str, str] | None:
    """A parameter before this one, of the same group."""
    if not param.one_of or not _is_given(param, params):
        return None
    for name in params:
        other = known.get(name)
        if other is param:
            return None
        if other and other.one_of == param.one_of and _is_given(other, params):
            return f"{param.name} and {name} exclude each other: give one of them", "conflict"
    return None


def _is_given(param: Param, params: Params) -> bool:
    value = params.get(param.name)
    return is_on(value) if param.kind == "switch" else bool(value)


def _missing(known: Mapping[str, Param], params: Params) -> dict[str, str]:
    """Names that are not given, each with why it is needed, in the order declared."""
    reasons = {
        needed: f"{param.name} is given"
        for param in known.values()
        if params.get(param.name) and not param.unavailable
        for needed in param.requires
    }
    for param in known.values():
        if param.required:
            reasons[param.name] = ""
        elif param.required_when and param.required_when.holds(params):
            reasons[param.name] = param.required_when.words
    return {name: reasons[name] for name in known if name in reasons and not params.get(name)}
