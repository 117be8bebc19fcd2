"""A file behind an http or https URL, fetched into the cache and read from there.

Redirects are followed within the host only.
"""

import hashlib
import http.client
import os
import re
import time
from base64 import b64encode
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import quote, unquote, urljoin, urlsplit

import msgspec
from msgspec import Struct

from weir.lake_runtime.faults import SourceError
from weir.lake_runtime.settings import RuntimeSettings
from weir.lake_runtime.sources.durations import seconds_of
from weir.lake_runtime.sources.lines import open_line, target_of
from weir.lake_runtime.sources.listing import Location, suffix_of
from weir.lake_runtime.wire import Dataset

MAX_BYTES = 1024**3
_WHOLE_SECONDS = 120
_MOST_SECONDS = 600
_MAX_REDIRECTS = 3
_PIECE = 1024 * 1024
_HEADER = re.compile(r"[A-Za-z0-9-]+")


class Validators(Struct, frozen=True, kw_only=True):
    """By which the server may say that a file has not changed."""

    etag: str = ""
    last_modified: str = ""
    file: str = ""


def whole_seconds(dataset: Dataset) -> float:
    """How long the whole download may take."""
    return min(seconds_of(dataset.options.get("client_timeout") or "2m", _WHOLE_SECONDS), _MOST_SECONDS)


def fetch(dataset: Dataset, settings: RuntimeSettings) -> Location:
    """Download the file unless the server says that it is the one of last time. Raises `SourceError`."""
    url = dataset.location
    folder = settings.cache_dir / "downloads" / hashlib.sha256(f"{dataset.name}\n{url}".encode()).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    known = _known(folder)
    until = time.monotonic() + whole_seconds(dataset)
    try:
        connection, response = _get(dataset, url, known, settings)
        try:
            if response.status != 304:
                known = _keep(dataset, response, folder, suffix_of(urlsplit(url).path), until)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise SourceError(dataset.name, f"the server could not be read: {reason}") from None
    path = folder / known.file
    return Location(url="file://" + quote(str(path)), shown=_without_query(url), is_folder=False, sample=None)


def _get(
    dataset: Dataset, url: str, known: Validators, settings: RuntimeSettings
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    headers = _headers(dataset, known)
    for _ in range(_MAX_REDIRECTS + 1):
        connection = open_line(
            dataset.name, url, allow_private=settings.allow_private, seconds=whole_seconds(dataset)
        )
        connection.request("GET", target_of(urlsplit(url)), headers=headers)
        response = connection.getresponse()
        if response.status in (301, 302, 303, 307, 308):
            connection.close()
            url = _redirected(dataset, url, response.headers.get("location") or "")
            continue
        if response.status == 200 or (response.status == 304 and known.file):
            return connection, response
        connection.close()
        raise SourceError(dataset.name, f"the server answered {response.status} {response.reason}".rstrip())
    raise SourceError(dataset.name, "the server redirects without end")


def _redirected(dataset: Dataset, url: str, location: str) -> str:
    before, after = urlsplit(url), urlsplit(urljoin(url, location))
    is_downgrade = before.scheme == "https" and after.scheme != "https"
    if (after.hostname, after.port) != (before.hostname, before.port) or is_downgrade:
        raise SourceError(dataset.name, "the server redirects to another host, which is not followed")
    return after.geturl()


def _headers(dataset: Dataset, known: Validators) -> dict[str, str]:
    options = dataset.options
    headers = {"user-agent": "weir", "accept-encoding": "identity"}
    for pair in re.split(r"[,;]", str(options.get("http_headers") or "")):
        name, colon, value = (part.strip() for part in pair.partition(":"))
        if pair.strip() and (not colon or not _HEADER.fullmatch(name) or "\n" in value or "\r" in value):
            raise SourceError(dataset.name, "http_headers must read name: value, name: value")
        if pair.strip() and name.lower() != "host":
            headers[name.lower()] = value
    if user := str(options.get("http_username") or ""):
        secret = b64encode(f"{user}:{options.get('http_password') or ''}".encode()).decode()
        headers["authorization"] = f"Basic {secret}"
    if known.etag:
        headers["if-none-match"] = known.etag
    if known.last_modified:
        headers["if-modified-since"] = known.last_modified
    return headers


def _keep(
    dataset: Dataset, response: http.client.HTTPResponse, folder: Path, suffix: str, until: float
) -> Validators:
    """Write the body beside the earlier file; statements that read that one keep it."""
    length = response.headers.get("content-length") or ""
    if length.isdecimal() and int(length) > MAX_BYTES:
        raise _too_large(dataset)
    name = f"{time.time_ns()}{suffix}"
    path = folder / name
    try:
        size = _write(dataset, response, path, until)
        if length.isdecimal() and size != int(length):
            raise SourceError(dataset.name, "the server broke off in the middle of the file")
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    known = Validators(
        etag=response.headers.get("etag") or "",
        last_modified=response.headers.get("last-modified") or "",
        file=name,
    )
    if (moment := _moment(known.last_modified)) is not None:
        # So that `_last_modified` is the server's word.
        os.utime(path, (moment, moment))
    # Of the older ones the latest stays, for who still reads it.
    for old in sorted(folder.glob("[0-9]*"))[:-2]:
        old.unlink(missing_ok=True)
    _remember(folder, known)
    return known


def _moment(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp() if text else None
    except (ValueError, OverflowError):
        return None


def _write(dataset: Dataset, response: http.client.HTTPResponse, path: Path, until: float) -> int:
    size = 0
    with path.open("wb") as sink:
        while piece := response.read(_PIECE):
            size += len(piece)
            if size > MAX_BYTES:
                raise _too_large(dataset)
            if time.monotonic() > until:
                raise SourceError(dataset.name, f"the download took longer than {whole_seconds(dataset):g} s")
            sink.write(piece)
    return size


def _too_large(dataset: Dataset) -> SourceError:
    return SourceError(dataset.name, f"the file exceeds {MAX_BYTES // 1024**2} MiB")


def _known(folder: Path) -> Validators:
    try:
        known = msgspec.json.decode((folder / "validators.json").read_bytes(), type=Validators)
    except (OSError, msgspec.DecodeError):
        return Validators()
    return known if (folder / known.file).is_file() else Validators()


def _remember(folder: Path, known: Validators) -> None:
    path = folder / "validators.new"
    path.write_bytes(msgspec.json.encode(known))
    path.replace(folder / "validators.json")


def _without_query(url: str) -> str:
    parts = urlsplit(url)
    return unquote(f"{parts.scheme}://{parts.netloc}{parts.path}")
