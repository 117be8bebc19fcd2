"""What the object stores have in common: a dataset's location as a bucket and a key, and its endpoint."""

from typing import Any
from urllib.parse import quote, urlsplit

from weir.lake_runtime.faults import SourceError
from weir.lake_runtime.sources.addresses import refuse_private
from weir.lake_runtime.sources.listing import Location, names_a_file
from weir.lake_runtime.wire import Dataset


def split(dataset: Dataset, schemes: tuple[str, ...]) -> tuple[str, str]:
    """The authority and the key of a location `scheme://authority/key`."""
    scheme, separator, rest = dataset.location.partition("://")
    authority, _, key = rest.partition("/")
    if not separator or scheme not in schemes or not authority:
        raise SourceError(dataset.name, f"the location must read {schemes[0]}://name/path")
    return authority, key.lstrip("/")


def require_usable(dataset: Dataset, endpoint: str, *, allow_private: bool) -> None:
    """Raise `SourceError` unless an endpoint may be connected to."""
    try:
        parts = urlsplit(endpoint)
        scheme, host, user = parts.scheme, parts.hostname or "", parts.username
    except ValueError:
        scheme = host = user = ""
    if scheme not in ("http", "https") or not host or user is not None:
        raise SourceError(dataset.name, "the endpoint must be an http or https URL without credentials")
    if scheme == "http" and not allows_http(dataset):
        raise SourceError(dataset.name, "an http endpoint needs allow_http")
    if not allow_private:
        refuse_private(dataset.name, host)


def allows_http(dataset: Dataset) -> bool:
    return str(dataset.options.get("allow_http", "")).lower() in ("true", "1", "enabled")


def unlisted(dataset: Dataset, store: Any, *, scheme: str, host: str, key: str) -> Location:
    """An object, or a folder whose files only the engine will see."""
    if str(dataset.options.get("hive_partitioning_enabled") or "false").lower() not in ("false", "disabled"):
        raise SourceError(dataset.name, "hive_partitioning_enabled is not offered for this store")
    is_folder = not (key and names_a_file(key) and not key.endswith("/"))
    prefix = key if not is_folder or not key or key.endswith("/") else key + "/"
    return Location(
        url=f"{scheme}://{host}/{quote(prefix)}",
        shown=dataset.location,
        is_folder=is_folder,
        sample=None,
        store=store,
        scheme=scheme,
        host=host,
    )
