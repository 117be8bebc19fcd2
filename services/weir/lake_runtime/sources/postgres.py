"""PostgreSQL over ADBC: rows arrive in the server's binary form and never pass through Python.

Connections are read-only, limited in time, and kept: connecting costs a hundred times a point query.
"""

import contextlib
import re
import ssl
import weakref
from collections.abc import Generator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from weir.lake_runtime.faults import SourceError
from weir.lake_runtime.settings import RuntimeSettings
from weir.lake_runtime.sources.addresses import resolve
from weir.lake_runtime.sources.conditions import Dialect, SourceColumn, Value
from weir.lake_runtime.sources.database import Asked, DatabaseTable, Query, answers_whole
from weir.lake_runtime.sources.pool import Connections
from weir.lake_runtime.sources.whole_query import standard_order
from weir.lake_runtime.sources.wording import cast, is_plain, literal, quote_name, quote_text
from weir.lake_runtime.wire import Dataset

_CONNECT_SECONDS = 5
_STATEMENT_SECONDS = 300
_BATCH_BYTES = 2 * 1024 * 1024
_SSL_MODES = ("verify-full", "verify-ca", "require", "prefer", "disable")
_KNOWN_PARTS = {"host", "port", "dbname", "user", "password", "sslmode"}
_PAIR = re.compile(r"\s*(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|[^\s']\S*)\s*")
# Without a scale of its own a number gets this one.
_PLAIN_NUMERIC = (38, 10)
_SESSION = f"""
    SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY;
    SET statement_timeout = '{_STATEMENT_SECONDS}s';
    SET standard_conforming_strings = on;
    SET timezone = 'UTC'
"""
_COLUMNS = """
    SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = {table}::regclass AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum
"""


class Server(Struct, frozen=True, kw_only=True):
    host: str
    port: int
    dbname: str
    user: str
    password: str
    sslmode: str


def open_table(dataset: Dataset, settings: RuntimeSettings) -> DatabaseTable:
    """Connect, read the table's columns, and return it. Raises `SourceError`."""
    server = _server(dataset)
    parts = _table_parts(dataset, server)
    address = resolve(dataset.name, server.host, allow_private=settings.allow_private)
    database = Postgres(dataset, _conninfo(dataset, server, address, settings.cache_dir))
    source = ".".join(quote_name(part) for part in parts)
    table = DatabaseTable(database, source, _columns(database, source))
    weakref.finalize(table, database.close)
    return table


class Postgres:
    """A server, and the connections to it that wait for the next statement."""

    def __init__(self, dataset: Dataset, conninfo: str) -> None:
        self.dataset = dataset.name
        self.dialect = DIALECT
        self.whole = Whole()
        self.answers_whole = answers_whole(dataset)
        self.server = f"postgres:{conninfo}"
        self._conninfo = conninfo
        keep = int(dataset.options.get("connection_pool_size") or 10)
        self._connections = Connections(dataset.name, self._connect, keep=keep)

    def stream(self, query: Query, schema: pa.Schema) -> Generator[pa.RecordBatch]:
        return self.ask(query.sql, schema, Asked())

    def ask(self, sql: str, schema: pa.Schema, asked: Asked) -> Generator[pa.RecordBatch]:
        from adbc_driver_manager import Error  # noqa: PLC0415 - loaded with the first database

        connection, cursor, reader = self._execute(sql, asked)
        is_whole = False
        try:
            for batch in reader:
                yield cast(batch, schema)
            is_whole = True
        except (Error, OSError, pa.ArrowException) as error:
            raise SourceError(self.dataset, _reason(error)) from None
        finally:
            asked.ends()
            if not is_whole:
                # The server may have a million rows more to say.
                with contextlib.suppress(Exception):
                    cursor.adbc_cancel()
            with contextlib.suppress(Exception):
                reader.close()
                cursor.close()
            self._connections.give_back(connection, is_usable=is_whole)

    def fetch(self, sql: str) -> pa.Table:
        connection, cursor, reader = self._execute(sql, Asked())
        is_whole = False
        try:
            table = reader.read_all()
            is_whole = True
            return table
        finally:
            cursor.close()
            self._connections.give_back(connection, is_usable=is_whole)

    def close(self) -> None:
        self._connections.close()

    def _execute(self, sql: str, asked: Asked) -> tuple[Any, Any, Any]:
        """Run a statement; on a kept connection that has died since, once more on a new one."""
        from adbc_driver_manager import Error  # noqa: PLC0415 - loaded with the first database

        while True:
            connection, is_kept = self._connections.take()
            cursor = connection.cursor()
            try:
                asked.begins(cursor.adbc_cancel)
                cursor.adbc_statement.set_options(
                    **{"adbc.postgresql.batch_size_hint_bytes": str(_BATCH_BYTES)}
                )
                cursor.execute(sql)
                return connection, cursor, cursor.fetch_record_batch()
            except SourceError:
                self._connections.give_back(connection, is_usable=True)
                raise SourceError(self.dataset, "the statement was called off") from None
            except Error as error:
                asked.ends()
                with contextlib.suppress(Exception):
                    cursor.close()
                self._connections.give_back(connection, is_usable=False)
                # A server that speaks gives its own code; a line that is dead gives none.
                if not is_kept or error.sqlstate:
                    raise SourceError(self.dataset, _reason(error)) from None

    def _connect(self) -> Any:
        from adbc_driver_manager import Error  # noqa: PLC0415
        from adbc_driver_postgresql import dbapi  # noqa: PLC0415

        try:
            connection = dbapi.connect(self._conninfo, autocommit=True)
            with connection.cursor() as cursor:
                for statement in _SESSION.split(";"):
                    cursor.execute(statement)
        except Error as error:
            raise SourceError(self.dataset, _reason(error)) from None
        return connection


