"""Delta Lake tables. Local ones the engine reads natively; one in an object store is asked by SQL.

The native way would look for the store under its bucket's name in our session, where two datasets may have
two keys for one bucket; `deltalake` has an engine of its own, and each table in it its own store.

A table is read at the version that it had when it was opened: a refresh opens the newest.
"""

import re
from collections.abc import Generator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
from datafusion.catalog import Table

from weir.lake_runtime.faults import SourceError, source_reason
from weir.lake_runtime.settings import RuntimeSettings
from weir.lake_runtime.sources import file
from weir.lake_runtime.sources.addresses import refuse_private
from weir.lake_runtime.sources.conditions import Dialect, SourceColumn, Value
from weir.lake_runtime.sources.database import DatabaseTable, Query
from weir.lake_runtime.sources.wording import cast, is_plain, literal, quote_name
from weir.lake_runtime.wire import Dataset

_SCHEMES = {
    "s3": "aws_",
    "s3a": "aws_",
    "gs": "google_",
    "abfs": "azure_",
    "abfss": "azure_",
    "az": "azure_",
}
_ENDPOINTS = ("aws_endpoint", "azure_storage_endpoint")
_FORWARDED = {
    "aws_region": "aws_region",
    "aws_access_key_id": "aws_access_key_id",
    "aws_secret_access_key": "aws_secret_access_key",
    "aws_session_token": "aws_session_token",
    "aws_endpoint": "aws_endpoint",
    "aws_allow_http": "aws_allow_http",
    "azure_storage_account_name": "azure_storage_account_name",
    "azure_storage_account_key": "azure_storage_account_key",
    "azure_storage_sas_key": "azure_storage_sas_key",
    "azure_storage_client_id": "azure_storage_client_id",
    "azure_storage_client_secret": "azure_storage_client_secret",
    "azure_storage_tenant_id": "azure_storage_tenant_id",
    "azure_storage_endpoint": "azure_endpoint",
    "google_service_account_key": "google_service_account_key",
    "client_timeout": "timeout",
}
_ATTEMPTS = {"max_retries": "3", "retry_timeout": "20s", "connect_timeout": "5s"}
_COLOUR = re.compile(r"\x1b\[[0-9;]*m|↳")


def open_table(dataset: Dataset, settings: RuntimeSettings) -> Table:
    """The newest version of the table. Raises `SourceError`."""
    from deltalake import DeltaTable  # noqa: PLC0415 - loaded with the first such dataset
    from deltalake.exceptions import DeltaError  # noqa: PLC0415

    scheme = urlsplit(dataset.location).scheme
    try:
        if scheme:
            options = _storage_options(dataset, scheme, allow_private=settings.allow_private)
            return Table(_remote(dataset, DeltaTable(dataset.location, storage_options=options)))
        table = DeltaTable(_folder(dataset, settings.import_root))
        _refuse_strangers(dataset, table.file_uris(), settings.import_root)
        return Table(table)
    except (DeltaError, OSError, ValueError) as error:
        raise SourceError(dataset.name, _reason(dataset, error)) from None


class DeltaEngine:
    """The engine inside `deltalake`, with one table named `source`."""

    def __init__(self, dataset: Dataset, table: Any) -> None:
        from deltalake import QueryBuilder  # noqa: PLC0415

        self.dataset = dataset.name
        self.dialect = DIALECT
        self._definition = dataset
        self._engine = QueryBuilder().register("source", table)

    def stream(self, query: Query, schema: pa.Schema) -> Generator[pa.RecordBatch]:
        try:
            for batch in self.read(query.sql):
                yield cast(batch, schema)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise SourceError(self.dataset, _reason(self._definition, error)) from None

    def read(self, sql: str) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_stream(self._engine.execute(sql))


def _literal(value: Value) -> str | None:
    match value:
        case Decimal():
            # Written plainly it would be a float.
            digits, scale = len(value.as_tuple().digits), max(-int(value.as_tuple().exponent), 0)
            return f"CAST('{value:f}' AS DECIMAL({max(digits, scale, 1)}, {scale}))" if digits <= 38 else None
        case datetime() if value.tzinfo is not None:
            return f"arrow_cast('{value.isoformat()}', 'Timestamp(Microsecond, Some(\"UTC\"))')"
        case _:
            return literal(value)


DIALECT = Dialect(name=quote_name, literal=_literal, text_order=lambda sql: sql)


def _remote(dataset: Dataset, table: Any) -> DatabaseTable:
    engine = DeltaEngine(dataset, table)
    schema = engine.read("SELECT * FROM source LIMIT 0").schema
    return DatabaseTable(engine, "source", [_column(field) for field in schema])


def _column(field: pa.Field) -> SourceColumn:
    kind, found = "opaque", field.type
    if pa.types.is_string_view(found) or pa.types.is_string(found) or pa.types.is_large_string(found):
        kind, found = "text", pa.string()
    elif pa.types.is_binary_view(found):
        found = pa.binary()
    elif is_plain(found):
        kind = "plain"
    quoted = quote_name(field.name)
    return SourceColumn(
        name=field.name,
        type=found,
        selected=quoted,
        compared=quoted,
        kind=kind,
        is_nullable=field.nullable,
    )


def _folder(dataset: Dataset, import_root: Path) -> str:
    location = file.locate(dataset, import_root)
    if not location.is_folder:
        raise SourceError(dataset.name, "a Delta table is a folder")
    return dataset.location


def _refuse_strangers(dataset: Dataset, uris: list[str], import_root: Path) -> None:
    """A table's log may name any file of the machine."""
    for uri in uris:
        file.jailed_file(dataset, uri.removeprefix("file://"), import_root)


def _storage_options(dataset: Dataset, scheme: str, *, allow_private: bool) -> dict[str, str]:
    prefix = _SCHEMES.get(scheme)
    if prefix is None:
        raise SourceError(dataset.name, f"a Delta table cannot be read from {scheme}://")
    given = {name: str(dataset.options[name]) for name in _FORWARDED if dataset.options.get(name)}
    for name in _ENDPOINTS:
        if name in given:
            _require_usable(dataset, name, given[name], allow_private=allow_private)
    kept = {
        _FORWARDED[name]: value
        for name, value in given.items()
        if name.startswith((prefix, "client_timeout"))
    }
    # Without keys a client asks the machine's metadata service for the machine's own.
    if prefix == "aws_" and "aws_access_key_id" not in kept:
        kept["aws_skip_signature"] = "true"
    if prefix == "aws_":
        kept.setdefault("aws_region", "us-east-1")
    if prefix == "azure_" and not any("key" in name or "secret" in name for name in kept):
        kept["azure_skip_signature"] = "true"
    if prefix == "google_" and "google_service_account_key" not in kept:
        kept["google_skip_signature"] = "true"
    return kept | _ATTEMPTS


def _require_usable(dataset: Dataset, name: str, endpoint: str, *, allow_private: bool) -> None:
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise SourceError(dataset.name, f"{name} must be an http or https URL without credentials")
    if not allow_private:
        refuse_private(dataset.name, parts.hostname)


def _reason(dataset: Dataset, error: Exception) -> str:
    text = _COLOUR.sub("", str(error)).partition("\nError: Os")[0]
    if "Not a Delta table" in text or type(error).__name__ == "TableNotFoundError":
        return f"no Delta table was found at {dataset.location}"
    return source_reason(text)
