"""Looking at a store's objects without reading them: the first keys of a folder, an object's size and age.

The engine reads objects by a client of its own, which tells neither. Loaded only for datasets that ask for
folders as columns or for columns that tell of the file.
"""

from typing import Any

from weir.lake_runtime.sources.durations import client_timeout
from weir.lake_runtime.sources.environment import environ
from weir.lake_runtime.sources.objects import allows_http
from weir.lake_runtime.wire import Dataset

FIRST_KEYS = 1_000
_RETRIES: Any = {"max_retries": 2}


def look_at_s3(dataset: Dataset, bucket: str, endpoint: str) -> Any:
    from obstore.store import S3Store  # noqa: PLC0415 - loaded with the first dataset that needs it

    options, keys = dataset.options, {}
    if str(options.get("auth") or "public") != "public":
        names = ("access_key_id", "secret_access_key", "session_token")
        keys = {name: str(options[name]) for name in names if options.get(name)}
    config: dict[str, Any] = {**keys, "skip_signature": not keys}
    if endpoint:
        config["endpoint"] = endpoint
    if options.get("url_style") == "vhost":
        config["virtual_hosted_style_request"] = True
    region = str(options.get("region") or "us-east-1")
    with environ({}):
        return S3Store(
            bucket, region=region, client_options=_client(dataset), retry_config=_RETRIES, **config
        )  # type: ignore[arg-type]


def look_at_google(dataset: Dataset, bucket: str, endpoint: str, key: str) -> Any:
    """`key` is a service account's, as JSON; empty for a public bucket."""
    from obstore.store import GCSStore  # noqa: PLC0415

    config: dict[str, Any] = {"service_account_key": key} if key else {"skip_signature": True}
    if endpoint:
        config["base_url"] = endpoint
    with environ({}):
        return GCSStore(bucket, client_options=_client(dataset), retry_config=_RETRIES, **config)  # type: ignore[arg-type]


def look_at_azure(dataset: Dataset, container: str, account: str, endpoint: str) -> Any:
    from obstore.store import AzureStore  # noqa: PLC0415

    names = {
        "abfs_access_key": "account_key",
        "abfs_bearer_token": "token",
        "abfs_client_id": "client_id",
        "abfs_client_secret": "client_secret",
        "abfs_tenant_id": "tenant_id",
        "abfs_sas_string": "sas_key",
    }
    config: dict[str, Any] = {
        known: str(dataset.options[name]).removeprefix("?")
        for name, known in names.items()
        if dataset.options.get(name)
    }
    if not config:
        config["skip_signature"] = True
    if endpoint:
        config["endpoint"] = endpoint
    with environ({}):
        return AzureStore(  # type: ignore[call-overload]
            container, account_name=account, client_options=_client(dataset), retry_config=_RETRIES, **config
        )


def first_keys(store: Any, prefix: str) -> tuple[list[str], bool]:
    """Up to 1,000 keys under a prefix, relative to it, and whether that is all of them."""
    import obstore  # noqa: PLC0415

    found = next(iter(obstore.list(store, prefix=prefix or None, chunk_size=FIRST_KEYS)), [])
    keys = [str(item["path"])[len(prefix) :] for item in found if not item["path"].endswith("/")]
    return keys, len(found) < FIRST_KEYS


def _client(dataset: Dataset) -> Any:
    told = client_timeout(dataset.options) or {"timeout": "30s"}
    return {"allow_http": allows_http(dataset), "connect_timeout": "5s", **told}
