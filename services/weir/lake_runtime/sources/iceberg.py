"""Iceberg tables by their metadata file or from a catalog, read through `pyiceberg`: files are pruned, then filtered here.

A table's metadata is somebody's file: what it says about classes to load and servers to ask is not heard,
and of the machine's files it reads those under the import root.
"""

import threading
import time
from collections.abc import Generator
from datetime import date, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from weir.lake_runtime.faults import SourceError, source_reason
from weir.lake_runtime.settings import RuntimeSettings
from weir.lake_runtime.sources import file, objects
from weir.lake_runtime.sources.conditions import Dialect, Kind, SourceColumn, Value
from weir.lake_runtime.sources.database import DatabaseTable, Query
from weir.lake_runtime.sources.durations import seconds_of
from weir.lake_runtime.sources.iceberg_catalog import CatalogTable, load_table
from weir.lake_runtime.sources.wording import cast, is_plain, quote_name, quote_text
from weir.lake_runtime.wire import Dataset

# The parser of conditions slows down with their depth.
_MAX_CONDITION = 2_000
_CONNECT_SECONDS = 5
_S3 = ("endpoint", "access_key_id", "secret_access_key", "session_token", "region")


def open_table(dataset: Dataset, settings: RuntimeSettings) -> DatabaseTable:
    """The table as its metadata describes it. Raises `SourceError`."""
    from pyiceberg.catalog.noop import NoopCatalog  # noqa: PLC0415 - loaded with the first such dataset
    from pyiceberg.exceptions import ValidationError  # noqa: PLC0415
    from pyiceberg.serializers import FromInputFile  # noqa: PLC0415
    from pyiceberg.table import StaticTable  # noqa: PLC0415
    from pyiceberg.table.metadata import TableMetadataUtil  # noqa: PLC0415

    catalog = load_table(dataset, settings) if _is_catalog(dataset) else None
    location = catalog.location if catalog else str(dataset.options.get("metadata_path") or dataset.location)
    try:
        files = _files(dataset, location, settings, catalog)
        metadata = (
            TableMetadataUtil.parse_raw(catalog.metadata)
            if catalog
            else FromInputFile.table_metadata(files.new_input(location))
        )
        table = StaticTable(("source",), metadata, location, files, NoopCatalog("source"))
        reader = IcebergReader(dataset, table, settings, catalog)
        return DatabaseTable(reader, "source", [_column(field) for field in reader.schema()])
    except (OSError, ValueError, KeyError, ValidationError, pa.ArrowException) as error:
        raise SourceError(dataset.name, source_reason(str(error))) from None


def _is_catalog(dataset: Dataset) -> bool:
    return dataset.location.startswith(("http://", "https://"))


class IcebergReader:
    def __init__(
        self, dataset: Dataset, table: Any, settings: RuntimeSettings, catalog: CatalogTable | None
    ) -> None:
        self.dataset = dataset.name
        self.dialect = DIALECT
        self._definition = dataset
        self._settings = settings
        self._table = table
        self._renew_at = catalog.renew_at if catalog else None
        self._renewing = threading.Lock()

    def schema(self) -> pa.Schema:
        return self._table.schema().as_arrow()

    def stream(self, query: Query, schema: pa.Schema) -> Generator[pa.RecordBatch]:
        from pyiceberg.expressions import AlwaysTrue, parser  # noqa: PLC0415

        self._renew()
        condition: Any = AlwaysTrue()
        if query.condition and len(query.condition) <= _MAX_CONDITION:
            condition = parser.parse(query.condition)
        if query.counts:
            yield pa.record_batch([pa.array([self._table.scan().count()])], schema=schema)
            return
        names = tuple(column.name for column in query.columns)
        scan = self._table.scan(row_filter=condition, selected_fields=names, limit=query.limit)
        for batch in scan.to_arrow_batch_reader() if query.limit is None else self._first(scan, query.limit):
            yield cast(batch.select(list(names)), schema)

    def _first(self, scan: Any, limit: int) -> Generator[pa.RecordBatch]:
        """One file after the other until there are enough rows; the reader would begin with all of them."""
        from pyiceberg.io.pyarrow import ArrowScan  # noqa: PLC0415

        left = limit
        for task in scan.plan_files():
            if left <= 0:
                return
            reader = ArrowScan(
                self._table.metadata, self._table.io, scan.projection(), scan.row_filter, limit=left
            )
            for batch in reader.to_table([task]).to_batches():
                yield batch
                left -= batch.num_rows

    def _renew(self) -> None:
        """Keys that a catalog has lent are asked for again before they end; the rows stay those of then."""
        with self._renewing:
            if self._renew_at is None or time.time() < self._renew_at:
                return
            catalog = load_table(self._definition, self._settings)
            self._table.io = _files(self._definition, catalog.location, self._settings, catalog)
            self._renew_at = catalog.renew_at


