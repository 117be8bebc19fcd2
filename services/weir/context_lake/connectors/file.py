"""`file:/path` or `file:path`: files under the operator's import directory, and nowhere else."""

from weir.context_lake.connectors.declared import Findings, Params, Place
from weir.context_lake.connectors.files import LISTING, check_format, format_of, listing_options
from weir.context_lake.connectors.import_paths import absolute, check_path
from weir.context_lake.connectors.source import Connector, Source, SourceText
from weir.context_lake.surroundings import Surroundings


def check(text: SourceText, params: Params, at: Place, around: Surroundings, found: Findings) -> None:
    check_path(text.path, around.import_root, at.field("from"), "from", found)
    check_format(text.path, params, at, found)


def locate(text: SourceText, params: Params, around: Surroundings) -> Source:
    return Source(
        format=format_of(text.path, params),
        location=absolute(text.path, around.import_root),
        options=listing_options(params),
    )


CONNECTOR = Connector(
    id="file",
    example="file:path/to/data.csv",
    help="a file or a folder under the operator's import directory, and nowhere else",
    params=LISTING,
    check=check,
    locate=locate,
)
