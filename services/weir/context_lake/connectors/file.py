"""`file:/path` or `file:path`: files under the operator's import directory, and nowhere else."""

from msgspec.structs import replace

from weir.context_lake.connectors.declared import Findings, Params, Place
from weir.context_lake.connectors.files import (
    LISTING,
    check_format,
    check_schema_source,
    format_of,
    listing_options,
)
from weir.context_lake.connectors.import_paths import absolute, check_path
from weir.context_lake.connectors.source import Connector, Source, SourceText
from weir.context_lake.surroundings import Surroundings

_LISTING = tuple(
    replace(param, without_effect=True, help="Files of this machine are not waited for")
    if param.name == "client_timeout"
    else param
    for param in LISTING
)


def check(text: SourceText, params: Params, at: Place, around: Surroundings, found: Findings) -> None:
    check_path(text.path, around, at.field("from"), "from", found)
    check_format(text.path, params, at, found)
    check_schema_source(text, params, at, found)


def locate(text: SourceText, params: Params, around: Surroundings) -> Source:
    return Source(
        format=format_of(text.path, params),
        location=absolute(text.path, around),
        options=listing_options(text, params),
    )


CONNECTOR = Connector(
    id="file",
    example="file:path/to/data.csv",
    help="a file or a folder under the operator's import directory, and nowhere else",
    params=_LISTING,
    check=check,
    locate=locate,
    reads_files=True,
)
