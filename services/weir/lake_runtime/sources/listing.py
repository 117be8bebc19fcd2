"""What every file source shares: which files of a folder belong to a table, and how they are read."""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pyarrow as pa
from datafusion import CsvReadOptions, SessionContext
from msgspec import Struct, structs

from weir.lake_runtime.faults import SourceError
from weir.lake_runtime.sources.json_arrays import register_arrays
from weir.lake_runtime.wire import Dataset

_EXTENSIONS = {
    "parquet": (".parquet", ".pq", ".parq"),
    "csv": (".csv", ".txt"),
    "tsv": (".tsv", ".tab", ".txt"),
    "json": (".json", ".jsonl", ".ndjson", ".ldjson"),
    "avro": (".avro",),
    "arrow": (".arrow", ".feather", ".ipc"),
}
_COMPRESSION = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
_SUFFIXES = {kind: suffix for suffix, kind in _COMPRESSION.items()}
_KNOWN = tuple(dict.fromkeys(end for ends in _EXTENSIONS.values() for end in ends))
_PARTITION = re.compile(r"^([^=/]+)=[^/]*$")
_TABLE = "source"


class Location(Struct, frozen=True, kw_only=True):
    """One object or one folder, as the engine's URL."""

    url: str
    shown: str
    """The same place in the words of the dataset's owner."""
    is_folder: bool
    sample: list[str] | None
    """Some of a folder's keys, relative to it; None when they could not be listed."""
    sample_is_whole: bool = True
    store: Any = None
    scheme: str = "s3"
    """Of the URL, for the engine to find the store."""
    host: str = ""
    look: Callable[[], Any] | None = None
    """A client that looks at the store's objects; None: they are files of this machine."""


def names_a_file(path: str) -> bool:
    """Whether the last segment of a path ends in an extension that some format reads."""
    return path.lower().endswith((*_KNOWN, *(k + c for k in _KNOWN for c in _COMPRESSION)))


def suffix_of(path: str) -> str:
    """The extension, compression included, by which the engine will know a copy of the file."""
    last = path.rpartition("/")[2].lower()
    ends = [k + c for k in _KNOWN for c in ("", *_COMPRESSION)]
    return next((end for end in sorted(ends, key=len, reverse=True) if last.endswith(end)), "")


def register_listing(
    session: SessionContext, dataset: Dataset, location: Location, *, schema: pa.Schema | None = None
) -> None:
    """Register the files as table `source`; the schema is read from them now, unless it is known."""
    if not dataset.format:
        raise SourceError(dataset.name, "a format is needed")
    extension, compression = _choose_files(dataset, location)
    partitions = partition_columns(dataset, location)
    if dataset.format == "json" and dataset.options.get("json_format") == "array":
        register_arrays(session, dataset, location.url, extension, compression, dict(partitions))
        return
    if schema is None and (example := str(dataset.options.get("schema_source_path") or "")):
        schema = _schema_at(session, dataset, location, example)
    _register(session, dataset, location.url, extension, compression, partitions, schema)


def _schema_at(session: SessionContext, dataset: Dataset, location: Location, example: str) -> pa.Schema:
    """The columns of a file, or of a folder, under the dataset's own."""
    if not location.is_folder or ".." in example.split("/"):
        raise SourceError(dataset.name, "schema_source_path must name a place under from")
    is_file = names_a_file(example) and not example.endswith("/")
    place = structs.replace(
        location,
        url=location.url + quote(example if is_file else example.rstrip("/") + "/"),
        shown=f"{location.shown.rstrip('/')}/{example}",
        is_folder=not is_file,
        sample=None,
    )
    extension, compression = _choose_files(dataset, place)
    _register(session, dataset, place.url, extension, compression, [], None)
    found = session.catalog().schema().table(_TABLE).schema
    session.deregister_table(_TABLE)
    if not found.names:
        raise SourceError(dataset.name, f"no columns were found at {place.shown}")
    return found


