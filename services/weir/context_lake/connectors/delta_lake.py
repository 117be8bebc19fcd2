"""`delta_lake:path` under the import directory, or `delta_lake:s3://bucket/path` (gs://, abfs://): Delta tables."""

import json
import re

from weir.context_lake.connectors.declared import Findings, Param, Params, Place, options_of
from weir.context_lake.connectors.import_paths import absolute, check_path
from weir.context_lake.connectors.kinds import Kind, service_account_key
from weir.context_lake.connectors.source import Connector, Source, SourceText
from weir.context_lake.connectors.urls import carries_credentials, check_endpoint, refuse_credentials
from weir.context_lake.surroundings import Surroundings

SYNTAX = "delta_lake:path, delta_lake:s3://bucket/path, delta_lake:gs://bucket/path or delta_lake:abfs://container/path"

_PREFIX = "delta_lake_"
_CLOUDS = {"s3": "aws_", "s3a": "aws_", "gs": "google_", "abfs": "azure_", "abfss": "azure_", "az": "azure_"}
_SHOWN = {"aws_": "s3://", "google_": "gs://", "azure_": "abfs://"}
_AZURE_CREDENTIAL = "Azure credential"
_BUCKET = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._-]{1,220}")
_AZURE_SERVER = re.compile(r"[a-z0-9]{3,24}\.(?:dfs|blob)\.core\.windows\.net")


def _param(
    name: str,
    help: str,
    kind: Kind = "text",
    *,
    credential: bool = False,
    default: str | None = None,
    requires: tuple[str, ...] = (),
    one_of: str = "",
) -> Param:
    """A parameter by its whole name, which the runtime knows without the connector's."""
    return Param(
        name=_PREFIX + name,
        also=(name,),
        option=name,
        help=help,
        kind=kind,
        credential=credential,
        default=default,
        requires=tuple(_PREFIX + other for other in requires),
        one_of=one_of,
    )


_PARAMS = (
    _param("aws_region", "The bucket's region", default="us-east-1"),
    _param(
        "aws_access_key_id",
        "The access key's id; without a key the bucket is read as a public one",
        credential=True,
        requires=("aws_secret_access_key",),
    ),
    _param(
        "aws_secret_access_key",
        "The access key's secret",
        credential=True,
        requires=("aws_access_key_id",),
    ),
    _param(
        "aws_session_token",
        "The token of a temporary key",
        credential=True,
        requires=("aws_access_key_id", "aws_secret_access_key"),
    ),
    _param("aws_endpoint", "The store's address when it is not AWS", "url"),
    _param("aws_allow_http", "Needed for an endpoint of http://", "switch", default="false"),
    _param("azure_storage_account_name", "The storage account, when `from` does not name it"),
    _param("azure_storage_account_key", "The account's key", credential=True, one_of=_AZURE_CREDENTIAL),
    _param("azure_storage_sas_key", "A shared access signature", credential=True, one_of=_AZURE_CREDENTIAL),
    _param(
        "azure_storage_client_id", "The application that reads", requires=("azure_storage_client_secret",)
    ),
    _param(
        "azure_storage_client_secret",
        "The application's secret",
        credential=True,
        requires=("azure_storage_client_id", "azure_storage_tenant_id"),
        one_of=_AZURE_CREDENTIAL,
    ),
    _param(
        "azure_storage_tenant_id", "The application's directory", requires=("azure_storage_client_secret",)
    ),
    _param("azure_storage_endpoint", "The account's address when it is not Azure's; https only", "url"),
    _param(
        "google_service_account_key",
        "A service account's key as JSON text; without one the bucket is read as a public one",
        "service_account",
        credential=True,
    ),
    Param(
        name="delta_lake_google_service_account",
        also=("google_service_account",),
        unavailable=True,
        instead="delta_lake_google_service_account_key",
        help="The path of a file with a service account's key",
    ),
    Param(name="client_timeout", kind="duration", help="How long a request to the store may take"),
)


def check(text: SourceText, params: Params, at: Place, around: Surroundings, found: Findings) -> None:
    location = _location(text)
    scheme = _scheme(location)
    if not scheme:
        check_path(location, around, at.field("from"), "from", found)
    elif scheme not in _CLOUDS:
        found.refuse(at.field("from"), f"from must read {SYNTAX}")
    else:
        _check_url(location, params, at, found)
    _check_cloud(scheme, params, at, found)
    check_endpoint("delta_lake_aws_endpoint", params, at, around, found, leave="delta_lake_aws_allow_http")
    check_endpoint("delta_lake_azure_storage_endpoint", params, at, around, found, leave=None)


def locate(text: SourceText, params: Params, around: Surroundings) -> Source:
    location = _location(text)
    cloud = _CLOUDS.get(_scheme(location))
    if cloud is None:
        return Source(location=absolute(location, around), options={})
    options = options_of(_PARAMS, params)
    if cloud == "aws_" and "aws_endpoint" not in options and around.aws_endpoint_url:
        # The operator's own endpoint needs nobody's leave to be http.
        options |= {"aws_endpoint": around.aws_endpoint_url.rstrip("/"), "aws_allow_http": "true"}
    if "google_service_account_key" in options:
        key = service_account_key(options["google_service_account_key"]) or {}
        options["google_service_account_key"] = json.dumps(key)
    return Source(location=location, options=options)


def _location(text: SourceText) -> str:
    return re.sub("^file:(//)?", "", text.path)


def _scheme(location: str) -> str:
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", location)
    return match[1] if match else ""


def _check_url(location: str, params: Params, at: Place, found: Findings) -> None:
    cloud = _CLOUDS[_scheme(location)]
    authority = location.partition("://")[2].partition("/")[0]
    container, _, server = authority.partition("@")
    is_azure = cloud == "azure_"
    if carries_credentials(location) or ":" in authority or (server and not is_azure):
        refuse_credentials(at, found)
    elif not _BUCKET.fullmatch(container) or (server and not _AZURE_SERVER.fullmatch(server)):
        found.refuse(at.field("from"), f"from must read {SYNTAX}")
    elif is_azure and not server and not params.get("delta_lake_azure_storage_account_name"):
        message = "delta_lake_azure_storage_account_name is required when from names no account"
        found.refuse(at.param("delta_lake_azure_storage_account_name"), message, "required")


def _check_cloud(scheme: str, params: Params, at: Place, found: Findings) -> None:
    """A parameter of another store than that of `from` is a mistake."""
    for name in params:
        bare = name.removeprefix(_PREFIX)
        cloud = next((cloud for cloud in _SHOWN if bare.startswith(cloud)), None)
        if cloud and name != bare and cloud != _CLOUDS.get(scheme):
            message = f"{name} needs from to begin with delta_lake:{_SHOWN[cloud]}"
            found.refuse(at.param(name), message, "conflict")


CONNECTOR = Connector(
    id="delta_lake",
    example="delta_lake:s3://bucket/table",
    help="a Delta table in S3, in `gs://` or `abfs://`, or in a folder under the import directory",
    params=_PARAMS,
    check=check,
    locate=locate,
)
