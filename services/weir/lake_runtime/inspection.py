"""A process that reads one uploaded file from end to end, as a runtime would, and says what it holds.

The desk starts it and speaks one line of JSON each way: `{"path", "format", "options", "bytes"}` is answered with
`{"columns", "rows", "schema", "params"}`, or `{"error": sentence}`. It has neither secrets nor a lake. A file that
kills it is one that a runtime should not meet.
"""

import base64
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pyarrow as pa
from datafusion import SessionContext
from datafusion.catalog import Table
from msgspec import Struct

from weir.lake_runtime.faults import Fault, SourceError, source_reason
from weir.lake_runtime.relations import columns_of
from weir.lake_runtime.settings import MEBIBYTE, RuntimeSettings
from weir.lake_runtime.sources.opening import open_source
from weir.lake_runtime.wire import Column, Dataset

# An idle engine maps 2.5 GB, and hangs below 3: what is above is the file's.
ADDRESS_SPACE_BYTES = 4 * 1024**3
POOL_BYTES = 512 * MEBIBYTE
# A file whose rows unpack to more than this, and to so many times its size, is a bomb and no data.
UNPACKED_BYTES = 1024**3
UNPACKED_TIMES = 200
# Types of text formats are guessed from so many rows; when a later one belies them, from all.
SAMPLED_ROWS = 1000
ALL_ROWS = 999_999_999


class Wanted(Struct, frozen=True, kw_only=True):
    path: str
    format: str
    options: dict[str, str] = {}
    bytes: int


class Found(Struct, frozen=True, kw_only=True):
    columns: list[Column] = []
    rows: int = 0
    schema: str = ""
    params: dict[str, str] = {}
    error: str | None = None


class Unusable(Exception):
    """The file can be read, and still makes no table."""


def inspect(wanted: Wanted) -> Found:
    """Reads the file; every fault of it is in the answer."""
    try:
        return _read(wanted, {})
    except Unusable as fault:
        return Found(error=str(fault))
    except Exception as fault:  # noqa: BLE001 - the engine raises bare exceptions
        first = fault
    if wanted.format in ("csv", "tsv", "json"):
        params = {"schema_infer_max_records": str(ALL_ROWS)}
        try:
            return _read(wanted, params)
        except Unusable as fault:
            return Found(error=str(fault))
        except Exception as fault:  # noqa: BLE001
            first = fault
    return Found(error=_reason(first, wanted))


def _read(wanted: Wanted, params: dict[str, str]) -> Found:
    table = _open(wanted, wanted.options | params)
    schema = table.schema
    if not schema.names:
        raise Unusable("it has no columns")
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise Unusable(f"it has two columns of the name {twice[0]!r}")
    rows = _count(table, wanted)
    if params and rows <= SAMPLED_ROWS:
        params = {}
    message = schema.remove_metadata().serialize().to_pybytes()
    return Found(
        columns=columns_of(schema), rows=rows, schema=base64.b64encode(message).decode(), params=params
    )


def _open(wanted: Wanted, options: dict[str, str]) -> Table:
    path = Path(wanted.path)
    dataset = Dataset(
        name="file",
        connector="import",
        format=wanted.format,  # type: ignore[arg-type]
        location=wanted.path,
        options=dict[str, Any](options),
        roots=[str(path.parent)],
    )
    settings = RuntimeSettings(
        tenant="",
        epoch=0,
        secret="",
        memory_limit_bytes=2 * POOL_BYTES,
        cache_dir=path.parent,
        import_root=path.parent,
        partitions=min(2, os.cpu_count() or 1),
    )
    return open_source(dataset, 0, settings).table


def _count(table: Table, wanted: Wanted) -> int:
    """Every row, every column: a fault anywhere in the file is found now."""
    most = max(UNPACKED_BYTES, UNPACKED_TIMES * wanted.bytes)
    rows = unpacked = 0
    for batch in SessionContext().read_table(table).execute_stream():
        content = batch.to_pyarrow()
        rows += content.num_rows
        unpacked += sum(_memory_of(column) for column in content.columns)
        if unpacked > most:
            raise Unusable(f"it unpacks to more than {most // MEBIBYTE} MiB, far beyond its size")
    return rows


def _memory_of(column: pa.Array) -> int:
    """What a column adds: texts are shared among rows and batches, each of which would count them anew."""
    if pa.types.is_string_view(column.type) or pa.types.is_binary_view(column.type):
        return 16 * len(column)
    return column.nbytes


def _reason(fault: Exception, wanted: Wanted) -> str:
    text = fault.reason if isinstance(fault, SourceError) else str(fault)
    if isinstance(fault, Fault) and not isinstance(fault, SourceError):
        text = fault.message
    path = wanted.path
    # Where the platform keeps it is nobody's business.
    for shown in (f"file://{quote(path)}", f"file://{path}", path, path.lstrip("/"), quote(path.lstrip("/"))):
        text = text.replace(shown, "the file")
    return source_reason(text)


def main() -> None:
    wanted = msgspec.json.decode(sys.stdin.buffer.readline(), type=Wanted)
    sys.stdout.buffer.write(msgspec.json.encode(inspect(wanted)) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    # Ctrl-C reaches the whole group: the desk ends it when it has no more use for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for kind, most in (
        (resource.RLIMIT_AS, ADDRESS_SPACE_BYTES),
        (resource.RLIMIT_CPU, 300),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (limit, limit))
    main()
