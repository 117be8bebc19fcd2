"""What the SQL of all sources has in common: quoted names, quoted values, batches under a schema."""

from datetime import date, datetime
from decimal import Decimal

import pyarrow as pa

from weir.lake_runtime.sources.conditions import Value


def quote_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str | None:
    """None when the text holds what no text literal can."""
    return None if "\0" in text else "'" + text.replace("'", "''") + "'"


def literal(value: Value) -> str | None:
    """A value in standard SQL; a float is written so that no source takes it for a decimal."""
    text: str | None = None
    match value:
        case bool():
            text = "TRUE" if value else "FALSE"
        case str():
            text = quote_text(value)
        case datetime():
            kind = "TIMESTAMP" if value.tzinfo is None else "TIMESTAMPTZ"
            text = f"{kind} '{value.isoformat(sep=' ')}'"
        case date():
            text = f"DATE '{value.isoformat()}'"
        case float():
            text = repr(value) if "e" in repr(value) else f"{value!r}e0"
        case Decimal():
            text = f"{value:f}"
        case int():
            text = str(value)
        case bytes():
            pass
    return text


def is_plain(kind: pa.DataType) -> bool:
    """Whether every source and the engine compare values of this type alike."""
    types = pa.types
    return (
        types.is_boolean(kind)
        or types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_decimal(kind)
        or types.is_date(kind)
        or types.is_timestamp(kind)
        or types.is_time(kind)
    )


def cast(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch under the schema's names and types; a driver's own type is read as what it is stored as."""
    arrays: list[pa.Array] = []
    for column, field in zip(batch.columns, schema, strict=False):
        array = column.storage if isinstance(column, pa.ExtensionArray) else column
        arrays.append(array if array.type == field.type else array.cast(field.type))
    if not arrays:
        return batch.select([]) if batch.num_columns else batch
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
