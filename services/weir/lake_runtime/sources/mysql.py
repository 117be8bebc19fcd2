"""MySQL and MariaDB by their own protocol in Python: an unbuffered cursor, text parsed by Arrow.

Rows pass through Python, a few hundred thousand a second; there is no Arrow driver to be had.
"""

import contextlib
import re
import socket
import ssl
import weakref
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from weir.lake_runtime.faults import SourceError
from weir.lake_runtime.settings import RuntimeSettings
from weir.lake_runtime.sources import rows
from weir.lake_runtime.sources.addresses import resolve
from weir.lake_runtime.sources.conditions import Kind, SourceColumn
from weir.lake_runtime.sources.database import Asked, DatabaseTable, Query, answers_whole
from weir.lake_runtime.sources.mysql_words import DIALECT, Whole, quote_name, quote_text
from weir.lake_runtime.sources.pool import Connections
from weir.lake_runtime.wire import Dataset

_CONNECT_SECONDS = 5
_STATEMENT_SECONDS = 300
_SSL_MODES = ("required", "preferred", "disabled")
_SESSION = ("SET time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES'", "SET SESSION TRANSACTION READ ONLY")
# One of the two is known to each server.
_LIMITS = (
    f"SET max_statement_time = {_STATEMENT_SECONDS}",
    f"SET max_execution_time = {_STATEMENT_SECONDS * 1000}",
)
_COLUMNS = """
    SELECT column_name, data_type, column_type, numeric_precision, numeric_scale, is_nullable,
        character_maximum_length
    FROM information_schema.columns WHERE table_schema = {schema} AND table_name = {table}
    ORDER BY ordinal_position
"""
_INTEGERS = {"tinyint": 8, "smallint": 16, "mediumint": 32, "int": 32, "bigint": 64}
_NO_DATE = re.compile("^0000|-00")
# A sort looks at 1,024 bytes of a value, which are so many letters at least.
_SORTED_LETTERS = 256
_TEXTS = ("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set")
_BYTES = ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob")


class Server(Struct, frozen=True, kw_only=True):
    host: str
    port: int
    db: str
    user: str
    password: str
    sslmode: str


def open_table(dataset: Dataset, settings: RuntimeSettings) -> DatabaseTable:
    server = _server(dataset)
    parts = [str(part) for part in dataset.options.get("table") or []]
    if len(parts) == 1 and server.db:
        parts = [server.db, *parts]
    if len(parts) != 2 or not all(parts) or any("\0" in part for part in parts):
        raise SourceError(dataset.name, "the table must read database.table, or table with mysql_db")
    address = resolve(dataset.name, server.host, allow_private=settings.allow_private)
    database = MySql(dataset, server, address)
    source = ".".join(quote_name(part) for part in parts)
    table = DatabaseTable(database, source, _columns(database, parts, source))
    weakref.finalize(table, database.close)
    return table


