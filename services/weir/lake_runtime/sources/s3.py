"""Objects in S3 or a store that speaks its protocol, one client for each dataset."""

from typing import Any
from urllib.parse import quote, urlsplit

from datafusion.object_store import AmazonS3

from weir.lake_runtime.faults import SourceError
from weir.lake_runtime.sources.durations import client_timeout, seconds_of
from weir.lake_runtime.sources.environment import environ
from weir.lake_runtime.sources.listing import Location, names_a_file
from weir.lake_runtime.sources.looking import look_at_s3
from weir.lake_runtime.sources.objects import allows_http, require_usable
from weir.lake_runtime.sources.s3_listing import Bucket, list_keys
from weir.lake_runtime.wire import Dataset


def locate(dataset: Dataset, host: str, *, allow_private: bool) -> Location:
    """The object or prefix of a dataset, with the client that reads it."""
    bucket, key = _split(dataset)
    endpoint = str(dataset.options.get("endpoint") or "").rstrip("/")
    if endpoint:
        require_usable(dataset, endpoint, allow_private=allow_private)
    _require_keys(dataset)
    store = _connect(dataset, bucket, endpoint)
    shown = f"s3://{bucket}/{key}"
    if key and names_a_file(key) and not key.endswith("/"):
        return Location(
            url=_url(host, key),
            shown=shown,
            is_folder=False,
            sample=None,
            store=store,
            host=host,
            look=lambda: look_at_s3(dataset, bucket, endpoint),
        )
    prefix = key if not key or key.endswith("/") else key + "/"
    sample, is_whole = list_keys(_bucket(dataset, bucket, endpoint), prefix)
    return Location(
        url=_url(host, prefix),
        shown=shown,
        is_folder=True,
        sample=sample,
        sample_is_whole=is_whole,
        store=store,
        host=host,
        look=lambda: look_at_s3(dataset, bucket, endpoint),
    )


def _split(dataset: Dataset) -> tuple[str, str]:
    parts = urlsplit(dataset.location.replace("#", "%23").replace("?", "%3F"))
    if parts.scheme != "s3" or not parts.netloc or "@" in parts.netloc:
        raise SourceError(dataset.name, "the location must read s3://bucket/prefix")
    return parts.netloc, dataset.location[len("s3://") + len(parts.netloc) :].lstrip("/")


def _url(host: str, key: str) -> str:
    return f"s3://{host}/{quote(key)}"


def _is_public(dataset: Dataset) -> bool:
    return str(dataset.options.get("auth") or "public") == "public"


def _require_keys(dataset: Dataset) -> None:
    """Without keys the client would ask the machine's metadata service for the machine's own."""
    options = dataset.options
    if refusal := options.get("role_refusal"):
        raise SourceError(dataset.name, str(refusal))
    if not _is_public(dataset) and not (options.get("access_key_id") and options.get("secret_access_key")):
        raise SourceError(dataset.name, "auth key needs access_key_id and secret_access_key")


def _connect(dataset: Dataset, bucket: str, endpoint: str) -> Any:
    options = dataset.options
    builder = {"AWS_SKIP_SIGNATURE": "true"} if _is_public(dataset) else {}
    if options.get("url_style") == "vhost":
        builder["AWS_VIRTUAL_HOSTED_STYLE_REQUEST"] = "true"
    builder |= {f"AWS_{name.upper()}": value for name, value in client_timeout(options).items()}
    with environ(builder):
        return AmazonS3(
            bucket_name=bucket,
            region=str(options.get("region") or "us-east-1"),
            access_key_id=None if _is_public(dataset) else options.get("access_key_id"),
            secret_access_key=None if _is_public(dataset) else options.get("secret_access_key"),
            session_token=None if _is_public(dataset) else options.get("session_token"),
            endpoint=endpoint or None,
            allow_http=allows_http(dataset),
        )


def _bucket(dataset: Dataset, bucket: str, endpoint: str) -> Bucket:
    options = dataset.options
    signed = not _is_public(dataset)
    return Bucket(
        name=bucket,
        region=str(options.get("region") or "us-east-1"),
        endpoint=endpoint,
        access_key_id=str(options.get("access_key_id") or "") if signed else "",
        secret_access_key=str(options.get("secret_access_key") or "") if signed else "",
        session_token=str(options.get("session_token") or "") if signed else "",
        timeout_seconds=seconds_of(options.get("client_timeout"), 10),
    )
