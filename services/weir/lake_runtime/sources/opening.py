"""Open one dataset: find its rows, read its schema, return a table that any session can scan.

On the wire a dataset has a `connector` and `options`, whose values are strings unless said otherwise.

`postgres`: `table` (list of names: `[schema, table]`, `[database, schema, table]` or `[table]`), `pg_host`,
`pg_port` (5432), `pg_db`, `pg_user`, `pg_pass`, `pg_sslmode` (`verify-full`, `verify-ca`, `require`,
`prefer`, `disable`), `pg_sslrootcert` (PEM text), `pg_connection_string` (URL or pairs; the options above
win), `connection_pool_size` (10: connections kept), `query_federation` (`enabled`, `disabled`: only scans are
asked of the server).

`mysql`: `table` (`[database, table]` or `[table]`), `mysql_host`, `mysql_tcp_port` (3306), `mysql_db`,
`mysql_user`, `mysql_pass`, `mysql_sslmode` (`required`: verified; `preferred`: encrypted only; `disabled`),
`mysql_sslrootcert` (PEM text), `mysql_connection_string` (URL), `mysql_pool_max` (5: connections kept),
`query_federation`; so `sqlite` and `duckdb`.

`sqlite`: `table` (`[table]`), `sqlite_open`; `duckdb`: `table` (the last two names count), `duckdb_open`. The
file lies under the import root; a relative path starts there.

`delta_lake`: `location` is a folder under the import root or an `s3://`, `gs://`, `abfs://` URL; `aws_region`,
`aws_access_key_id`, `aws_secret_access_key`, `aws_session_token`, `aws_endpoint`, `aws_allow_http`,
`azure_storage_account_name`, `azure_storage_account_key`, `azure_storage_sas_key`,
`azure_storage_client_id`, `azure_storage_client_secret`, `azure_storage_tenant_id`,
`azure_storage_endpoint`, `google_service_account_key` (JSON text), `client_timeout`. Without keys requests
are unsigned. A refresh reads the newest version.

`iceberg`: `location` or `metadata_path` is a table's metadata file (`…metadata.json`), under the import root
or in S3; `s3_endpoint`, `s3_access_key_id`, `s3_secret_access_key`, `s3_session_token`, `s3_region`,
`allow_http`. Without keys requests are unsigned. Or `location` is a table's URL of a REST catalog
(`https://host/v1/…/namespaces/<namespace>/tables/<table>`), asked with `token`, or with a token that
`oauth2_credential` (`id:secret`), `oauth2_scope` (`catalog`) and `oauth2_server_url` get; a catalog may lend keys.

`s3`, `gcs`, `abfs`, `http`, `https` and `file` hold files: `format` and the options of `listing.py`
(`file_extension`, `file_compression_type`, `schema_infer_max_records`, `csv_…`, `json_format`,
`hive_partitioning_enabled`, `schema_source_path`: relative to `location`, `client_timeout`: not for `gcs` and `file`;
`file_columns`: those of `file_columns.py` that the table is to have).

- `s3`: `location` `s3://bucket/key`; `auth` (`public`, `key`), `access_key_id`, `secret_access_key`,
  `session_token`, `region`, `endpoint`, `url_style`, `allow_http`; `role_refusal`: why a role's keys are
  missing.
- `gcs`: `location` `gs://bucket/key`; `gcs_auth` (`public`, `service_account`), `gcs_service_account_key`
  (JSON text), `gcs_endpoint`, `allow_http`.
- `abfs`: `location` `abfs://container/key` or `abfs://container@account.dfs.core.windows.net/key` (also
  `abfss`, `az`); `abfs_account`, at most one of `abfs_access_key`, `abfs_bearer_token`, `abfs_sas_string`,
  `abfs_client_secret` (with `abfs_client_id`, `abfs_tenant_id`); `abfs_endpoint`, `allow_http`.
- `import`: `location` is one file in the dataset's own `roots`, no link.
- `http`, `https`: `location` is the file's URL; `http_username`, `http_password`, `http_headers` (`name:
  value` pairs between commas or semicolons). A refresh asks whether the file has changed.
"""

import pyarrow as pa
from datafusion import SessionContext
from datafusion.catalog import Table
from msgspec import Struct

from weir.lake_runtime.session import opening_session
from weir.lake_runtime.settings import RuntimeSettings
from weir.lake_runtime.sources import (
    abfs,
    delta,
    download,
    duckdb,
    file,
    gcs,
    iceberg,
    mysql,
    postgres,
    s3,
    sqlite,
)
from weir.lake_runtime.sources.database import DatabaseTable
from weir.lake_runtime.sources.file_columns import with_file_columns
from weir.lake_runtime.sources.listing import Location, register_listing
from weir.lake_runtime.wire import Dataset

SOURCE = "source"
STORE_DOMAIN = "source.weir"


class OpenedSource(Struct, frozen=True):
    table: Table
    location: Location | None
    selective: Table | None = None
    """The same rows by a reader that is faster for statements that look for a few rows; see `session.py`."""
    source: DatabaseTable | None = None
    """Of a database, for statements that it answers as a whole."""


def open_source(dataset: Dataset, alias: int, settings: RuntimeSettings) -> OpenedSource:
    """Blocks on the network: call it in a thread. Raises `SourceError` or whatever the engine raises.

    `alias` names the dataset's own object store, so that two datasets may read one bucket with two keys.
    """
    match dataset.connector:
        case "postgres" | "mysql" | "sqlite" | "duckdb":
            source = _open_database(dataset, settings)
            return OpenedSource(Table(source), None, source=source)
        case "iceberg":
            return OpenedSource(Table(iceberg.open_table(dataset, settings)), None)
        case "delta_lake":
            return OpenedSource(delta.open_table(dataset, settings), None)
        case _:
            location = _locate(dataset, f"d{alias}.{STORE_DOMAIN}", settings)
    session = opening_session(settings)
    table = _listed(session, dataset, location)
    whole = with_file_columns(session, table, SOURCE, dataset, location)
    if dataset.format != "parquet":
        return OpenedSource(whole, location)
    session = opening_session(settings, is_selective=True)
    selective = _listed(session, dataset, location, schema=table.schema)
    return OpenedSource(whole, location, with_file_columns(session, selective, SOURCE, dataset, location))


def _listed(
    session: SessionContext, dataset: Dataset, location: Location, *, schema: pa.Schema | None = None
) -> Table:
    if location.store is not None:
        session.register_object_store(f"{location.scheme}://", location.store, host=location.host)
    register_listing(session, dataset, location, schema=schema)
    return session.catalog().schema().table(SOURCE)


def opening_seconds(dataset: Dataset) -> float:
    """How long opening may take; a download, or a look at a whole file, is part of it."""
    if dataset.connector in ("http", "https"):
        return download.whole_seconds(dataset) + 30.0
    return 150.0 if dataset.connector == "import" else 30.0


def _locate(dataset: Dataset, host: str, settings: RuntimeSettings) -> Location:
    match dataset.connector:
        case "s3":
            return s3.locate(dataset, host, allow_private=settings.allow_private)
        case "gcs":
            return gcs.locate(dataset, host, settings)
        case "abfs":
            return abfs.locate(dataset, host, allow_private=settings.allow_private)
        case "http" | "https":
            return download.fetch(dataset, settings)
        case "import":
            return file.locate_upload(dataset)
        case _:
            return file.locate(dataset, settings.import_root)


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
