"""What every connector of files shares: the listing parameters, and the format that a path and they amount to."""

from weir.context_lake.connectors.declared import Findings, Param, Params, Place
from weir.context_lake.connectors.kinds import is_on
from weir.context_lake.connectors.source import SourceText, read_from

FORMATS = ("parquet", "csv", "tsv", "json", "avro", "arrow")
_SAME_FORMAT = {"jsonl": "json", "ndjson": "json", "ldjson": "json"}
_EXTENSIONS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".parq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".ldjson": "json",
    ".avro": "avro",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")

LISTING = (
    Param(
        name="file_format",
        kind="choice",
        choices=(*FORMATS, *_SAME_FORMAT),
        help="The format of the files; from the extension when `from` names a file",
    ),
    Param(name="file_extension", help="Only files that end so belong to the dataset, e.g. `.csv.gz`"),
    Param(
        name="file_compression_type",
        kind="choice",
        choices=("none", "gzip", "bzip2", "xz", "zstd"),
        help="How csv and json files are compressed; from the extension when not given",
    ),
    Param(
        name="schema_infer_max_records",
        kind="count",
        default="1000",
        help="Rows that are read to find the types of csv and json",
    ),
    Param(
        name="csv_schema_infer_max_records",
        kind="count",
        help="An older name of schema_infer_max_records",
    ),
    Param(
        name="csv_has_header", kind="switch", default="true", help="Whether the first line names the columns"
    ),
    Param(name="csv_delimiter", kind="character", default=",", help="What separates two fields"),
    Param(name="csv_quote", kind="character", default='"', help="What encloses a field"),
    Param(name="csv_escape", kind="character", help="What takes the next character as it is"),
    Param(
        name="json_format",
        kind="choice",
        choices=("jsonl", "ndjson", "array"),
        default="jsonl",
        help="One object a line, or one array of objects",
    ),
    Param(
        name="hive_partitioning_enabled",
        kind="switch",
        default="false",
        help="Whether folders such as `year=2026` are columns",
    ),
    Param(name="hive_infer_partitions", kind="switch", help="An older name of hive_partitioning_enabled"),
    Param(
        name="schema_source_path",
        help="A file or folder under `from` that alone tells the dataset's columns, written as `from` is",
    ),
    Param(name="client_timeout", kind="duration", help="How long a request may take before it is made again"),
)
# Older names and the names that stand for them now.
_RENAMED = {
    "csv_schema_infer_max_records": "schema_infer_max_records",
    "hive_infer_partitions": "hive_partitioning_enabled",
}
_PASSED_ON = (
    "file_extension",
    "file_compression_type",
    "schema_infer_max_records",
    "csv_has_header",
    "csv_delimiter",
    "csv_quote",
    "csv_escape",
    "json_format",
    "hive_partitioning_enabled",
    "client_timeout",
)


FILE_COLUMNS = ("_location", "_last_modified", "_size")


def check_schema_source(text: SourceText, params: Params, at: Place, found: Findings) -> None:
    """The place that tells the columns lies under `from`, which then is a folder."""
    value = params.get("schema_source_path")
    if not value:
        return
    field = at.param("schema_source_path")
    if format_by_name(text.path) and not text.path.endswith("/"):
        found.refuse(field, "schema_source_path needs from to be a directory", "conflict")
    elif schema_source(text, value) is None:
        found.refuse(field, "schema_source_path must lie under from, and be written as from is")
    elif params.get("json_format") == "array":
        message = "schema_source_path is not available with json_format array"
        found.refuse(field, message, "not_available")


def schema_source(text: SourceText, value: str) -> str | None:
    """The place relative to `from`; None when it does not lie under it."""
    named = read_from(value)
    folder = text.path.rstrip("/") + "/"
    if named is None or (named.connector, named.has_slashes) != (text.connector, text.has_slashes):
        return None
    below = named.path.removeprefix(folder)
    if not named.path.startswith(folder) or not below or {"..", "."} & set(below.split("/")):
        return None
    return below


def check_format(path: str, params: Params, at: Place, found: Findings) -> None:
    """A folder needs a format; a format that the extension contradicts wins, with a word about it."""
    stated, natural = params.get("file_format"), format_by_name(path)
    if stated is None and natural is None:
        found.refuse(at.param("file_format"), "file_format is required when from is a directory", "required")
    elif stated in (*FORMATS, *_SAME_FORMAT) and natural and natural != _SAME_FORMAT.get(stated, stated):
        message = f"file_format is {stated} although the extension says {natural}"
        found.warn(at.param("file_format"), message, "format_mismatch")


def format_of(path: str, params: Params) -> str:
    """The format of a dataset that has been checked."""
    stated = params.get("file_format")
    return _SAME_FORMAT.get(stated, stated) if stated else format_by_name(path) or FORMATS[0]


def format_by_name(path: str) -> str | None:
    name = path.lower()
    for ending in _COMPRESSED:
        name = name.removesuffix(ending)
    return next((kind for ending, kind in _EXTENSIONS.items() if name.endswith(ending)), None)


def endings_of(kind: str) -> tuple[str, ...]:
    """How the names of the files of a format may end, in lower case, packed or not."""
    plain = [ending for ending, known in _EXTENSIONS.items() if known == kind]
    if kind in ("csv", "tsv"):
        plain.append(".txt")
    return (*plain, *(ending + packed for ending in plain for packed in _COMPRESSED))


def listing_options(text: SourceText, params: Params) -> dict[str, str]:
    """The parameters that tell the runtime how files are found and read."""
    current = {new: params[old] for old, new in _RENAMED.items() if old in params} | dict(params)
    options = {name: current[name] for name in _PASSED_ON if name in current}
    for name in ("csv_has_header", "hive_partitioning_enabled"):
        if name in options:
            options[name] = str(is_on(options[name])).lower()
    if options.get("json_format") == "ndjson":
        options["json_format"] = "jsonl"
    if below := schema_source(text, params.get("schema_source_path", "")):
        options["schema_source_path"] = below
    return options
