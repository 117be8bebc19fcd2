"""Record batches as the bytes of an answer, a slice at a time.

JSON follows the platform's value table: integers exact, decimals to the digit, NaN null, binary hex,
dates and times ISO 8601, null keys present. `arro3` writes all of it but for the types in `_retype`.
"""

import io
from collections.abc import Iterator
from typing import Any, Protocol

import msgspec
import pyarrow as pa
from arro3.io import write_csv, write_json, write_ndjson

from weir.lake_runtime import moments
from weir.lake_runtime.intervals import iso_intervals
from weir.lake_runtime.relations import columns_of
from weir.lake_runtime.text_table import TextTable

# Encoding holds the interpreter's lock, 2 ms for 4,096 rows of 8 columns: the event loop breathes between.
# Text of this size also stays in the processor's cache: 8,192 rows at a time take a tenth longer.
_SLICE_ROWS = 4_096
_SLICE_BYTES = 1024 * 1024


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    rowCount: int
    truncated: bool
    durationMs: float
    coldStart: bool


class Encoder(Protocol):
    content_type: str
    has_plain_tail: bool
    """Whether `tail` depends on its argument alone, so that kept rows can be ended again."""

    def head(self) -> bytes: ...

    def rows(self, batch: pa.RecordBatch) -> bytes: ...

    def tail(self, summary: Summary) -> bytes: ...


def encoder_for(form: str, schema: pa.Schema, *, int64_as_text: bool = False) -> Encoder:
    """`int64_as_text` is for readers whose numbers are floats; it matters to the forms that are JSON."""
    encoder = _ENCODERS[form](schema)
    if int64_as_text and isinstance(encoder, _Json):
        encoder.write_int64_as_text()
    return encoder


