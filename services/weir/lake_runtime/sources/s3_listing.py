"""The first page of a bucket's keys: the engine itself tells neither what it found nor what it skipped.

Signed as AWS documents it in "Authenticating Requests (AWS Signature Version 4)".
"""

import hashlib
import hmac
import http.client
import re
import ssl
import time
from urllib.parse import quote, unquote, urlsplit
from xml.sax.saxutils import unescape

from msgspec import Struct

_TIMEOUT_SECONDS = 10
_MAX_BODY = 4 * 1024 * 1024
_EMPTY = hashlib.sha256(b"").hexdigest()


class Bucket(Struct, frozen=True, kw_only=True):
    name: str
    region: str
    endpoint: str = ""
    access_key_id: str = ""
    secret_access_key: str = ""
    session_token: str = ""


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
    arguments = "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in sorted(query.items()))
    headers = {"host": endpoint.netloc}
    if bucket.access_key_id:
        headers |= _signature(bucket, path, arguments, endpoint.netloc)
    connection = _connection(endpoint.scheme, endpoint.netloc)
    try:
        connection.request("GET", f"{path}?{arguments}", headers=headers)
        response = connection.getresponse()
        body = response.read(_MAX_BODY)
        return body.decode("utf-8", "replace") if response.status == 200 else None
    finally:
        connection.close()


def _connection(scheme: str, netloc: str) -> http.client.HTTPConnection:
    if scheme == "http":
        return http.client.HTTPConnection(netloc, timeout=_TIMEOUT_SECONDS)
    context = ssl.create_default_context()
    return http.client.HTTPSConnection(netloc, timeout=_TIMEOUT_SECONDS, context=context)


def _signature(bucket: Bucket, path: str, arguments: str, host: str) -> dict[str, str]:
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    signed = {"host": host, "x-amz-content-sha256": _EMPTY, "x-amz-date": now}
    if bucket.session_token:
        signed["x-amz-security-token"] = bucket.session_token
    names = ";".join(sorted(signed))
    lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    request = f"GET\n{path}\n{arguments}\n{lines}\n{names}\n{_EMPTY}"
    scope = f"{now[:8]}/{bucket.region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = b"AWS4" + bucket.secret_access_key.encode()
    for part in (*scope.split("/"), text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    credential = f"{bucket.access_key_id}/{scope}"
    header = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={key.hex()}"
    return {**signed, "authorization": header}
