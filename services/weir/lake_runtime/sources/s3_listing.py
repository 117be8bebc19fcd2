"""The first page of a bucket's keys: the engine itself tells neither what it found nor what it skipped."""

import http.client
import re
import ssl
from urllib.parse import quote, unquote, urlsplit
from xml.sax.saxutils import unescape

from msgspec import Struct

from weir_shared.aws_signature import AwsKeys, query_of, signed_headers

_MAX_BODY = 4 * 1024 * 1024


class Bucket(Struct, frozen=True, kw_only=True):
    name: str
    region: str
    endpoint: str = ""
    access_key_id: str = ""
    secret_access_key: str = ""
    session_token: str = ""
    timeout_seconds: float = 10


def list_keys(bucket: Bucket, prefix: str) -> tuple[list[str] | None, bool]:
    """Up to 1,000 keys under a prefix, relative to it, and whether that is all of them.

    None when the store does not answer as expected: opening the dataset will then say why.
    """
    try:
        body = _get(bucket, {"encoding-type": "url", "list-type": "2", "prefix": prefix})
    except (OSError, http.client.HTTPException):
        return None, False
    if body is None:
        return None, False
    keys = [unquote(unescape(key)) for key in re.findall(r"<Key>([^<]*)</Key>", body)]
    kept = [key[len(prefix) :] for key in keys if not key.endswith("/")]
    return kept, "<IsTruncated>true</IsTruncated>" not in body


def _get(bucket: Bucket, query: dict[str, str]) -> str | None:
    endpoint = urlsplit(bucket.endpoint or f"https://s3.{bucket.region}.amazonaws.com")
    path = f"{endpoint.path}/{quote(bucket.name)}"
    arguments = query_of(query)
    headers = {"host": endpoint.netloc}
    if bucket.access_key_id:
        keys = AwsKeys(
            access_key_id=bucket.access_key_id,
            secret_access_key=bucket.secret_access_key,
            session_token=bucket.session_token,
        )
        headers |= signed_headers(
            keys,
            method="GET",
            host=endpoint.netloc,
            path=path,
            query=arguments,
            body=b"",
            service="s3",
            region=bucket.region,
        )
    connection = _connection(endpoint.scheme, endpoint.netloc, bucket.timeout_seconds)
    try:
        connection.request("GET", f"{path}?{arguments}", headers=headers)
        response = connection.getresponse()
        body = response.read(_MAX_BODY)
        return body.decode("utf-8", "replace") if response.status == 200 else None
    finally:
        connection.close()


def _connection(scheme: str, netloc: str, seconds: float) -> http.client.HTTPConnection:
    if scheme == "http":
        return http.client.HTTPConnection(netloc, timeout=seconds)
    context = ssl.create_default_context()
    return http.client.HTTPSConnection(netloc, timeout=seconds, context=context)
