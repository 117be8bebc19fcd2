"""Files of one JSON array each, which the engine reads only when they are declared in its own SQL."""

import pyarrow as pa
from datafusion import SessionContext

from weir.lake_runtime.faults import SourceError
from weir.lake_runtime.sources.wording import quote_name, quote_text
from weir.lake_runtime.wire import Dataset

_ENDINGS = {"": ".json", "gzip": ".json.gz", "bzip2": ".json.bz2", "xz": ".json.xz", "zstd": ".json.zst"}


def register_arrays(
    session: SessionContext,
    dataset: Dataset,
    url: str,
    extension: str,
    compression: str,
    partitions: dict[str, pa.DataType],
) -> None:
    """Register the files as table `source`; `extension` is '' for a single file.

    In a folder the engine takes the files that end as JSON of that compression does, and no others: a longer
    extension leaves some of them out, another one cannot be.
    """
    ending = _ENDINGS["" if compression == "none" else compression]
    if extension and not extension.endswith(ending):
        raise SourceError(dataset.name, f"files of json_format array must end in {ending}, not {extension}")
    # The session is thrown away, and a URL holds no quote.
    _set(
        session, "datafusion.execution.listing_table_factory_infer_partitions", str(bool(partitions)).lower()
    )
    options = {
        "format.newline_delimited": "false",
        "format.schema_infer_max_rec": str(int(dataset.options.get("schema_infer_max_records") or 1000)),
    }
    if ending != ".json":
        options["format.compression"] = compression
    given = ", ".join(f"'{name}' '{value}'" for name, value in options.items())
    session.sql(f"CREATE EXTERNAL TABLE arrays STORED AS JSON LOCATION '{url}' OPTIONS ({given})").collect()
    columns = [
        f"arrow_cast({quote_name(name)}, 'Utf8') AS {quote_name(name)}"
        if name in partitions
        else quote_name(name)
        for name in session.table("arrays").schema().names
    ]
    narrowed = (
        "" if extension in ("", ending) else f" WHERE ends_with(input_file_name(), {quote_text(extension)})"
    )
    query = f"SELECT {', '.join(columns)} FROM arrays{narrowed}"  # noqa: S608 - names are quoted
    session.register_table("source", session.sql(query).into_view())


def _set(session: SessionContext, key: str, value: str) -> None:
    session.sql(f"SET {key} = '{value}'").collect()
