"""The connectors that a dataset may name, one module each."""

from weir.context_lake.connectors import (
    abfs,
    delta_lake,
    duckdb,
    file,
    gcs,
    http,
    iceberg,
    imported,
    mysql,
    postgres,
    s3,
    sqlite,
)
from weir.context_lake.connectors.source import Connector

CONNECTORS: dict[str, Connector] = {
    connector.id: connector
    for connector in (
        s3.CONNECTOR,
        gcs.CONNECTOR,
        abfs.CONNECTOR,
        *http.CONNECTORS,
        file.CONNECTOR,
        imported.CONNECTOR,
        postgres.CONNECTOR,
        mysql.CONNECTOR,
        sqlite.CONNECTOR,
        duckdb.CONNECTOR,
        delta_lake.CONNECTOR,
        iceberg.CONNECTOR,
    )
}
