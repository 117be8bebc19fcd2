"""How a request to AWS is signed, as AWS documents it in "Signature Version 4 for API requests"."""

import hashlib
import hmac
import time
from collections.abc import Mapping
from urllib.parse import quote

from msgspec import Struct


class AwsKeys(Struct, frozen=True, kw_only=True):
    access_key_id: str
    secret_access_key: str
    session_token: str = ""


def query_of(arguments: Mapping[str, str]) -> str:
    """A query in the order and the writing in which it is signed."""
    return "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in sorted(arguments.items()))


def signed_headers(
    keys: AwsKeys,
    *,
    method: str,
    host: str,
    path: str,
    query: str,
    body: bytes,
    service: str,
    region: str,
) -> dict[str, str]:
    """The headers that make a request the keys' own; `path` and `query` as they are sent."""
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    digest = hashlib.sha256(body).hexdigest()
    signed = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": now}
    if keys.session_token:
        signed["x-amz-security-token"] = keys.session_token
    names = ";".join(sorted(signed))
    lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    request = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{digest}"
    scope = f"{now[:8]}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = b"AWS4" + keys.secret_access_key.encode()
    for part in (*scope.split("/"), text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    credential = f"{keys.access_key_id}/{scope}"
    header = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={key.hex()}"
    return {**signed, "authorization": header}
