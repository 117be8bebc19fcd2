"""`abfs://container/path` or `abfs://container@account.dfs.core.windows.net/path`: objects in Azure storage."""

import re

from weir.context_lake.connectors.declared import Findings, Param, Params, Place, options_of
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

SYNTAX = "abfs://container/path or abfs://container@account.dfs.core.windows.net/path"

_CREDENTIAL = "Azure credential"
_AUTHORITY = re.compile(r"[a-z0-9$][a-z0-9-]{0,62}(?:@([a-z0-9]{3,24})\.(?:dfs|blob)\.core\.windows\.net)?")


def _unavailable(name: str, help: str, *, credential: bool = False, instead: str = "") -> Param:
    return Param(name=name, help=help, credential=credential, instead=instead, unavailable=True)


_OWN = (
    Param(name="abfs_account", help="The storage account, when `from` does not name it"),
    Param(name="abfs_endpoint", kind="url", help="The account's address when it is not Azure's own"),
    Param(name="abfs_access_key", credential=True, one_of=_CREDENTIAL, help="The account's access key"),
    Param(name="abfs_bearer_token", credential=True, one_of=_CREDENTIAL, help="A token of Entra ID"),
    Param(
        name="abfs_sas_string",
        credential=True,
        one_of=_CREDENTIAL,
        help="A shared access signature, with or without its leading question mark",
    ),
    Param(
        name="abfs_client_id",
        requires=("abfs_client_secret",),
        help="The application that reads, with abfs_client_secret",
    ),
    Param(
        name="abfs_client_secret",
        credential=True,
        one_of=_CREDENTIAL,
        requires=("abfs_client_id", "abfs_tenant_id"),
        help="The application's secret",
    ),
    Param(
        name="abfs_tenant_id",
        requires=("abfs_client_secret",),
        help="The application's directory, with abfs_client_secret",
    ),
    Param(
        name="allow_http",
        kind="switch",
        default="false",
        also=("abfs_allow_http",),
        help="Needed for an endpoint of http://",
    ),
    Param(
        name="abfs_skip_signature",
        kind="switch",
        one_of=_CREDENTIAL,
        without_effect=True,
        help="Containers are read as public ones whenever no credential is given",
    ),
    _unavailable("abfs_container_name", "The container's name", instead="from"),
    _unavailable("abfs_use_emulator", "Whether the account is an emulator's"),
    _unavailable("abfs_use_fabric_endpoint", "Whether the account is one of Fabric"),
    _unavailable("abfs_msi_endpoint", "Where a managed identity is asked for"),
    _unavailable("abfs_federated_token_file", "The path of a file with a token"),
    _unavailable("abfs_use_cli", "Whether the machine's own login is used"),
    _unavailable("abfs_authority_host", "Who issues tokens"),
    _unavailable("abfs_proxy_url", "The proxy that requests go through"),
    _unavailable("abfs_proxy_ca_certificate", "The proxy's certificate", credential=True),
    _unavailable("abfs_proxy_excludes", "What the proxy is not asked for"),
    Param(name="abfs_max_retries", kind="count", without_effect=True, help="How often a request is repeated"),
    Param(
        name="abfs_retry_timeout", kind="duration", without_effect=True, help="How long requests are repeated"
    ),
    Param(
        name="abfs_backoff_initial_duration",
        kind="duration",
        without_effect=True,
        help="The first pause between two requests",
    ),
    Param(
        name="abfs_backoff_max_duration",
        kind="duration",
        without_effect=True,
        help="The longest pause between two requests",
    ),
    Param(name="abfs_backoff_base", without_effect=True, help="By which factor pauses grow"),
    Param(
        name="abfs_disable_tagging", kind="switch", without_effect=True, help="Only written objects have tags"
    ),
)


def check(text: SourceText, params: Params, at: Place, around: Surroundings, found: Findings) -> None:
    authority, _, key = text.path.partition("/")
    match = _AUTHORITY.fullmatch(authority)
    if carries_credentials(key) or ":" in authority:
        refuse_credentials(at, found)
    elif not text.has_slashes or match is None:
        found.refuse(at.field("from"), f"from must read {SYNTAX}")
    else:
        _check_account(match[1], params.get("abfs_account"), at, found)
    check_endpoint("abfs_endpoint", params, at, around, found)
    check_format(text.path, params, at, found)
    check_schema_source(text, params, at, found)


def locate(text: SourceText, params: Params, _: Surroundings) -> Source:
    return Source(
        format=format_of(text.path, params),
        location=f"abfs://{text.path}",
        options=options_of(_OWN, params) | listing_options(text, params),
    )


def _check_account(named: str | None, given: str | None, at: Place, found: Findings) -> None:
    field = at.param("abfs_account")
    if not named and given is None:
        found.refuse(field, "abfs_account is required when from names no account", "required")
    elif named and given and named != given:
        found.refuse(field, "abfs_account must equal the account that from names", "mismatch")
    elif given and not re.fullmatch("[a-z0-9]{3,24}", given):
        found.refuse(field, "abfs_account must be 3 to 24 lower-case letters and digits")


CONNECTOR = Connector(
    id="abfs",
    example="abfs://container@account.dfs.core.windows.net/path/",
    help="a blob or a folder of blobs in Azure storage; the account may be a parameter instead",
    params=(*_OWN, *LISTING),
    check=check,
    locate=locate,
    reads_files=True,
)
