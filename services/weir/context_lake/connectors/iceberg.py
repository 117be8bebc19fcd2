"""`iceberg:path`, `iceberg:s3://bucket/path`: Iceberg tables by their metadata file; or by a REST catalog's URL."""

import re
from urllib.parse import urlsplit

from weir.context_lake.connectors.declared import Findings, Param, Params, Place, literal_of, options_of
from weir.context_lake.connectors.import_paths import absolute, check_path
from weir.context_lake.connectors.kinds import Kind
from weir.context_lake.connectors.source import Connector, Source, SourceText
from weir.context_lake.connectors.urls import carries_credentials, check_endpoint, refuse_credentials
from weir.context_lake.surroundings import Surroundings

SYNTAX = "iceberg:path/metadata/name.metadata.json or iceberg:s3://bucket/path/metadata/name.metadata.json"

_PREFIX = "iceberg_"
_METADATA = "iceberg_metadata_path"
_REST_TABLE = re.compile(r".*/v1(/[^/]+)*/namespaces/[^/]+/tables/[^/]+/?")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")


def _param(
    name: str,
    help: str,
    kind: Kind = "text",
    *,
    credential: bool = False,
    default: str | None = None,
    requires: tuple[str, ...] = (),
    one_of: str = "",
    unavailable: bool = False,
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
        unavailable=unavailable,
    )


def _of_catalogs(*names: str) -> tuple[Param, ...]:
    return tuple(_param(name, "How a catalog of AWS is asked", unavailable=True) for name in names)


_PARAMS = (
    _param("metadata_path", "The table's metadata file, when `from` names its folder"),
    _param(
        "s3_access_key_id",
        "The access key's id; without a key the bucket is read as a public one",
        credential=True,
        requires=("s3_secret_access_key",),
    ),
    _param(
        "s3_secret_access_key",
        "The access key's secret",
        credential=True,
        requires=("s3_access_key_id",),
    ),
    _param(
        "s3_session_token",
        "The token of a temporary key",
        credential=True,
        requires=("s3_access_key_id", "s3_secret_access_key"),
    ),
    _param("s3_region", "The bucket's region", default="us-east-1"),
    _param("s3_endpoint", "The store's address when it is not AWS", "url"),
    Param(name="allow_http", kind="switch", default="false", help="Needed for an endpoint of http://"),
    _param(
        "s3_connect_timeout", "How long connecting may take; a bare number is seconds", "wait", default="5s"
    ),
    _param("s3_role_arn", "The role that reads", unavailable=True),
    _param("s3_role_session_name", "The name of the role's session", unavailable=True),
    _param("token", "The catalog's bearer token", credential=True, one_of="way to be known to the catalog"),
    _param(
        "oauth2_credential",
        "The client's id and secret, as id:secret, for which a token is asked",
        credential=True,
        one_of="way to be known to the catalog",
    ),
    _param("oauth2_scope", "The scope of the token", default="catalog", requires=("oauth2_credential",)),
    _param(
        "oauth2_server_url",
        "Where tokens are given when not at the catalog's own v1/oauth/tokens",
        "url",
        requires=("oauth2_credential",),
    ),
    *_of_catalogs("sigv4_enabled", "signing_region", "signing_name"),
)
_CATALOG = ("token", "oauth2_credential", "oauth2_scope", "oauth2_server_url")


def check(text: SourceText, params: Params, at: Place, around: Surroundings, found: Findings) -> None:
    location = _location(text.path)
    if _is_catalog(location):
        _check_catalog(location, params, at, around, found)
        return
    _check_place(location, at.field("from"), "from", around, found)
    if named := _location(params.get(_METADATA, "")):
        _check_metadata(named, location, at, around, found)
    elif not location.endswith(".json"):
        message = f"{_METADATA} is required when from names no metadata file"
        found.refuse(at.param(_METADATA), message, "required")
    _check_keys(location, params, at, found)
    for name in _CATALOG:
        if _PREFIX + name in params:
            found.refuse(
                at.param(_PREFIX + name), f"{_PREFIX}{name} needs from to be a catalog's URL", "conflict"
            )
    check_endpoint("iceberg_s3_endpoint", params, at, around, found)


