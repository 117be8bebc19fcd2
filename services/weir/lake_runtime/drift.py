"""What has become of a relation's columns between two loads: nothing, something that may be taken over, or too much."""

import pyarrow as pa
from msgspec import Struct

from weir.lake_runtime.faults import Fault

_RANKS = {
    **{kind: ("int", rank) for rank, kind in enumerate((pa.int8(), pa.int16(), pa.int32(), pa.int64()))},
    **{kind: ("uint", rank) for rank, kind in enumerate((pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()))},
    **{kind: ("float", rank) for rank, kind in enumerate((pa.float16(), pa.float32(), pa.float64()))},
}
_UNITS = ("s", "ms", "us", "ns")


class SchemaDrifted(Fault):
    """The columns have changed in a way that the kept rows cannot follow."""

    status, code = 409, "schema_drift"

    def __init__(self, differences: list[str]) -> None:
        super().__init__(
            f"The columns have changed: {'; '.join(differences)}. What was loaded before stays; "
            "redeploy to take the new columns over"
        )


class Drift(Struct, frozen=True):
    added: list[str]
    widened: list[str]
    refused: list[str]
    """What cannot be followed, in words."""

    @property
    def is_none(self) -> bool:
        return not (self.added or self.widened or self.refused)


def drift_between(before: pa.Schema, now: pa.Schema) -> Drift:
    """New columns and wider types are followed; a column that is gone or means something else is not."""
    known = {field.name: plain_type(field.type) for field in before}
    found = {field.name: plain_type(field.type) for field in now}
    refused = [f"column {name} is gone" for name in known if name not in found]
    widened: list[str] = []
    for name, kind in known.items():
        other = found.get(name)
        if other is None or other == kind:
            continue
        if widens(kind, other):
            widened.append(name)
        else:
            refused.append(f"column {name} was {kind} and is {other}")
    return Drift([name for name in found if name not in known], widened, refused)


def widens(narrow: pa.DataType, wide: pa.DataType) -> bool:
    """Whether every value of the one is a value of the other, and is compared in the same way."""
    if pa.types.is_null(narrow):
        return True
    if pa.types.is_date32(narrow) and pa.types.is_timestamp(wide):
        return wide.tz is None
    if pa.types.is_timestamp(narrow) and pa.types.is_timestamp(wide):
        return narrow.tz == wide.tz and _UNITS.index(wide.unit) > _UNITS.index(narrow.unit)
    if pa.types.is_decimal(narrow) and pa.types.is_decimal(wide):
        return wide.scale >= narrow.scale and wide.precision - wide.scale >= narrow.precision - narrow.scale
    return _is_wider_number(narrow, wide)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """A type without how its text is laid out in memory, and without the names of what it nests."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_string_view(kind) or pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_binary_view(kind) or pa.types.is_large_binary(kind):
        return pa.binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_list_view(kind):
        return pa.list_(plain_type(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, plain_type(field.type)) for field in kind])
    return kind


def _is_wider_number(narrow: pa.DataType, wide: pa.DataType) -> bool:
    if narrow not in _RANKS or wide not in _RANKS:
        return False
    (kind, rank), (other, other_rank) = _RANKS[narrow], _RANKS[wide]
    if kind == other:
        return other_rank > rank
    if kind == "uint" and other == "int":
        return other_rank > rank
    # A column of whole numbers is read as one of fractions as soon as there is one.
    return kind in ("int", "uint") and wide == pa.float64()
