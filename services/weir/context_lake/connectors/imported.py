"""`import:<file>`: a file that the tenant has uploaded with `POST /imports`, by the name that it was given there.

The name tells nothing of anybody's directory: the runtime is told the tenant's own. Whether the caller may read the
file is no matter of its name, and is checked where the lake's other datasets are known.
"""

import re

from weir.context_lake.connectors.declared import Findings, Params, Place
from weir.context_lake.connectors.files import LISTING, format_of, listing_options
from weir.context_lake.connectors.source import Connector, Source, SourceText
from weir.context_lake.surroundings import Surroundings

ID = "import"
ENDINGS = ("csv", "tsv", "parquet", "json", "jsonl", "ndjson")
_FILE = re.compile(rf"[0-9a-f]{{32}}\.(?:{'|'.join(ENDINGS)})", re.ASCII)
_PARAMS = (
    "schema_infer_max_records",
    "csv_has_header",
    "csv_delimiter",
    "csv_quote",
    "csv_escape",
    "json_format",
)


def import_in(from_: str) -> str | None:
    """The file that a `from` names, or None when it is of another connector."""
    file = from_.removeprefix(f"{ID}:")
    return file if file != from_ and _FILE.fullmatch(file) else None


def from_of(file: str) -> str:
    return f"{ID}:{file}"


def check(text: SourceText, params: Params, at: Place, around: Surroundings, found: Findings) -> None:
    if text.has_slashes or not _FILE.fullmatch(text.path):
        message = "from must be the name of a file that was uploaded, as the answer to the upload told it"
        found.refuse(at.field("from"), message, "invalid")


def locate(text: SourceText, params: Params, around: Surroundings) -> Source:
    return Source(
        format=format_of(text.path, params),
        location=str(around.uploads / text.path),
        options=listing_options(text, params),
        roots=(str(around.uploads),),
    )


CONNECTOR = Connector(
    id=ID,
    example="import:0123456789abcdef0123456789abcdef.csv",
    help="a file that was uploaded with `POST /imports`, which makes the dataset; nobody else can name it",
    is_offered=False,
    params=tuple(param for param in LISTING if param.name in _PARAMS),
    check=check,
    locate=locate,
    reads_files=True,
)
