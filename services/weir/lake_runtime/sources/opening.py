"""Open one dataset: find its files, read its schema, return a table that any session can scan."""

from datafusion.catalog import Table
from msgspec import Struct

from weir.lake_runtime.session import opening_session
from weir.lake_runtime.settings import RuntimeSettings
from weir.lake_runtime.sources import file, s3
from weir.lake_runtime.sources.listing import Location, register_listing
from weir.lake_runtime.wire import Dataset

STORE_DOMAIN = "source.weir"


class OpenedSource(Struct, frozen=True):
    table: Table
    location: Location


def open_source(dataset: Dataset, alias: int, settings: RuntimeSettings) -> OpenedSource:
    """Blocks on the network: call it in a thread. Raises `SourceError` or whatever the engine raises.

    `alias` names the dataset's own object store, so that two datasets may read one bucket with two keys.
    """
    host = f"d{alias}.{STORE_DOMAIN}"
    if dataset.connector == "s3":
        location = s3.locate(dataset, host, allow_private=settings.allow_private)
    else:
        location = file.locate(dataset, settings.import_root)
    session = opening_session(settings)
    if location.store is not None:
        session.register_object_store("s3://", location.store, host=host)
    register_listing(session, dataset, location)
    return OpenedSource(session.catalog().schema().table("source"), location)
