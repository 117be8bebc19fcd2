"""Objects in Azure Blob Storage and Data Lake Storage."""

from typing import Any
from urllib.parse import parse_qsl

from datafusion.object_store import MicrosoftAzure

from weir.lake_runtime.faults import SourceError
from weir.lake_runtime.sources.durations import client_timeout
from weir.lake_runtime.sources.environment import environ
from weir.lake_runtime.sources.listing import Location
from weir.lake_runtime.sources.looking import first_keys, look_at_azure
from weir.lake_runtime.sources.objects import allows_http, require_usable, seldom_listed, split
from weir.lake_runtime.wire import Dataset

_SECRETS = ("abfs_access_key", "abfs_bearer_token", "abfs_client_secret", "abfs_sas_string")


def locate(dataset: Dataset, host: str, *, allow_private: bool) -> Location:
    authority, key = split(dataset, ("abfs", "abfss", "az"))
    container, account = _account(dataset, authority)
    endpoint = str(dataset.options.get("abfs_endpoint") or "").rstrip("/")
    if endpoint:
        require_usable(dataset, endpoint, allow_private=allow_private)
    store = _connect(dataset, container, account, endpoint)
    return seldom_listed(
        dataset,
        store,
        scheme="az",
        host=host,
        key=key,
        look=lambda: look_at_azure(dataset, container, account, endpoint),
        list_keys=first_keys,
    )


def _account(dataset: Dataset, authority: str) -> tuple[str, str]:
    """`container`, or `container@account.dfs.core.windows.net`."""
    container, _, server = authority.partition("@")
    named, given = server.partition(".")[0], str(dataset.options.get("abfs_account") or "")
    if named and given and named != given:
        raise SourceError(dataset.name, "the location and abfs_account name two accounts")
    if not container or not (named or given):
        raise SourceError(dataset.name, "an account is needed, in the location or as abfs_account")
    return container, named or given


def _connect(dataset: Dataset, container: str, account: str, endpoint: str) -> Any:
    options = dataset.options
    given = [name for name in _SECRETS if options.get(name)]
    if len(given) > 1:
        raise SourceError(dataset.name, f"only one of {', '.join(given)} may be given")
    if "abfs_client_secret" in given and not (
        options.get("abfs_client_id") and options.get("abfs_tenant_id")
    ):
        raise SourceError(dataset.name, "abfs_client_secret needs abfs_client_id and abfs_tenant_id")
    sas = parse_qsl(str(options.get("abfs_sas_string") or "").lstrip("?"))
    # Without credentials the client would ask the machine's metadata service for the machine's own.
    variables = {} if given else {"AZURE_SKIP_SIGNATURE": "true"}
    if endpoint:
        variables["AZURE_STORAGE_ENDPOINT"] = endpoint
    variables |= {f"AZURE_{name.upper()}": value for name, value in client_timeout(options).items()}
    try:
        with environ(variables):
            return MicrosoftAzure(
                container_name=container,
                account=account,
                access_key=options.get("abfs_access_key") or None,
                bearer_token=options.get("abfs_bearer_token") or None,
                client_id=options.get("abfs_client_id") or None,
                client_secret=options.get("abfs_client_secret") or None,
                tenant_id=options.get("abfs_tenant_id") or None,
                sas_query_pairs=sas or None,
                allow_http=allows_http(dataset),
            )
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - a Rust panic
        raise SourceError(dataset.name, "the credentials are not usable") from None
