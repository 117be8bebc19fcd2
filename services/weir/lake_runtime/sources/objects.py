"""What the object stores have in common: a dataset's location as a bucket and a key, and its endpoint."""

from collections.abc import Callable
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


def seldom_listed(
    dataset: Dataset,
    store: Any,
    *,
    scheme: str,
    host: str,
    key: str,
    look: Callable[[], Any],
    list_keys: Callable[[Any, str], tuple[list[str], bool]],
) -> Location:
    """An object, or a folder whose files only the engine sees, unless its folders are columns."""
    is_folder = not (key and names_a_file(key) and not key.endswith("/"))
    prefix = key if not is_folder or not key or key.endswith("/") else key + "/"
    sample, is_whole = None, True
    if is_folder and str(dataset.options.get("hive_partitioning_enabled")).lower() in ("true", "enabled"):
        try:
            sample, is_whole = list_keys(look(), prefix)
        except Exception as error:  # noqa: BLE001 - each store has its own
            raise SourceError(dataset.name, f"the folder could not be listed: {error}") from None
    return Location(
        url=f"{scheme}://{host}/{quote(prefix)}",
        shown=dataset.location,
        is_folder=is_folder,
        sample=sample,
        sample_is_whole=is_whole,
        store=store,
        look=look,
        scheme=scheme,
        host=host,
    )
