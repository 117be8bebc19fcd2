"""One table of an Iceberg REST catalog: its metadata, and the keys to its files if the catalog lends some.

The table's own URL is asked, as the catalog's specification has it ("Load a table from the catalog"). Nothing
else that a catalog may say is heard: no other address, no classes, no properties but those named here.
"""

import http.client
import re
import time
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec
from msgspec import Struct

from weir.lake_runtime.faults import SourceError
from weir.lake_runtime.settings import RuntimeSettings
from weir.lake_runtime.sources.lines import open_line, target_of
from weir.lake_runtime.sources.objects import require_usable
from weir.lake_runtime.wire import Dataset

_MAX_BODY = 64 * 1024 * 1024
_LENT = (
    "s3.access-key-id",
    "s3.secret-access-key",
    "s3.session-token",
    "s3.endpoint",
    "s3.region",
    "client.region",
)
_EXPIRY = "s3.session-token-expires-at-ms"
# Keys that are lent for a time nobody tells; catalogs lend for an hour and more.
_UNTOLD_SECONDS = 600
# So long before its end a key is replaced: a scan goes on for a while.
_EARLY_SECONDS = 300


class _StorageCredential(Struct, frozen=True):
    prefix: str
    config: dict[str, str] = {}


class _LoadedTable(Struct, frozen=True, rename="kebab"):
    metadata: msgspec.Raw
    metadata_location: str | None = None
    config: dict[str, str] = {}
    storage_credentials: list[_StorageCredential] | None = None


class CatalogTable(Struct, frozen=True, kw_only=True):
    metadata: str
    """As JSON."""
    location: str
    """Of the metadata file."""
    lent: dict[str, str]
    """What the catalog says of where the files are and by which keys they are read."""
    renew_at: float | None
    """When `lent` has to be asked for again, by `time.time`; None: it stays."""


def load_table(dataset: Dataset, settings: RuntimeSettings) -> CatalogTable:
    """Raises `SourceError`."""
    url = dataset.location
    require_usable(dataset, url, allow_private=settings.allow_private)
    headers = {"accept": "application/json", "x-iceberg-access-delegation": "vended-credentials"}
    if token := _token(dataset, settings):
        headers["authorization"] = f"Bearer {token}"
    status, body = _ask(dataset, settings, "GET", url, headers=headers)
    if status != 200:
        raise SourceError(dataset.name, _refusal(status, body))
    try:
        loaded = msgspec.json.decode(body, type=_LoadedTable)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise SourceError(dataset.name, "the catalog's answer is not a table") from None
    location = loaded.metadata_location or ""
    config = loaded.config | _of_place(loaded.storage_credentials or [], location)
    lent = {name: config[name] for name in _LENT if config.get(name)}
    renew_at = _renewal(config) if "s3.access-key-id" in lent else None
    return CatalogTable(
        metadata=bytes(loaded.metadata).decode(), location=location, lent=lent, renew_at=renew_at
    )


def _token(dataset: Dataset, settings: RuntimeSettings) -> str:
    """The token that is given, or one for the client's id and secret; '' when there is neither."""
    options = dataset.options
    credential = str(options.get("oauth2_credential") or "")
    if not credential:
        return str(options.get("token") or "")
    url = str(options.get("oauth2_server_url") or "") or _tokens_of(dataset.location)
    require_usable(dataset, url, allow_private=settings.allow_private)
    client, _, secret = credential.rpartition(":")
    form = {
        "grant_type": "client_credentials",
        "client_id": client,
        "client_secret": secret,
        "scope": str(options.get("oauth2_scope") or "catalog"),
    }
    headers = {"accept": "application/json", "content-type": "application/x-www-form-urlencoded"}
    status, body = _ask(dataset, settings, "POST", url, headers=headers, body=urlencode(form))
    if status != 200:
        raise SourceError(dataset.name, f"no token was given: {_refusal(status, body)}")
    try:
        return str(msgspec.json.decode(body)["access_token"])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
        raise SourceError(dataset.name, "no token was given: the answer has none") from None


def _tokens_of(url: str) -> str:
    """Where a catalog that names no other server gives tokens."""
    match = re.match(r"(https?://[^/]+(?:/.*?)?/v1)/", url)
    return f"{match[1]}/oauth/tokens" if match else url


def _ask(
    dataset: Dataset,
    settings: RuntimeSettings,
    method: str,
    url: str,
    *,
    headers: dict[str, str],
    body: str | None = None,
) -> tuple[int, bytes]:
    headers = {"user-agent": "weir", "accept-encoding": "identity", **headers}
    try:
        connection = open_line(dataset.name, url, allow_private=settings.allow_private)
        try:
            connection.request(method, target_of(urlsplit(url)), body, headers)
            response = connection.getresponse()
            answer = response.read(_MAX_BODY + 1)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise SourceError(dataset.name, f"the catalog could not be asked: {reason}") from None
    if len(answer) > _MAX_BODY:
        raise SourceError(dataset.name, f"the catalog's answer exceeds {_MAX_BODY // 1024**2} MiB")
    return response.status, answer


def _refusal(status: int, body: bytes) -> str:
    said = ""
    try:
        answer: Any = msgspec.json.decode(body)
        error = answer.get("error") if isinstance(answer, dict) else None
        said = str(error.get("message", "")) if isinstance(error, dict) else str(error or "")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # not every server in between speaks JSON
    told = {
        401: "the catalog does not accept the credentials (401)",
        403: "the catalog does not let these credentials read the table (403)",
        404: "the catalog has no such table (404)",
    }.get(status, f"the catalog answered {status}")
    return f"{told}: {said[:300]}" if said else told


def _of_place(credentials: list[_StorageCredential], location: str) -> dict[str, str]:
    """Of several keys the one whose place is the nearest."""
    fitting = [credential for credential in credentials if location.startswith(credential.prefix)]
    return max(fitting, key=lambda credential: len(credential.prefix)).config if fitting else {}


def _renewal(config: dict[str, str]) -> float | None:
    expiry = config.get(_EXPIRY, "")
    if expiry.isdecimal():
        return int(expiry) / 1000 - _EARLY_SECONDS
    return time.time() + _UNTOLD_SECONDS if config.get("s3.session-token") else None
