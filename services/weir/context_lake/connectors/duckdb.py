"""`duckdb:[[database.]schema.]table`: a table or view of a DuckDB file under the import directory."""

from weir.context_lake.connectors.declared import Findings, Param, Params, Place, options_of
from weir.context_lake.connectors.import_paths import absolute, check_path
from weir.context_lake.connectors.source import Connector, Source, SourceText
from weir.context_lake.connectors.table_names import check_names, read_names
from weir.context_lake.surroundings import Surroundings

SYNTAX = "duckdb:[[database.]schema.]table"

_PARAMS = (
    Param(
        name="duckdb_open", required=True, help="The file, as a path in the import directory; it is read only"
    ),
    Param(
        name="query_federation",
        kind="choice",
        choices=("enabled", "disabled"),
        default="enabled",
        help="Whether the file is asked for whole queries of its tables, or for their rows only",
    ),
)


def check(text: SourceText, params: Params, at: Place, around: Surroundings, found: Findings) -> None:
    check_names(text, SYNTAX, 3, at, found)
    if path := params.get("duckdb_open"):
        check_path(path, around, at.param("duckdb_open"), "duckdb_open", found)


def locate(text: SourceText, params: Params, around: Surroundings) -> Source:
    options = options_of(_PARAMS, params)
    if path := options.get("duckdb_open"):
        options["duckdb_open"] = absolute(path, around)
    return Source(options={"table": read_names(text.path) or []} | options)


CONNECTOR = Connector(
    id="duckdb",
    example="duckdb:[[database.]schema.]table",
    help="a table or view of a DuckDB file under the import directory",
    params=_PARAMS,
    check=check,
    locate=locate,
)