def _literal(value: Value) -> str | None:
    # A plain number with a fraction would be a decimal here.
    return f"'{value!r}'::float8" if isinstance(value, float) else literal(value)


DIALECT = Dialect(name=quote_name, literal=_literal, text_order=lambda sql: f'{sql} COLLATE "C"')


class Whole:
    """Whole queries: every value is made what the engine would have read before anything is computed."""

    conditions = DIALECT
    every_row = ""
    ordered = staticmethod(standard_order)

    def value(self, column: SourceColumn) -> SourceColumn:
        kind, quoted = column.type, quote_name(column.name)
        if pa.types.is_decimal128(kind):
            # As it is selected, before it is written out as text.
            sql = f"NULLIF({quoted}, 'NaN')::numeric({kind.precision},{kind.scale})"
            return replace(column, selected=sql, compared=sql, proper="")
        if column.kind in ("text", "uuid"):
            sql = f'({column.selected})::text COLLATE "C"'
            return replace(column, selected=sql, compared=sql, kind="text")
        is_carried = pa.types.is_floating(kind) or pa.types.is_time(kind) or pa.types.is_decimal(kind)
        return replace(column, kind="opaque") if is_carried else column

    def output(self, sql: str, type: pa.DataType) -> str:
        if pa.types.is_decimal128(type):
            return f"({sql})::numeric({type.precision},{type.scale})::text"
        return sql

    def aggregate(self, name: str, sql: str, type: pa.DataType, answer: pa.DataType) -> str | None:
        is_number = pa.types.is_integer(type)
        match name:
            case "min" | "max":
                return f"{name}({sql})"
            case "sum":
                return f"sum({sql})::bigint" if is_number else f"sum({sql})"
            case "avg" if is_number:
                return f"sum({sql})::float8 / NULLIF(count({sql}), 0)"
            case "avg":
                return _cut_average(sql, answer.scale)
            case _:
                return None


def _cut_average(sql: str, scale: int) -> str:
    """The engine cuts the digits that have no place; a division here would round them."""
    return f"div(sum({sql}) * 1e{scale}::numeric, NULLIF(count({sql}), 0)) * 1e-{scale}::numeric"


def _columns(database: Postgres, source: str) -> list[SourceColumn]:
    described = database.fetch(_COLUMNS.format(table=quote_text(source)))
    sample = database.fetch(f"SELECT * FROM {source} LIMIT 0").schema  # noqa: S608 - a quoted name
    rows = zip(*(column.to_pylist() for column in described.columns), strict=True)
    return [
        _column(name, declared, sample.field(index).type, is_required=is_required)
        for index, (name, declared, is_required) in enumerate(rows)
    ]


def _column(name: str, declared: str, arrived: pa.DataType, *, is_required: bool) -> SourceColumn:
    quoted = quote_name(name)
    if match := re.fullmatch(r"numeric(?:\((\d+),(-?\d+)\))?", declared):
        precision, scale = (int(match[1]), int(match[2])) if match[1] else _PLAIN_NUMERIC
        if 0 <= scale <= precision <= 76:
            kind = pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
            # "Not a number" is no decimal. The driver brings the rest as text.
            selected = f"NULLIF({quoted}, 'NaN')::numeric({precision},{scale})::text"
            # There it is equal to itself and greater than every number.
            return SourceColumn(
                name=name, type=kind, selected=selected, compared=quoted, proper=f"({quoted} <> 'NaN')"
            )
    is_nullable = not is_required
    if declared == "uuid":
        return SourceColumn(
            name=name,
            type=pa.string(),
            selected=f"{quoted}::text",
            compared=quoted,
            kind="uuid",
            is_nullable=is_nullable,
        )
    if declared in ("text", "name") or declared.startswith("character varying"):
        return SourceColumn(
            name=name,
            type=pa.string(),
            selected=quoted,
            compared=quoted,
            kind="text",
            is_nullable=is_nullable,
        )
    if declared != "money" and is_plain(arrived):
        return SourceColumn(
            name=name, type=arrived, selected=quoted, compared=quoted, is_nullable=is_nullable
        )
    if declared == "bytea" or (isinstance(arrived, pa.ListType) and is_plain(arrived.value_type)):
        return SourceColumn(
            name=name,
            type=arrived,
            selected=quoted,
            compared=quoted,
            kind="opaque",
            is_nullable=is_nullable,
        )
    text = f"{quoted}::text"
    return SourceColumn(
        name=name, type=pa.string(), selected=text, compared=text, kind="text", is_nullable=is_nullable
    )