def _literal(value: Value) -> str | None:
    """What its parser reads: dates are text there, and decimals have no exponent."""
    match value:
        case bool() | bytes() | float():
            return None
        case str():
            return quote_text(value)
        case datetime() | date():
            return f"'{value.isoformat()}'"
        case _:
            return f"{value:f}" if not isinstance(value, int) else str(value)


DIALECT = Dialect(name=quote_name, literal=_literal, text_order=lambda sql: sql, prunes_only=True)


def _column(field: pa.Field) -> SourceColumn:
    kind: Kind = "opaque"
    found = field.type
    if pa.types.is_string(found) or pa.types.is_large_string(found):
        kind, found = "text", pa.string()
    elif pa.types.is_large_binary(found):
        found = pa.binary()
    elif is_plain(found) and not pa.types.is_boolean(found) and '"' not in field.name:
        kind = "plain"
    if "." in field.name:
        kind = "opaque"
    quoted = quote_name(field.name)
    return SourceColumn(
        name=field.name,
        type=found,
        selected=quoted,
        compared=quoted,
        kind=kind,
        is_nullable=field.nullable,
    )


def _files(dataset: Dataset, location: str, settings: RuntimeSettings, catalog: CatalogTable | None) -> Any:
    """How files are opened: by our properties only, and local ones by leave."""
    from pyiceberg.io.pyarrow import PyArrowFileIO  # noqa: PLC0415

    # A catalog has no say over this machine's files.
    is_local = catalog is None and urlsplit(location).scheme in ("", "file")

    class Files(PyArrowFileIO):
        def new_input(self, location: str) -> Any:
            scheme = urlsplit(location).scheme
            if is_local and scheme in ("", "file"):
                path = unquote(location.removeprefix("file://")) if scheme else location
                return super().new_input(str(file.jailed_file(dataset, path, settings.import_root)))
            if not is_local and scheme in ("s3", "s3a"):
                return super().new_input(location)
            raise SourceError(dataset.name, "path_not_allowed: the table names a file of another place")

    return Files({} if is_local else _s3_properties(dataset, settings, catalog.lent if catalog else {}))


def _s3_properties(dataset: Dataset, settings: RuntimeSettings, lent: dict[str, str]) -> dict[str, str]:
    """The dataset's own words win; its keys are never mixed with those that a catalog lends."""
    options, lent = dataset.options, dict(lent)
    given = {
        f"s3.{name.replace('_', '-')}": str(options[f"s3_{name}"])
        for name in _S3
        if options.get(f"s3_{name}")
    }
    if "s3.access-key-id" in given:
        lent = {name: lent[name] for name in ("s3.endpoint", "s3.region", "client.region") if name in lent}
    given = {"s3.region": lent.pop("client.region", "us-east-1"), **lent, **given}
    if fallback := str(options.get("operator_s3_endpoint") or ""):
        # The operator's own, for tables whose place nobody else tells; it needs nobody's leave.
        given.setdefault("s3.endpoint", fallback)
    if (endpoint := given.get("s3.endpoint")) and endpoint != fallback:
        objects.require_usable(dataset, endpoint, allow_private=settings.allow_private)
    # Without keys the client would ask the machine's metadata service for the machine's own.
    if "s3.access-key-id" not in given:
        given["s3.anonymous"] = "true"
    connect = seconds_of(options.get("s3_connect_timeout") or "5s", _CONNECT_SECONDS)
    return {"s3.connect-timeout": f"{connect:g}", "s3.request-timeout": "30", **given}
