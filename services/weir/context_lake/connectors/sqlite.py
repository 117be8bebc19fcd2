"""`sqlite:table`: a table of an SQLite file under the import directory."""

from weir.context_lake.connectors.declared import Findings, Param, Params, Place, options_of
from weir.context_lake.connectors.import_paths import absolute, check_path
from weir.context_lake.connectors.source import Connector, Source, SourceText
from weir.context_lake.connectors.table_names import check_names, read_names
from weir.context_lake.surroundings import Surroundings

SYNTAX = "sqlite:table"

_PARAMS = (
    Param(
        name="sqlite_open", required=True, help="The file, as a path in the import directory; it is read only"
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
    names = check_names(text, SYNTAX, 2, at, found)
    if len(names) == 2 and names[0] != "main":
        found.refuse(at.field("from"), f"from must read {SYNTAX}")
    if path := params.get("sqlite_open"):
        check_path(path, around, at.param("sqlite_open"), "sqlite_open", found)


def locate(text: SourceText, params: Params, around: Surroundings) -> Source:
    options = options_of(_PARAMS, params)
    if path := options.get("sqlite_open"):
        options["sqlite_open"] = absolute(path, around)
    return Source(options={"table": read_names(text.path) or []} | options)


CONNECTOR = Connector(
    id="sqlite",
    example="sqlite:table",
    help="a table or view of an SQLite file under the import directory",
    params=_PARAMS,
    check=check,
    locate=locate,
)
