"""`gs://bucket/path`: objects in Google Cloud Storage."""

import json
import re

from msgspec.structs import replace

from weir.context_lake.connectors.declared import Findings, Param, Params, Place, When, options_of
from weir.context_lake.connectors.files import (
    LISTING,
    check_format,
    check_schema_source,
    format_of,
    listing_options,
)
from weir.context_lake.connectors.kinds import service_account_key
from weir.context_lake.connectors.source import Connector, Source, SourceText
from weir.context_lake.connectors.urls import carries_credentials, check_endpoint, refuse_credentials
from weir.context_lake.surroundings import Surroundings

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}")
_WITH_KEY = When("gcs_auth", "service_account", "auth mode is service_account")

_OWN = (
    Param(
        name="gcs_auth",
        kind="choice",
        choices=("public", "application_default", "service_account"),
        unavailable_choices=("application_default",),
        default="public",
        help="How the bucket is read: without credentials, or as a service account",
    ),
    Param(
        name="gcs_service_account_key",
        kind="service_account",
        credential=True,
        required_when=_WITH_KEY,
        only_when=_WITH_KEY,
        help="The service account's key as JSON text",
    ),
    Param(
        name="gcs_service_account_path",
        unavailable=True,
        instead="gcs_service_account_key",
        help="The path of a file with a service account's key",
    ),
    Param(
        name="gcs_application_credentials",
        credential=True,
        unavailable=True,
        instead="gcs_service_account_key",
        help="The credentials of the machine",
    ),
    Param(name="gcs_bucket", unavailable=True, instead="from", help="The bucket's name"),
    Param(name="gcs_endpoint", kind="url", help="The store's address when it is not Google's"),
    Param(
        name="allow_http",
        kind="switch",
        default="false",
        help="Needed for an endpoint of http://",
    ),
)

# Its client takes no setting but the key's file.
_LISTING = tuple(
    replace(param, unavailable=True, help="The store's client has no such setting")
    if param.name == "client_timeout"
    else param
    for param in LISTING
)


def check(text: SourceText, params: Params, at: Place, around: Surroundings, found: Findings) -> None:
    bucket, _, key = text.path.partition("/")
    if "@" in bucket or carries_credentials(key):
        refuse_credentials(at, found)
    elif not text.has_slashes or not _BUCKET.fullmatch(bucket):
        found.refuse(at.field("from"), "from must read gs://bucket/path")
    check_endpoint("gcs_endpoint", params, at, around, found)
    check_format(text.path, params, at, found)
    check_schema_source(text, params, at, found)


def locate(text: SourceText, params: Params, _: Surroundings) -> Source:
    options = options_of(_OWN, params)
    if "gcs_service_account_key" in options:
        key = service_account_key(options["gcs_service_account_key"]) or {}
        options["gcs_service_account_key"] = json.dumps(key)
    return Source(
        format=format_of(text.path, params),
        location=f"gs://{text.path}",
        options=options | listing_options(text, params),
    )


CONNECTOR = Connector(
    id="gcs",
    example="gs://bucket/path/",
    help="an object or a folder of objects in Google Cloud Storage",
    params=(*_OWN, *_LISTING),
    check=check,
    locate=locate,
    reads_files=True,
)