class MySql:
    def __init__(self, dataset: Dataset, server: Server, address: str) -> None:
        self.dataset = dataset.name
        self.dialect = DIALECT
        self.whole = Whole()
        self.answers_whole = answers_whole(dataset)
        self.server = repr((address, replace(server, db=""), str(dataset.options.get("mysql_sslrootcert"))))
        self._server = server
        self._address = address
        self._tls = _tls(dataset, server)
        keep = int(dataset.options.get("mysql_pool_max") or 5)
        self._connections = Connections(dataset.name, self._connect, keep=keep)

    def stream(self, query: Query, schema: pa.Schema) -> Generator[pa.RecordBatch]:
        return self.ask(query.sql, schema, Asked())

    def ask(self, sql: str, schema: pa.Schema, asked: Asked) -> Generator[pa.RecordBatch]:
        from pymysql.err import Error  # noqa: PLC0415 - loaded with the first such dataset

        connection, cursor = self._execute(sql, asked)
        is_whole = False
        try:
            yield from rows.batches(self.dataset, cursor.fetchmany, schema, _array)
            is_whole = True
        except (Error, OSError) as error:
            raise SourceError(self.dataset, _reason(error)) from None
        finally:
            asked.ends()
            # What kills a statement comes by another line, and may come late: this line gets no next one.
            is_whole = is_whole and not asked.is_cancelled
            if is_whole:
                cursor.close()
            else:
                # Closing the cursor would read the million rows that are left.
                cursor._result.unbuffered_active = False
                connection._force_close()
            self._connections.give_back(connection, is_usable=is_whole)

    def fetch(self, sql: str) -> list[Sequence[Any]]:
        connection, cursor = self._execute(sql, Asked())
        found = list(cursor.fetchall())
        cursor.close()
        self._connections.give_back(connection, is_usable=True)
        return found

    def close(self) -> None:
        self._connections.close()

    def _execute(self, sql: str, asked: Asked) -> tuple[Any, Any]:
        """Run a statement; on a kept connection that has died since, once more on a new one."""
        from pymysql.err import Error, InterfaceError, OperationalError  # noqa: PLC0415

        while True:
            connection, is_kept = self._connections.take()
            try:
                cursor = connection.cursor()
                asked.begins(partial(self._kill, connection.thread_id()))
                cursor.execute(sql)
                return connection, cursor
            except SourceError:
                self._connections.give_back(connection, is_usable=True)
                raise SourceError(self.dataset, "the statement was called off") from None
            except (Error, OSError) as error:
                asked.ends()
                connection._force_close()
                self._connections.give_back(connection, is_usable=False)
                is_dead = isinstance(error, InterfaceError | OSError) or (
                    isinstance(error, OperationalError) and error.args[0] in (0, 2006, 2013, 4031, 1927)
                )
                if not (is_kept and is_dead):
                    raise SourceError(self.dataset, _reason(error)) from None

    def _kill(self, thread: int) -> None:
        from pymysql.err import Error  # noqa: PLC0415

        # A statement that has just ended cannot be killed, and need not; nor on a server that is gone.
        with contextlib.suppress(Error, OSError, SourceError), contextlib.closing(self._connect()) as line:
            line.cursor().execute(f"KILL QUERY {int(thread)}")

    def _connect(self) -> Any:
        import pymysql  # noqa: PLC0415
        from pymysql.cursors import SSCursor  # noqa: PLC0415

        server = self._server
        try:
            # To the address that was checked, whatever the name says by now.
            line = socket.create_connection((self._address, server.port), _CONNECT_SECONDS)
            connection = pymysql.connect(
                host=server.host,
                port=server.port,
                user=server.user,
                password=server.password.encode(),
                database=server.db or None,
                charset="utf8mb4",
                cursorclass=SSCursor,
                conv={},  # every value as the server's text
                ssl=self._tls,
                ssl_disabled=self._tls is None,
                read_timeout=_STATEMENT_SECONDS,
                connect_timeout=_CONNECT_SECONDS,
                autocommit=True,
                local_infile=False,
                defer_connect=True,
            )
            connection.connect(line)
            _prepare(connection)
        except (pymysql.err.Error, OSError) as error:
            raise SourceError(self.dataset, _reason(error)) from None
        return connection


def _prepare(connection: Any) -> None:
    import pymysql  # noqa: PLC0415

    with connection.cursor() as cursor:
        for statement in _SESSION:
            cursor.execute(statement)
        for statement in _LIMITS:
            with contextlib.suppress(pymysql.err.OperationalError):
                cursor.execute(statement)


def _columns(database: MySql, parts: list[str], source: str) -> list[SourceColumn]:
    schema, table = (quote_text(part) for part in parts)
    described = database.fetch(_COLUMNS.format(schema=schema, table=table))
    # Whether the table may be read; what may be read of the catalog says less.
    database.fetch(f"SELECT * FROM {source} LIMIT 0")  # noqa: S608 - a quoted name
    return [_column(*row) for row in described]