def locate(text: SourceText, params: Params, around: Surroundings) -> Source:
    if _is_catalog(location := _location(text.path)):
        options = options_of(_PARAMS, params)
        if around.aws_endpoint_url:
            # Where neither the dataset nor the catalog says where the files are.
            options["operator_s3_endpoint"] = around.aws_endpoint_url.rstrip("/")
        return Source(location=location, options=options)
    location = _location(params.get(_METADATA) or text.path)
    if not _is_s3(location):
        return Source(location=absolute(location, around), options={})
    options = options_of(_PARAMS, params)
    if "s3_endpoint" not in options and around.aws_endpoint_url:
        # The operator's own endpoint needs nobody's leave to be http.
        options |= {"s3_endpoint": around.aws_endpoint_url.rstrip("/"), "allow_http": "true"}
    return Source(location=location, options=options | {"metadata_path": location})


def _location(path: str) -> str:
    return re.sub("^file:(//)?", "", path)


def _is_s3(location: str) -> bool:
    return location.startswith(("s3://", "s3a://"))


def _is_catalog(location: str) -> bool:
    return re.match(r"(https?|glue):", location) is not None or "/namespaces/" in location


def _check_catalog(location: str, params: Params, at: Place, around: Surroundings, found: Findings) -> None:
    field = at.field("from")
    try:
        url = urlsplit(location)
    except ValueError:
        url = urlsplit("")
    if location.startswith("glue:"):
        message = f"AWS Glue is not available in this version: from must read {SYNTAX}"
        found.refuse(field, message, "not_available")
        return
    if not location.startswith(("http://", "https://")) or not _REST_TABLE.fullmatch(url.path):
        message = "from of a catalog must read https://host/v1/{prefix}/namespaces/<namespace>/tables/<table>"
        found.refuse(field, message)
        return
    if url.username is not None or url.query or url.fragment:
        refuse_credentials(at, found)
    check_endpoint("from", {**params, "from": location}, at, around, found, path=field)
    if _METADATA in params:
        found.refuse(at.param(_METADATA), f"{_METADATA} is the catalog's to tell", "conflict")
    credential = literal_of(params, f"{_PREFIX}oauth2_credential")
    if credential and not all(credential.rpartition(":")[::2]):
        name = f"{_PREFIX}oauth2_credential"
        found.refuse(at.param(name), f"{name} must read id:secret")
    for name in ("iceberg_oauth2_server_url", "iceberg_s3_endpoint"):
        check_endpoint(name, params, at, around, found)


def _check_metadata(named: str, table: str, at: Place, around: Surroundings, found: Findings) -> None:
    field = at.param(_METADATA)
    if not named.endswith(".json"):
        found.refuse(field, f"{_METADATA} must name a metadata file, which ends in .json")
    elif _is_s3(named) != _is_s3(table):
        found.refuse(field, f"{_METADATA} must lie where from lies", "mismatch")
    else:
        _check_place(named, field, _METADATA, around, found)


def _check_place(location: str, field: str, name: str, around: Surroundings, found: Findings) -> None:
    bucket = location.partition("://")[2].partition("/")[0]
    if not _is_s3(location) and "://" not in location:
        check_path(location, around, field, name, found)
    elif "@" in bucket or carries_credentials(location):
        found.refuse(field, f"{name} must carry no credentials: put them in params", "credentials")
    elif not _is_s3(location) or not _BUCKET.fullmatch(bucket):
        found.refuse(field, f"{name} must be a path or read s3://bucket/path")


def _check_keys(location: str, params: Params, at: Place, found: Findings) -> None:
    """A parameter of S3 with files that lie here is a mistake."""
    for name in params:
        if name.startswith("iceberg_s3_") and not _is_s3(location):
            found.refuse(at.param(name), f"{name} needs from to begin with iceberg:s3://", "conflict")


CONNECTOR = Connector(
    id="iceberg",
    example="iceberg:s3://bucket/table/metadata/name.metadata.json",
    help=(
        "an Iceberg table by its metadata file, in S3 or under the import directory; or by its URL in a REST "
        "catalog, `iceberg:https://host/v1/{prefix}/namespaces/<namespace>/tables/<table>`"
    ),
    params=_PARAMS,
    check=check,
    locate=locate,
)