def slices(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Parts of a batch that encode in a few milliseconds each, however wide the rows are."""
    if batch.num_rows == 0:
        return
    row_bytes = max(1, batch.nbytes // batch.num_rows)
    step = max(1, min(_SLICE_ROWS, _SLICE_BYTES // row_bytes))
    for start in range(0, batch.num_rows, step):
        yield batch.slice(start, step)


class _Json:
    content_type = "application/json"
    has_plain_tail = True

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._names = distinct_names(schema.names)
        self._columns = columns_of(schema)
        self._odd = [i for i, field in enumerate(schema) if _needs_retype(field.type)]
        self._moments = [i for i, field in enumerate(schema) if moments.has_quicker_text(field.type)]
        self._is_renamed = self._names != schema.names
        self._wide: dict[int, pa.DataType] = {}
        self._separator = b""
        # Kept from slice to slice: a fresh buffer would grow, and be touched for the first time, every time.
        self._sink = io.BytesIO()

    def write_int64_as_text(self) -> None:
        kinds = {i: _int64_as_text(column.type) for i, column in enumerate(self._schema)}
        self._wide = {i: kind for i, kind in kinds.items() if kind != self._schema.field(i).type}

    def head(self) -> bytes:
        return b'{"rows":['

    def rows(self, batch: pa.RecordBatch) -> bytes:
        self._sink.seek(0)
        write_json(self._prepare(batch), self._sink, explicit_nulls=True)
        separator, self._separator = self._separator, b","
        with self._sink.getbuffer() as whole:
            return b"".join((separator, whole[1 : self._sink.tell() - 1]))

    def tail(self, summary: Summary) -> bytes:
        columns = [
            msgspec.structs.replace(column, name=name)
            for column, name in zip(self._columns, self._names, strict=True)
        ]
        rest = msgspec.json.encode({"schema": columns, **msgspec.structs.asdict(summary)})
        return b"]," + rest[1:]

    def _written(self) -> bytes:
        with self._sink.getbuffer() as whole:
            return bytes(whole[: self._sink.tell()])

    def _prepare(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if not self._odd and not self._moments and not self._wide and not self._is_renamed:
            return batch
        arrays = list(batch.columns)
        for i in self._odd:
            arrays[i] = _retype(arrays[i])
        for i in self._moments:
            arrays[i] = moments.as_text(arrays[i])
        for i, kind in self._wide.items():
            arrays[i] = _decoded(arrays[i]).cast(kind)
        return pa.record_batch(arrays, names=self._names)


class _NdJson(_Json):
    content_type = "application/x-ndjson"

    def head(self) -> bytes:
        return b""

    def rows(self, batch: pa.RecordBatch) -> bytes:
        self._sink.seek(0)
        write_ndjson(self._prepare(batch), self._sink, explicit_nulls=True)
        return self._written()

    def tail(self, summary: Summary) -> bytes:
        return b""


class _Csv(_Json):
    content_type = "text/csv; charset=utf-8"

    def head(self) -> bytes:
        sink = io.BytesIO()
        empty = pa.record_batch([pa.array([], pa.string())] * len(self._names), names=self._names)
        write_csv(empty, sink, header=True)
        return sink.getvalue() or b",".join(name.encode() for name in self._names) + b"\n"

    def rows(self, batch: pa.RecordBatch) -> bytes:
        self._sink.seek(0)
        write_csv(self._flat(self._prepare(batch)), self._sink, header=False)
        return self._written()

    def tail(self, summary: Summary) -> bytes:
        return b""

    def _flat(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """CSV has no lists or structs: they are written as JSON text."""
        arrays = [_as_json_text(c) if pa.types.is_nested(c.type) else c for c in batch.columns]
        return pa.record_batch(arrays, names=batch.schema.names)


class _Text(_Json):
    """A table for people; laid out when its last row is known."""

    content_type = "text/plain; charset=utf-8"

    def __init__(self, schema: pa.Schema) -> None:
        super().__init__(schema)
        self._table = TextTable(self._names)

    def head(self) -> bytes:
        return b""

    def rows(self, batch: pa.RecordBatch) -> bytes:
        self._table.add(self._prepare(batch))
        return b""

    def tail(self, summary: Summary) -> bytes:
        return self._table.layout(truncated=summary.truncated).encode()


class _Arrow:
    content_type = "application/vnd.apache.arrow.stream"
    has_plain_tail = False

    def __init__(self, schema: pa.Schema) -> None:
        names = distinct_names(schema.names)
        self._schema = pa.schema([f.with_name(n) for f, n in zip(schema, names, strict=True)])
        self._sink = io.BytesIO()
        self._writer = pa.ipc.new_stream(self._sink, self._schema)

    def head(self) -> bytes:
        return b""

    def rows(self, batch: pa.RecordBatch) -> bytes:
        self._writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=self._schema))
        return self._take()

    def tail(self, summary: Summary) -> bytes:
        self._writer.close()
        return self._take()

    def _take(self) -> bytes:
        written = self._sink.getvalue()
        self._sink.seek(0)
        self._sink.truncate()
        return written


_ENCODERS = {"json": _Json, "ndjson": _NdJson, "csv": _Csv, "arrow": _Arrow, "text": _Text}


def distinct_names(names: list[str]) -> list[str]:
    """Rows are objects, so columns of one name would lose data: `x, x, x` become `x, x_1, x_2`."""
    taken = set(names)
    seen: set[str] = set()
    distinct: list[str] = []
    for name in names:
        chosen, count = name, 0
        while chosen in seen or (count and chosen in taken):
            count += 1
            chosen = f"{name}_{count}"
        seen.add(chosen)
        distinct.append(chosen)
    return distinct


def _needs_retype(kind: Any) -> bool:
    types = pa.types
    if types.is_date64(kind) or types.is_interval(kind):
        return True
    if types.is_map(kind):
        return not _is_text(kind.key_type) or _needs_retype(kind.item_type)
    return any(_needs_retype(kind.field(i).type) for i in range(kind.num_fields))


def _retype(array: pa.Array) -> pa.Array:
    """The same values in a type whose JSON is the platform's: date64, intervals, maps of other keys."""
    if array.offset:
        # A slice's offsets cannot be used to build an array: take its rows out first.
        array = array.take(pa.array(range(len(array)), pa.int64()))
    kind, types = array.type, pa.types
    if types.is_date64(kind):
        return array.cast(pa.date32())
    if types.is_interval(kind):
        return iso_intervals(array)
    if types.is_map(kind):
        return _retype_map(array)
    if types.is_struct(kind):
        fields = [_retype(array.field(i)) for i in range(kind.num_fields)]
        names = [kind.field(i).name for i in range(kind.num_fields)]
        return pa.StructArray.from_arrays(fields, names=names, mask=array.is_null())
    if types.is_fixed_size_list(kind):
        array, kind = array.cast(pa.list_(kind.value_type)), pa.list_(kind.value_type)
    if (types.is_list(kind) or types.is_large_list(kind)) and _needs_retype(kind):
        make = pa.LargeListArray if types.is_large_list(kind) else pa.ListArray
        return make.from_arrays(array.offsets, _retype(array.values), mask=array.is_null())
    return array


def _int64_as_text(kind: Any) -> Any:
    """The type whose JSON has this one's integers of 64 bits as texts, inside lists, structs and maps too."""
    types = pa.types
    if types.is_int64(kind) or types.is_uint64(kind):
        return pa.string()
    if types.is_dictionary(kind):
        inner = _int64_as_text(kind.value_type)
        return kind if inner == kind.value_type else inner
    if types.is_map(kind):
        return pa.map_(
            kind.key_type if _is_text(kind.key_type) else pa.string(), _int64_as_text(kind.item_type)
        )
    if types.is_struct(kind):
        return pa.struct([f.with_type(_int64_as_text(f.type)) for f in kind.fields])
    if types.is_list(kind) or types.is_fixed_size_list(kind):
        return pa.list_(_int64_as_text(kind.value_type))
    return pa.large_list(_int64_as_text(kind.value_type)) if types.is_large_list(kind) else kind


def _decoded(array: pa.Array) -> pa.Array:
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _retype_map(array: pa.Array) -> pa.Array:
    """Object keys are strings: any other key is written as the text of its JSON."""
    keys = array.keys
    if not _is_text(keys.type):
        keys = pa.array([_unquoted(text) for text in _as_json_text(_retype(keys)).to_pylist()], pa.string())
    return pa.MapArray.from_arrays(array.offsets, keys, _retype(array.items), mask=array.is_null())


def _is_text(kind: Any) -> bool:
    types = pa.types
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _as_json_text(array: pa.Array) -> pa.Array:
    sink = io.BytesIO()
    write_ndjson(pa.record_batch([array], names=["v"]), sink, explicit_nulls=True)
    # Not `splitlines`: a text may hold what Unicode calls the end of a line.
    lines = sink.getvalue().decode().removesuffix("\n").split("\n") if len(array) else []
    # Each line is {"v":…}.
    texts = [None if line == '{"v":null}' else line[5:-1] for line in lines]
    return pa.array(texts, pa.string())


def _unquoted(text: str) -> str:
    return msgspec.json.decode(text, type=str) if text.startswith('"') else text