def _register(
    session: SessionContext,
    dataset: Dataset,
    url: str,
    extension: str,
    compression: str,
    partitions: list[tuple[str, Any]],
    schema: pa.Schema | None,
) -> None:
    infer = int(dataset.options.get("schema_infer_max_records") or 1000)
    if schema is not None:
        # The folders' columns are told apart from the files'.
        schema = pa.schema([f for f in schema if f.name not in dict(partitions)], schema.metadata)
    if dataset.format == "parquet":
        session.register_parquet(_TABLE, url, partitions, file_extension=extension, schema=schema)
    elif dataset.format in ("avro", "arrow"):
        register = session.register_avro if dataset.format == "avro" else session.register_arrow
        register(_TABLE, url, schema=schema, file_extension=extension, table_partition_cols=partitions)
    elif dataset.format == "json":
        session.register_json(
            _TABLE,
            url,
            schema=schema,
            schema_infer_max_records=infer,
            file_extension=extension,
            table_partition_cols=partitions,
            file_compression_type=compression,
        )
    else:
        options = _csv_options(dataset, extension, compression, partitions, infer)
        options.schema = schema
        session.register_csv(_TABLE, url, options=options)


def _csv_options(
    dataset: Dataset, extension: str, compression: str, partitions: list[Any], infer: int
) -> CsvReadOptions:
    options = dataset.options
    return CsvReadOptions(
        has_header=_truth(options.get("csv_has_header"), default=True),
        delimiter=options.get("csv_delimiter") or ("\t" if dataset.format == "tsv" else ","),
        quote=options.get("csv_quote") or '"',
        escape=options.get("csv_escape") or None,
        schema_infer_max_records=infer,
        file_extension=extension,
        file_compression_type=compression,
        table_partition_cols=partitions,
    )


def _choose_files(dataset: Dataset, location: Location) -> tuple[str, str]:
    """The extension that a folder's files must have, and their compression; '' takes a single file."""
    wanted = str(dataset.options.get("file_compression_type") or "")
    if not location.is_folder:
        return "", wanted if wanted not in ("", "none") else _compression_of(location.shown)
    candidates = _candidates(dataset, wanted)
    keys = [key.lower() for key in location.sample or ()]
    for extension in candidates:
        if any(key.endswith(extension.lower()) for key in keys):
            return extension, wanted if wanted not in ("", "none") else _compression_of(extension)
    if location.sample is not None and location.sample_is_whole:
        raise SourceError(dataset.name, _nothing_found(candidates[0], location))
    return candidates[0], wanted if wanted != "none" else ""


def _candidates(dataset: Dataset, compression: str) -> list[str]:
    if extension := dataset.options.get("file_extension"):
        return [str(extension)]
    is_array = dataset.format == "json" and dataset.options.get("json_format") == "array"
    plain = [".json"] if is_array else list(_EXTENSIONS[dataset.format])
    if dataset.format in ("parquet", "avro", "arrow") or compression == "none":
        return plain
    if compression:
        return [end + _SUFFIXES[compression] for end in plain] + plain
    return plain + [end + suffix for end in plain for suffix in _COMPRESSION]


def _compression_of(name: str) -> str:
    return next((kind for suffix, kind in _COMPRESSION.items() if name.lower().endswith(suffix)), "")


def _nothing_found(extension: str, location: Location) -> str:
    if not location.sample:
        return f"nothing was found at {location.shown}"
    found = Counter(_extension(key) for key in location.sample)
    names = ", ".join(f"{name} ({count})" for name, count in found.most_common(5))
    return f"no {extension} file was found at {location.shown}; found: {names}"


def _extension(key: str) -> str:
    last = key.rpartition("/")[2]
    return "." + last.partition(".")[2] if "." in last else "(no extension)"


def partition_columns(dataset: Dataset, location: Location) -> list[tuple[str, Any]]:
    """The `k=v` folders of the first file that has some; their values are strings."""
    if not _truth(dataset.options.get("hive_partitioning_enabled"), default=False):
        return []
    for key in location.sample or ():
        folders = key.split("/")[:-1]
        names = [match[1] for folder in folders if (match := _PARTITION.match(folder))]
        if names:
            return [(name, pa.string()) for name in names]
    return []


def _truth(value: object, *, default: bool) -> bool:
    if value is None or value == "":
        return default
    return str(value).lower() in ("true", "enabled", "1", "yes")