def _server(dataset: Dataset) -> Server:
    options = dataset.options
    given = _connection_string(dataset, str(options.get("pg_connection_string") or ""))
    for part, option in (
        ("host", "pg_host"),
        ("port", "pg_port"),
        ("dbname", "pg_db"),
        ("user", "pg_user"),
        ("password", "pg_pass"),
        ("sslmode", "pg_sslmode"),
    ):
        if options.get(option):
            given[part] = str(options[option])
    host, port = given.get("host", ""), given.get("port") or "5432"
    sslmode = given.get("sslmode") or "verify-full"
    if not host or host.startswith(("/", "@")) or "," in host or not given.get("user"):
        raise SourceError(dataset.name, "pg_host and pg_user are needed; pg_host is one host's name")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise SourceError(dataset.name, "pg_port is not a port")
    if sslmode not in _SSL_MODES:
        raise SourceError(dataset.name, f"pg_sslmode is one of {', '.join(_SSL_MODES)}")
    return Server(
        host=host,
        port=int(port),
        dbname=given.get("dbname", ""),
        user=given["user"],
        password=given.get("password", ""),
        sslmode=sslmode,
    )


def _connection_string(dataset: Dataset, text: str) -> dict[str, str]:
    """The parts of a URL or of `key=value` pairs that are known here; any other could name a local file."""
    if text.startswith(("postgres://", "postgresql://")):
        try:
            url = urlsplit(text)
            host, port = url.hostname or "", str(url.port or "")
        except ValueError:
            raise SourceError(dataset.name, "the connection string is not a URL") from None
        parts = {
            "host": unquote(host),
            "port": port,
            "dbname": unquote(url.path[1:]),
            "user": unquote(url.username or ""),
            "password": unquote(url.password or ""),
            **dict(parse_qsl(url.query)),
        }
    else:
        if _PAIR.sub("", text).strip():
            raise SourceError(dataset.name, "the connection string does not consist of key=value pairs")
        parts = {m[1]: re.sub(r"\\(.)", r"\1", m[2].strip("'")) for m in _PAIR.finditer(text)}
    if unknown := sorted(set(parts) - _KNOWN_PARTS):
        raise SourceError(dataset.name, f"the connection string may not set {', '.join(unknown)}")
    return {key: value for key, value in parts.items() if value}


def _table_parts(dataset: Dataset, server: Server) -> list[str]:
    parts = [str(part) for part in dataset.options.get("table") or []]
    if len(parts) == 3 and server.dbname in ("", parts[0]):
        return parts[1:]
    if not 1 <= len(parts) <= 2 or not all(parts) or any("\0" in part for part in parts):
        raise SourceError(dataset.name, "the table must read schema.table, in the database that pg_db names")
    return parts


def _conninfo(dataset: Dataset, server: Server, address: str, cache_dir: Path) -> str:
    parts = dataset.options.get("table") or []
    values = {
        "host": server.host,
        "hostaddr": address,
        "port": str(server.port),
        "dbname": server.dbname or (str(parts[0]) if len(parts) == 3 else server.user),
        "user": server.user,
        "password": server.password,
        "passfile": "/dev/null",
        "sslmode": server.sslmode,
        "gssencmode": "disable",
        "connect_timeout": str(_CONNECT_SECONDS),
        "keepalives_idle": "20",
        "keepalives_interval": "5",
        "keepalives_count": "3",
        "tcp_user_timeout": "30000",
        "application_name": "weir",
    }
    if server.sslmode.startswith("verify"):
        values["sslrootcert"] = _root_certificates(dataset, cache_dir)
    quoted = {key: value.replace("\\", "\\\\").replace("'", "\\'") for key, value in values.items()}
    return " ".join(f"{key}='{value}'" for key, value in quoted.items())


def _root_certificates(dataset: Dataset, cache_dir: Path) -> str:
    """A file of certificates to trust: the dataset's own PEM text, or the system's."""
    text = str(dataset.options.get("pg_sslrootcert") or "")
    if text:
        if not text.lstrip().startswith("-----BEGIN CERTIFICATE-----"):
            raise SourceError(dataset.name, "pg_sslrootcert is the text of a PEM certificate")
        folder = cache_dir / "certificates"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{dataset.name.encode().hex()[:100]}.pem"
        path.write_text(text)
        return str(path)
    paths = ssl.get_default_verify_paths()
    known = (paths.cafile, "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
    return next((path for path in known if path and Path(path).is_file()), "system")


def _reason(error: Exception) -> str:
    """The server's own words, without the driver's and without its picture of the statement."""
    text = str(error)
    text = re.split(r"\. SQLSTATE:|\nSQLSTATE|\nQuery was:|\. Vendor code", text)[0]
    text = re.sub(r"\s*LINE \d+:.*", "", text, flags=re.DOTALL)
    text = re.sub(r"^[A-Z_]+: (?:\[libpq\] )?", "", text)
    return " ".join(text.split())[:500]
