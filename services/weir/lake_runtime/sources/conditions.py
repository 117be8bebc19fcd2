"""A filter as the engine hands it over, as a condition in a source's SQL.

The engine does not filter again what it has handed over. So a condition may let too many rows through
(`is_exact` is false then, and the caller filters what arrives), but never too few: what cannot be said
exactly is left out of a conjunction, and nothing inexact is negated.
"""

import math
import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

_COMPARISONS = {"equal": "=", "not_equal": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_MIRRORED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_EPOCH = datetime(1970, 1, 1)
_MAX_DEPTH = 60

Value = bool | int | float | str | bytes | Decimal | date | datetime
Kind = Literal["plain", "text", "uuid", "opaque"]


class SourceColumn(Struct, frozen=True, kw_only=True):
    """A column of a table in a source, and how its SQL reads and compares it."""

    name: str
    type: pa.DataType
    selected: str
    """The expression that yields a value of `type`."""
    compared: str
    """The expression that a condition compares."""
    kind: Kind = "plain"
    """`text` compares by bytes; `uuid` is equal to canonical literals only; `opaque` is null or not."""
    is_nullable: bool = True
    is_long: bool = False
    """Whether a text may be longer than what the source looks at when it sorts."""
    proper: str = ""
    """Of a column with values that are null to the engine and none to the source: what tells the others."""


class Dialect(Struct, frozen=True, kw_only=True):
    """How a source writes names and values. `None` instead of SQL: cannot be said."""

    name: Callable[[str], str]
    literal: Callable[[Value], str | None]
    text_order: Callable[[str], str | None]
    """A text expression that `<` and `<>` compare by bytes, as the engine does."""
    is_equality_exact: bool = True
    """Whether `=` on text is by bytes; otherwise it may find more."""
    asks_twice: bool = False
    """Whether `=` that may find more is asked by bytes, too, and so becomes exact; an index still serves."""
    prunes_only: bool = False
    """Whether the source may pass over a condition: then what arrives is filtered again."""


class Condition(Struct, frozen=True):
    sql: str
    is_exact: bool
    is_negatable: bool = True
    """Whether it is null, not false, where the engine's is: only then does its negation find the same."""


class _Compared(Struct, frozen=True):
    left: str
    right: str
    is_exact: bool
    by_bytes: str = ""
    """The left side for the second time of asking."""
    proper: str = ""


class Pushed(Struct, frozen=True):
    condition: Condition | None
    """None: nothing of the filter can be said."""
    columns: frozenset[str] | None
    """What the filter reads; None when that is not known."""


def push(expression: pc.Expression, columns: list[SourceColumn], dialect: Dialect) -> Pushed:
    """The part of a filter that the source can do."""
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - loaded with the first database
    from substrait.extended_expression_pb2 import ExtendedExpression  # noqa: PLC0415

    schema = pa.schema([(column.name, column.type) for column in columns])
    message: Any = ExtendedExpression()
    try:
        message.ParseFromString(bytes(expression.to_substrait(schema)))
    except (pa.ArrowException, NotImplementedError, DecodeError, RecursionError):
        return Pushed(None, None)
    functions = {e.extension_function.function_anchor: e.extension_function.name for e in message.extensions}
    reader = _Reader(columns, dialect, functions)
    condition = reader.condition(message.referred_expr[0].expression, 0)
    if condition is not None and dialect.prunes_only:
        condition = Condition(condition.sql, False)
    return Pushed(condition, frozenset(reader.seen) if reader.has_seen_all else None)


def condition_of(
    expression: Any, columns: list[SourceColumn], dialect: Dialect, functions: dict[int, str]
) -> Condition | None:
    """The part of a Substrait expression over these columns that the source can do."""
    return _Reader(columns, dialect, functions).condition(expression, 0)


class _Reader:
    def __init__(self, columns: list[SourceColumn], dialect: Dialect, functions: dict[int, str]) -> None:
        self._columns = columns
        self._dialect = dialect
        self._functions = functions
        self.seen: set[str] = set()
        self.has_seen_all = True

    def condition(self, expression: Any, depth: int) -> Condition | None:
        if depth > _MAX_DEPTH:
            return self._lost()
        match expression.WhichOneof("rex_type"):
            case "scalar_function":
                return self._function(expression.scalar_function, depth + 1)
            case "singular_or_list":
                return self._in(expression.singular_or_list)
            case "selection":
                column = self._column(expression)
                if column is None or not pa.types.is_boolean(column.type) or column.kind != "plain":
                    return None
                return Condition(column.compared, True)
            case _:
                return self._lost()

    def _function(self, call: Any, depth: int) -> Condition | None:
        name = self._functions.get(call.function_reference, "")
        arguments = [argument.value for argument in call.arguments]
        if name in ("and", "or"):
            parts = [self.condition(argument, depth) for argument in arguments]
            return _all(parts) if name == "and" else _any(parts)
        if name == "not":
            inner = self.condition(arguments[0], depth)
            is_exact = inner is not None and inner.is_exact and inner.is_negatable
            return Condition(f"(NOT {inner.sql})", True) if inner is not None and is_exact else None
        if name in ("is_null", "is_not_null"):
            column = self._column(arguments[0])
            if column is None:
                return None
            return _presence(column, is_null=name == "is_null")
        if name in _COMPARISONS:
            return self._comparison(_COMPARISONS[name], arguments[0], arguments[1])
        return self._lost()

    def _comparison(self, sign: str, left: Any, right: Any) -> Condition | None:
        if left.WhichOneof("rex_type") == "literal":
            left, right, sign = right, left, _MIRRORED[sign]
        column = self._column(left)
        if right.WhichOneof("rex_type") != "literal":
            other = self._column(right)
            return None if column is None or other is None else self._of_two(column, sign, other)
        value = _value(right.literal)
        compared = None if column is None or value is None else self._compared(column, sign, value)
        return None if compared is None else _condition(compared, sign)

    def _of_two(self, left: SourceColumn, sign: str, right: SourceColumn) -> Condition | None:
        are_whole = pa.types.is_signed_integer(left.type) and pa.types.is_signed_integer(right.type)
        if left.kind != right.kind or not (are_whole or left.type == right.type):
            return None
        if pa.types.is_floating(left.type):
            return None
        if left.kind == "plain":
            return _proper(f"({left.compared} {sign} {right.compared})", True, left.proper, right.proper)
        if left.kind != "text":
            return None
        ordered = [self._dialect.text_order(column.compared) for column in (left, right)]
        return None if None in ordered else Condition(f"({ordered[0]} {sign} {ordered[1]})", True)

    def _in(self, choice: Any) -> Condition | None:
        column = self._column(choice.value)
        if column is None:
            return None
        parts: list[_Compared] = []
        for option in choice.options:
            value = _value(option.literal) if option.WhichOneof("rex_type") == "literal" else None
            part = None if value is None else self._compared(column, "=", value)
            if part is None:
                return None
            parts.append(part)
        if not parts or len({part.left for part in parts}) > 1:
            return _any([_condition(part, "=") for part in parts])
        values = ", ".join(part.right for part in parts)
        return _said(parts[0], f"IN ({values})", is_exact=all(part.is_exact for part in parts))

    def _compared(self, column: SourceColumn, sign: str, value: Value) -> _Compared | None:
        literal = self._dialect.literal(value)
        if literal is None or column.kind == "opaque":
            return None
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if not isinstance(value, str):
            is_plain = column.kind == "plain"
            return _Compared(column.compared, literal, True, proper=column.proper) if is_plain else None
        return self._compared_text(column, sign, value, literal)

    def _compared_text(self, column: SourceColumn, sign: str, value: str, literal: str) -> _Compared | None:
        if column.kind == "uuid" and sign == "=":
            return _Compared(column.compared, literal, True) if _is_uuid(value) else None
        text = column.compared if column.kind == "text" else column.selected
        ordered = self._dialect.text_order(text)
        if sign == "=" and not self._dialect.is_equality_exact and self._dialect.asks_twice:
            return None if ordered is None else _Compared(text, literal, True, by_bytes=ordered)
        if sign == "=":
            return _Compared(text, literal, self._dialect.is_equality_exact)
        return None if ordered is None else _Compared(ordered, literal, True)

    def _column(self, expression: Any) -> SourceColumn | None:
        if expression.WhichOneof("rex_type") == "cast":
            # A whole number that is widened compares as before.
            column = self._column(expression.cast.input)
            widened = expression.cast.type.WhichOneof("kind") in ("i32", "i64")
            is_same = column is not None and pa.types.is_signed_integer(column.type) and widened
            return column if is_same else self._lost()
        if expression.WhichOneof("rex_type") != "selection":
            return self._lost()
        reference = expression.selection.direct_reference.struct_field
        if reference.HasField("child"):
            return self._lost()
        column = self._columns[reference.field]
        self.seen.add(column.name)
        return column

    def _lost(self) -> None:
        """Something was not looked into: which columns it reads is not known."""
        self.has_seen_all = False


def _condition(compared: _Compared, sign: str) -> Condition:
    return _said(compared, f"{sign} {compared.right}", is_exact=compared.is_exact)


def _said(compared: _Compared, rest: str, *, is_exact: bool) -> Condition:
    sql = f"({compared.left} {rest})"
    if compared.by_bytes:
        sql = f"({sql} AND ({compared.by_bytes} {rest}))"
    return _proper(sql, is_exact, compared.proper)


def _proper(sql: str, is_exact: bool, *proper: str) -> Condition:
    """A comparison that finds none of the values that are null to the engine."""
    wanted = [condition for condition in proper if condition]
    if not wanted:
        return Condition(sql, is_exact)
    return Condition(f"({' AND '.join([sql, *wanted])})", is_exact, is_negatable=False)


def _presence(column: SourceColumn, *, is_null: bool) -> Condition:
    sql = f"({column.compared} IS {'' if is_null else 'NOT '}NULL)"
    if column.proper:
        sql = f"({sql} OR NOT {column.proper})" if is_null else f"({sql} AND {column.proper})"
    return Condition(sql, True)


def _all(parts: list[Condition | None]) -> Condition | None:
    said = [part for part in parts if part is not None]
    if not said:
        return None
    is_exact = len(said) == len(parts) and all(part.is_exact for part in said)
    is_negatable = all(part.is_negatable for part in said)
    return Condition("(" + " AND ".join(part.sql for part in said) + ")", is_exact, is_negatable)


def _any(parts: list[Condition | None]) -> Condition | None:
    said = [part for part in parts if part is not None]
    if not said or len(said) < len(parts):
        return None
    is_exact, is_negatable = all(p.is_exact for p in said), all(p.is_negatable for p in said)
    return Condition("(" + " OR ".join(p.sql for p in said) + ")", is_exact, is_negatable)


def _is_uuid(text: str) -> bool:
    groups = text.split("-")
    is_hex = all(sign in "0123456789abcdef-" for sign in text)
    return is_hex and [len(group) for group in groups] == [8, 4, 4, 4, 12]


def _value(literal: Any) -> Value | None:
    """The Python value of a literal; None for null and for what is not known here."""
    kind = literal.WhichOneof("literal_type")
    if kind in ("boolean", "i8", "i16", "i32", "i64", "fp32", "fp64", "string", "binary"):
        return getattr(literal, kind)
    if kind == "decimal":
        unscaled = int.from_bytes(literal.decimal.value, "little", signed=True)
        return Decimal(unscaled).scaleb(-literal.decimal.scale)
    if kind == "date":
        return _moment((_EPOCH + timedelta(days=literal.date)).date)
    if kind in ("precision_timestamp", "precision_timestamp_tz"):
        stamp = getattr(literal, kind)
        return _timestamp(stamp.value, stamp.precision, has_zone=kind.endswith("tz"))
    if kind == "user_defined":
        return _unsigned(literal.user_defined)
    return _deprecated_timestamp(literal) if kind is None else None


def _unsigned(literal: Any) -> Value | None:
    """Arrow's own way to write an unsigned number, which the specification does not know."""
    from google.protobuf.wrappers_pb2 import UInt64Value  # noqa: PLC0415

    wrapped = UInt64Value()
    return wrapped.value if literal.value.Unpack(wrapped) else None


def _deprecated_timestamp(literal: Any) -> Value | None:
    """Microseconds in a field that the specification has dropped and Arrow still writes."""
    from google.protobuf.unknown_fields import UnknownFieldSet  # noqa: PLC0415

    for field in UnknownFieldSet(literal):
        if field.field_number in (14, 27):
            (value,) = struct.unpack("<q", struct.pack("<Q", field.data))
            return _timestamp(value, 6, has_zone=field.field_number == 27)
    return None


def _timestamp(value: int, precision: int, *, has_zone: bool) -> Value | None:
    if precision > 6 and value % 10 ** (precision - 6):
        return None
    micros = value // 10 ** (precision - 6) if precision > 6 else value * 10 ** (6 - precision)
    naive = _moment(lambda: _EPOCH + timedelta(microseconds=micros))
    return naive.replace(tzinfo=UTC) if isinstance(naive, datetime) and has_zone else naive


def _moment(make: Callable[[], date]) -> date | None:
    try:
        return make()
    except OverflowError:
        return None