def _column(
    name: str,
    declared: str,
    whole: str,
    precision: str | None,
    scale: str | None,
    nullable: str,
    letters: str | None,
) -> SourceColumn:
    quoted = quote_name(name)
    kind: Kind = "plain"
    selected, found = quoted, pa.string()
    if declared in _INTEGERS:
        bits = _INTEGERS[declared]
        found = pa.type_for_alias(f"{'u' if 'unsigned' in whole else ''}int{bits}")
    elif declared == "year":
        found = pa.int16()
    elif declared in ("float", "double"):
        # The text of a plain FLOAT has six digits.
        selected, found = f"({quoted} * 1e0)", pa.float64()
    elif declared == "decimal" and precision and scale:
        digits = int(precision)
        found = (pa.decimal128 if digits <= 38 else pa.decimal256)(digits, int(scale))
    elif declared == "date":
        found = pa.date32()
    elif declared in ("datetime", "timestamp"):
        found = pa.timestamp("us", "UTC" if declared == "timestamp" else None)
    elif declared == "bit":
        selected, found = f"({quoted} + 0)", pa.uint64()
    elif declared in _BYTES:
        kind, found = "opaque", pa.binary()
    elif declared in _TEXTS:
        kind = "text"
    else:
        kind, selected = "text", f"CAST({quoted} AS CHAR)"
    is_day = pa.types.is_temporal(found)
    return SourceColumn(
        name=name,
        type=found,
        selected=selected,
        compared=selected,
        kind=kind,
        is_long=letters is None or int(letters) > _SORTED_LETTERS,
        # A date of zeros is null here, whatever the column says.
        is_nullable=nullable == "YES" or is_day,
        proper=f"(MONTH({quoted}) > 0 AND DAYOFMONTH({quoted}) > 0)" if is_day else "",
    )


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_binary(kind):
        return pa.array(values, kind)
    texts = [v.decode("utf-8") if isinstance(v, bytes) else v for v in values]
    if pa.types.is_temporal(kind):
        # 0000-00-00, and dates with a month or a day of 00, are nobody's date.
        texts = [None if text is None or _NO_DATE.search(text) else text for text in texts]
        if pa.types.is_timestamp(kind) and kind.tz:
            return pa.array(texts, pa.string()).cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    return pa.array(texts, pa.string()).cast(kind)


def _server(dataset: Dataset) -> Server:
    options = dataset.options
    given = _connection_string(dataset, str(options.get("mysql_connection_string") or ""))
    for part, option in (
        ("host", "mysql_host"),
        ("port", "mysql_tcp_port"),
        ("db", "mysql_db"),
        ("user", "mysql_user"),
        ("password", "mysql_pass"),
        ("sslmode", "mysql_sslmode"),
    ):
        if options.get(option):
            given[part] = str(options[option])
    host, port, sslmode = (
        given.get("host", ""),
        given.get("port") or "3306",
        given.get("sslmode") or "required",
    )
    if not host or host.startswith("/") or not given.get("user"):
        raise SourceError(dataset.name, "mysql_host and mysql_user are needed; mysql_host is a host's name")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise SourceError(dataset.name, "mysql_tcp_port is not a port")
    if sslmode not in _SSL_MODES:
        raise SourceError(dataset.name, f"mysql_sslmode is one of {', '.join(_SSL_MODES)}")
    return Server(
        host=host,
        port=int(port),
        db=given.get("db", ""),
        user=given["user"],
        password=given.get("password", ""),
        sslmode=sslmode,
    )


def _connection_string(dataset: Dataset, text: str) -> dict[str, str]:
    """`mysql://user:password@host:port/db`."""
    if not text:
        return {}
    try:
        url = urlsplit(text)
        host, port = url.hostname or "", str(url.port or "")
    except ValueError:
        raise SourceError(dataset.name, "the connection string is not a URL") from None
    if url.scheme != "mysql" or url.query:
        raise SourceError(dataset.name, "the connection string must read mysql://user:password@host:port/db")
    return {
        "host": unquote(host),
        "port": port,
        "db": unquote(url.path[1:]),
        "user": unquote(url.username or ""),
        "password": unquote(url.password or ""),
    }


def _tls(dataset: Dataset, server: Server) -> ssl.SSLContext | None:
    if server.sslmode == "disabled":
        return None
    authority = str(dataset.options.get("mysql_sslrootcert") or "") or None
    try:
        context = ssl.create_default_context(cadata=authority)
    except (ssl.SSLError, ValueError):
        raise SourceError(dataset.name, "mysql_sslrootcert is the text of a PEM certificate") from None
    if server.sslmode == "preferred":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _reason(error: Exception) -> str:
    """The server's sentence without its number."""
    text = str(error.args[1]) if len(error.args) > 1 else str(error)
    text = re.sub(r"^\[Errno -?\d+\] ", "", text)
    return " ".join(text.split())[:500] or type(error).__name__
