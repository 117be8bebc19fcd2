"""`https://host/file.csv`, and the same by http: one file behind a URL."""

from urllib.parse import urlsplit

from msgspec.structs import replace

from weir.context_lake.connectors.declared import Findings, Param, Params, Place, options_of
from weir.context_lake.connectors.files import LISTING, check_format, format_of, listing_options
from weir.context_lake.connectors.kinds import Kind
from weir.context_lake.connectors.source import Connector, Source, SourceText
from weir.context_lake.connectors.urls import carries_credentials, refuse_credentials
from weir.context_lake.surroundings import Surroundings
from weir_shared.egress import ForbiddenAddress, check_url

# What only a folder has.
_OF_FOLDERS = ("file_extension", "hive_partitioning_enabled", "hive_infer_partitions")


def _unavailable(*names: str, credential: bool = False) -> tuple[Param, ...]:
    """What asks an API for its pages: only files are read."""
    return tuple(
        Param(
            name=name,
            help="Of requests to an API; only files are read",
            credential=credential,
            unavailable=True,
        )
        for name in names
    )


def _without_effect(help: str, **kinds: Kind) -> tuple[Param, ...]:
    return tuple(Param(name=name, kind=kind, without_effect=True, help=help) for name, kind in kinds.items())


_OWN = (
    Param(
        name="http_username",
        help="The user of basic authentication",
    ),
    Param(
        name="http_password",
        credential=True,
        requires=("http_username",),
        help="The password of basic authentication",
    ),
    Param(
        name="http_headers",
        kind="headers",
        credential=True,
        help="Headers of the request: `name: value` pairs, separated by commas or semicolons",
    ),
    Param(name="http_port", unavailable=True, instead="from", help="The server's port"),
    *_without_effect(
        "How connections are made and kept",
        connect_timeout="duration",
        pool_max_idle_per_host="count",
        pool_idle_timeout="duration",
    ),
    *_without_effect(
        "How a request that fails is repeated",
        max_retries="text",
        retry_backoff_method="text",
        retry_max_duration="duration",
        retry_jitter="text",
    ),
    *_without_effect(
        "How many requests are made; a file is one",
        max_concurrent_requests="count",
        requests_per_second_limit="count",
        requests_per_minute_limit="count",
        health_probe="text",
    ),
    *_unavailable(
        "allowed_request_paths",
        "request_query_filters",
        "request_body_filters",
        "request_header_filters",
        "request_header_allowlist",
        "max_request_query_length",
        "max_request_body_bytes",
        "max_request_headers_length",
        "max_request_partitions",
        "auth_token_url",
        "auth_scopes",
    ),
    *_unavailable(
        "http_auth_refresh_token", "http_auth_client_id", "http_auth_client_secret", credential=True
    ),
)
_TIMEOUT = Param(
    name="client_timeout",
    kind="duration",
    default="2m",
    help="How long the whole download may take, 10m at most",
)
_LISTING = tuple(
    _TIMEOUT
    if param.name == _TIMEOUT.name
    else replace(
        param, without_effect=param.name in _OF_FOLDERS, unavailable=param.name == "schema_source_path"
    )
    for param in LISTING
)


def check(text: SourceText, params: Params, at: Place, around: Surroundings, found: Findings) -> None:
    url = _url(text)
    try:
        check_url(url, allow_private=around.allow_private_addresses)
    except ForbiddenAddress as fault:
        if "@" in text.path.partition("/")[0]:
            refuse_credentials(at, found)
        else:
            found.refuse(at.field("from"), f"from is not allowed: {fault}", "address_not_allowed")
        return
    if not text.has_slashes:
        found.refuse(at.field("from"), f"from must read {text.connector}://host/file")
    if carries_credentials(url):
        refuse_credentials(at, found)
    check_format(urlsplit(url).path, params, at, found)


def locate(text: SourceText, params: Params, _: Surroundings) -> Source:
    url = _url(text)
    return Source(
        format=format_of(urlsplit(url).path, params),
        location=url,
        options=options_of(_OWN, params) | listing_options(text, params),
    )


def _url(text: SourceText) -> str:
    return f"{text.connector}://{text.path.partition('#')[0]}"


CONNECTORS = tuple(
    Connector(
        id=scheme,
        example=f"{scheme}://host/path/data.csv",
        help="one file behind a URL, fetched again when it has changed",
        params=(*_OWN, *_LISTING),
        check=check,
        locate=locate,
        reads_files=True,
    )
    for scheme in ("https", "http")
)
