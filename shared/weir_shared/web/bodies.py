"""A JSON body held against what its route takes: every field's fault, where the decoder stops at the first."""

import re
from typing import Any, Literal, get_args, get_origin

import msgspec

from weir_shared.errors import FieldError, field_error_of

_INDEX = re.compile(r"\[(\d+|\.\.\.)\]")


def field_faults(body: bytes, kind: Any) -> list[FieldError]:
    """What is wrong with the fields of a body that should be a `kind` of Struct, in the order of its fields.

    Empty for a body that is right, for one that is no JSON object, and for a kind that is no Struct: those are
    told well enough by the decoder. Places are written `tools.0`.
    """
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return []
    try:
        msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError:
        fields = _object(body)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return []
    else:
        return []
    if fields is None:
        return []
    found = [_fault(fields, field) for field in msgspec.structs.fields(kind)]
    return [fault for fault in found if fault]


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        # The decoder stopped at a wrong field, and what follows may be no JSON at all.
        return None


def _fault(fields: dict[str, Any], field: msgspec.structs.FieldInfo) -> FieldError | None:
    name = field.encode_name
    if name not in fields:
        missing = FieldError(path=name, message=f"{name} is required", code="required")
        return missing if field.required else None
    try:
        msgspec.convert(fields[name], field.type)
    except msgspec.ValidationError as fault:
        inner = field_error_of(fault)
        within = _INDEX.sub(r".\1", inner.path).strip(".")
        path = f"{name}.{within}" if within else name
        choices = _choices(field.type) if inner.message.startswith("Invalid enum value") else []
        hint = f"; it is one of {', '.join(choices)}" if choices else ""
        return FieldError(path=path, message=inner.message + hint, code=inner.code)
    return None


def _choices(kind: Any) -> list[str]:
    """The texts that a field may be, when it may be one of several only."""
    if get_origin(kind) is Literal:
        return [str(choice) for choice in get_args(kind)]
    return [choice for part in get_args(kind) for choice in _choices(part)]
