"""`s3://bucket/prefix-or-object`: objects in S3, or in a store that speaks its protocol."""

import re

from weir.context_lake.connectors.declared import Findings, Param, Params, Place, When, options_of
from weir.context_lake.connectors.files import (
    LISTING,
    check_format,
    check_schema_source,
    format_of,
    listing_options,
)
from weir.context_lake.connectors.source import Connector, Source, SourceText
from weir.context_lake.connectors.urls import carries_credentials, check_endpoint, refuse_credentials
from weir.context_lake.surroundings import Surroundings

DEFAULT_REGION = "us-east-1"

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")
_REGION = re.compile(r"[A-Za-z0-9-]{2,32}")
_ACCOUNT_ID = re.compile(r"[0-9]{12}")
_WITH_KEY = When("s3_auth", "key", "auth mode is key")
_AUTH_MODES = ("public", "iam_role", "key")

_OWN = (
    Param(
        name="s3_auth",
        kind="choice",
        choices=_AUTH_MODES,
        default="public",
        option="auth",
        help="How the bucket is read: without credentials, with an access key, or, where the operator has enabled it "
        "(`WEIR_S3_ROLE_ARN`), as the tenant's own role",
    ),
    Param(
        name="s3_key",
        credential=True,
        option="access_key_id",
        required_when=_WITH_KEY,
        only_when=_WITH_KEY,
        help="The access key's id",
    ),
    Param(
        name="s3_secret",
        credential=True,
        option="secret_access_key",
        required_when=_WITH_KEY,
        only_when=_WITH_KEY,
        help="The access key's secret",
    ),
    Param(
        name="s3_session_token",
        credential=True,
        only_when=_WITH_KEY,
        option="session_token",
        help="The token of a temporary key",
    ),
    Param(name="s3_region", default=DEFAULT_REGION, option="region", help="The bucket's region"),
    Param(name="s3_endpoint", kind="url", option="endpoint", help="The store's address when it is not AWS"),
    Param(
        name="s3_url_style",
        kind="choice",
        choices=("vhost", "path"),
        default="path",
        option="url_style",
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
)
_ACCOUNT = Param(
    name="s3_account_id",
    help="The AWS account of the bucket's owner, 12 digits; with notifications only its buckets may tell of changes",
)
_PATH = Param(name="path", help="`from` without its scheme, as some clients send it")


def check(text: SourceText, params: Params, at: Place, around: Surroundings, found: Findings) -> None:
    _check_from(text, at, found)
    if params.get("s3_auth") == "iam_role":
        _check_role(params, at, around, found)
    _check_region(params, at, found)
    check_endpoint("s3_endpoint", params, at, around, found)
    if "path" in params and params["path"].strip("/") != text.path.strip("/"):
        found.refuse(at.param("path"), "path must equal from without s3://", "mismatch")
    account = params.get("s3_account_id")
    if account and not _ACCOUNT_ID.fullmatch(account):
        found.refuse(at.param("s3_account_id"), "s3_account_id must be the 12 digits of an AWS account")
    check_format(text.path, params, at, found)
    check_schema_source(text, params, at, found)


def check_notifications(
    text: SourceText, params: Params, at: Place, around: Surroundings, found: Findings
) -> None:
    """What else holds for a dataset whose bucket is to tell of its changes."""
    endpoint = params.get("s3_endpoint", "").rstrip("/")
    if endpoint and endpoint != (around.aws_endpoint_url or "").rstrip("/"):
        message = (
            "notifications need a bucket in AWS: a store at s3_endpoint cannot send to its queues; "
            "let it call the lake's webhook instead (GET /v1/context-lake/webhook)"
        )
        found.refuse(at.field("notifications"), message, "not_supported")


def locate(text: SourceText, params: Params, around: Surroundings) -> Source:
    options = {"auth": "public"} | options_of(_OWN, params)
    options["region"] = options.get("region", DEFAULT_REGION).lower()
    if "endpoint" in options:
        options["endpoint"] = options["endpoint"].rstrip("/")
    else:
        # The operator's own endpoint needs nobody's leave to be http.
        options["allow_http"] = "true"
        if around.aws_endpoint_url:
            options["endpoint"] = around.aws_endpoint_url.rstrip("/")
    return Source(
        format=format_of(text.path, params),
        location=f"s3://{text.path}",
        options=options | listing_options(text, params),
    )


def _check_from(text: SourceText, at: Place, found: Findings) -> None:
    bucket, _, key = text.path.partition("/")
    if "@" in bucket or carries_credentials(key):
        refuse_credentials(at, found)
    elif not text.has_slashes or not _BUCKET.fullmatch(bucket):
        found.refuse(at.field("from"), "from must read s3://bucket/path", "invalid")


def _check_role(params: Params, at: Place, around: Surroundings, found: Findings) -> None:
    if around.s3_role_arn is None:
        message = "auth mode iam_role is not enabled on this platform"
        found.refuse(at.param("s3_auth"), message, "not_available")
    elif params.get("s3_endpoint"):
        # The role's keys are for AWS, not for a server of the tenant's choice.
        message = "s3_endpoint cannot be given with auth mode iam_role"
        found.refuse(at.param("s3_endpoint"), message, "conflict")


def _check_region(params: Params, at: Place, found: Findings) -> None:
    region = params.get("s3_region")
    if region is None or not region:
        return
    if not _REGION.fullmatch(region):
        found.refuse(at.param("s3_region"), "s3_region must be a region such as us-east-1")
    elif region != region.lower():
        found.warn(at.param("s3_region"), f"s3_region is read as {region.lower()}")


CONNECTOR = Connector(
    id="s3",
    example="s3://bucket/path/",
    help="an object or a folder of objects in S3, or in a store that speaks its protocol",
    params=(*_OWN, _ACCOUNT, _PATH, *LISTING),
    check=check,
    locate=locate,
    reads_files=True,
    check_notifications=check_notifications,
)
