"""Open one dataset: find its rows, read its schema, return a table that any session can scan.

On the wire a dataset has a `connector` and `options`, whose values are strings unless said otherwise.

`postgres`: `table` (list of names: `[schema, table]`, `[database, schema, table]` or `[table]`), `pg_host`,
`pg_port` (5432), `pg_db`, `pg_user`, `pg_pass`, `pg_sslmode` (`verify-full`, `verify-ca`, `require`,
`prefer`, `disable`), `pg_sslrootcert` (PEM text), `pg_connection_string` (URL or pairs; the options above
win), `connection_pool_size` (10: connections kept).

`mysql`: `table` (`[database, table]` or `[table]`), `mysql_host`, `mysql_tcp_port` (3306), `mysql_db`,
`mysql_user`, `mysql_pass`, `mysql_sslmode` (`required`: verified; `preferred`: encrypted only; `disabled`),
`mysql_sslrootcert` (PEM text), `mysql_connection_string` (URL), `mysql_pool_max` (5: connections kept).

`sqlite`: `table` (`[table]`), `sqlite_open`; `duckdb`: `table` (the last two names count), `duckdb_open`. The
file lies under the import root; a relative path starts there.
"""

from datafusion.catalog import Table
from msgspec import Struct

from weir.lake_runtime.session import opening_session
from weir.lake_runtime.settings import RuntimeSettings
from weir.lake_runtime.sources import duckdb, file, mysql, postgres, s3, sqlite
from weir.lake_runtime.sources.database import DatabaseTable
from weir.lake_runtime.sources.listing import Location, register_listing
from weir.lake_runtime.wire import Dataset

STORE_DOMAIN = "source.weir"


class OpenedSource(Struct, frozen=True):
    table: Table
    location: Location | None


def open_source(dataset: Dataset, alias: int, settings: RuntimeSettings) -> OpenedSource:
    """Blocks on the network: call it in a thread. Raises `SourceError` or whatever the engine raises.

    `alias` names the dataset's own object store, so that two datasets may read one bucket with two keys.
    """
    host = f"d{alias}.{STORE_DOMAIN}"
    match dataset.connector:
        case "postgres" | "mysql" | "sqlite" | "duckdb":
            return OpenedSource(Table(_open_database(dataset, settings)), None)
        case "s3":
            location = s3.locate(dataset, host, allow_private=settings.allow_private)
        case _:
            location = file.locate(dataset, settings.import_root)
    session = opening_session(settings)
    if location.store is not None:
        session.register_object_store("s3://", location.store, host=host)
    register_listing(session, dataset, location)
    return OpenedSource(session.catalog().schema().table("source"), location)


def _open_database(dataset: Dataset, settings: RuntimeSettings) -> DatabaseTable:
    match dataset.connector:
        case "postgres":
            return postgres.open_table(dataset, settings)
        case "mysql":
            return mysql.open_table(dataset, settings)
        case "sqlite":
            return sqlite.open_table(dataset, settings)
        case _:
            return duckdb.open_table(dataset, settings)
