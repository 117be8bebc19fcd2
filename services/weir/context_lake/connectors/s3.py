"""`s3://bucket/prefix-or-object`: objects in S3, or in a store that speaks its protocol."""

import re
from urllib.parse import parse_qsl

from weir.context_lake.connectors.declared import Findings, Param, Params, Place, When, is_on
from weir.context_lake.connectors.files import LISTING, check_format, format_of, listing_options
from weir.context_lake.connectors.source import Connector, Source, SourceText
from weir.context_lake.surroundings import Surroundings
from weir_shared.egress import ForbiddenAddress, check_url

DEFAULT_REGION = "us-east-1"

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")
_REGION = re.compile(r"[A-Za-z0-9-]{2,32}")
_SECRET_IN_QUERY = re.compile(
    r"^(x-amz-.*|awsaccesskeyid|signature|sig|.*(token|secret|passw|key|credential).*)$", re.IGNORECASE
)
_WITH_KEY = When("s3_auth", "key", "auth mode is key")
_AUTH_MODES = ("public", "iam_role", "key")

_PARAMS = (
    Param(
        name="s3_auth",
        kind="choice",
        choices=_AUTH_MODES,
        default="public",
        help="How the bucket is read: without credentials, or with an access key",
    ),
    Param(
        name="s3_key",
        credential=True,
        required_when=_WITH_KEY,
        only_when=_WITH_KEY,
        help="The access key's id",
    ),
    Param(
        name="s3_secret",
        credential=True,
        required_when=_WITH_KEY,
        only_when=_WITH_KEY,
        help="The access key's secret",
    ),
    Param(name="s3_session_token", credential=True, only_when=_WITH_KEY, help="The token of a temporary key"),
    Param(name="s3_region", default=DEFAULT_REGION, help="The bucket's region"),
    Param(name="s3_endpoint", kind="url", help="The store's address when it is not AWS"),
    Param(
        name="s3_url_style",
        kind="choice",
        choices=("vhost", "path"),
        default="path",
        help="Whether the bucket stands in the host name or in the path",
    ),
    Param(
        name="s3_versioning",
        kind="choice",
        choices=("enabled", "disabled"),
        without_effect=True,
        help="Whether reads are pinned to a version of an object",
    ),
    Param(name="allow_http", kind="switch", default="false", help="Needed for an endpoint of http://"),
    Param(name="path", help="`from` without its scheme, as some clients send it"),
    *LISTING,
)


def check(text: SourceText, params: Params, at: Place, around: Surroundings, found: Findings) -> None:
    _check_from(text, at, found)
    if params.get("s3_auth") == "iam_role":
        message = "auth mode iam_role is not enabled on this platform"
        found.refuse(at.param("s3_auth"), message, "not_available")
    _check_region(params, at, found)
    _check_endpoint(params, at, around, found)
    if "path" in params and params["path"].strip("/") != text.path.strip("/"):
        found.refuse(at.param("path"), "path must equal from without s3://", "mismatch")
    check_format(text.path, params, at, found)


def locate(text: SourceText, params: Params, around: Surroundings) -> Source:
    endpoint = params.get("s3_endpoint") or around.aws_endpoint_url or ""
    # The operator's own endpoint needs nobody's leave to be http.
    allow_http = is_on(params.get("allow_http")) or "s3_endpoint" not in params
    options = {
        "auth": params.get("s3_auth", "public"),
        "region": params.get("s3_region", DEFAULT_REGION).lower(),
        "url_style": params.get("s3_url_style", "path"),
        "allow_http": str(allow_http).lower(),
    }
    credentials = {
        "access_key_id": params.get("s3_key"),
        "secret_access_key": params.get("s3_secret"),
        "session_token": params.get("s3_session_token"),
    }
    if endpoint:
        options["endpoint"] = endpoint.rstrip("/")
    return Source(
        format=format_of(text.path, params),
        location=f"s3://{text.path}",
        options=options
        | {name: value for name, value in credentials.items() if value}
        | listing_options(params),
    )


def _check_from(text: SourceText, at: Place, found: Findings) -> None:
    bucket, _, key = text.path.partition("/")
    if "@" in bucket or _carries_credentials(key):
        found.refuse(at.field("from"), "from must carry no credentials: put them in params", "credentials")
    elif not text.has_slashes or not _BUCKET.fullmatch(bucket):
        found.refuse(at.field("from"), "from must read s3://bucket/path", "invalid")


def _carries_credentials(key: str) -> bool:
    query = key.partition("?")[2]
    return any(_SECRET_IN_QUERY.match(name) for name, _ in parse_qsl(query, keep_blank_values=True))


def _check_region(params: Params, at: Place, found: Findings) -> None:
    region = params.get("s3_region")
    if region is None or not region:
        return
    if not _REGION.fullmatch(region):
        found.refuse(at.param("s3_region"), "s3_region must be a region such as us-east-1")
    elif region != region.lower():
        found.warn(at.param("s3_region"), f"s3_region is read as {region.lower()}")


def _check_endpoint(params: Params, at: Place, around: Surroundings, found: Findings) -> None:
    endpoint = params.get("s3_endpoint", "")
    if not endpoint.startswith(("http://", "https://")):
        return  # told by its kind
    if endpoint.startswith("http://") and not is_on(params.get("allow_http")):
        message = "s3_endpoint begins with http://, which needs allow_http set to true"
        found.refuse(at.param("s3_endpoint"), message, "insecure")
    try:
        check_url(endpoint, allow_private=around.allow_private_addresses)
    except ForbiddenAddress as fault:
        found.refuse(at.param("s3_endpoint"), f"s3_endpoint is not allowed: {fault}", "address_not_allowed")


CONNECTOR = Connector(
    id="s3",
    example="s3://bucket/path/",
    help="an object or a folder of objects in S3, or in a store that speaks its protocol",
    params=_PARAMS,
    check=check,
    locate=locate,
    notifies=True,
)
