"""Objects in Google Cloud Storage. The client takes its key, and everything else, from a file only."""

import json
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from datafusion.object_store import GoogleCloud

from weir.lake_runtime.faults import SourceError
from weir.lake_runtime.settings import RuntimeSettings
from weir.lake_runtime.sources.listing import Location
from weir.lake_runtime.sources.looking import first_keys, look_at_google
from weir.lake_runtime.sources.objects import require_usable, seldom_listed, split
from weir.lake_runtime.wire import Dataset

_KEY_PARTS = ("client_email", "private_key", "private_key_id")


def locate(dataset: Dataset, host: str, settings: RuntimeSettings) -> Location:
    bucket, key = split(dataset, ("gs", "gcs"))
    credentials = _credentials(dataset)
    if endpoint := str(dataset.options.get("gcs_endpoint") or "").rstrip("/"):
        require_usable(dataset, endpoint, allow_private=settings.allow_private)
        credentials["gcs_base_url"] = endpoint
    with _key_file(settings.cache_dir, credentials) as path:
        try:
            store = GoogleCloud(bucket_name=bucket, service_account_path=str(path))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001 - a Rust panic, whose text holds the path
            raise SourceError(dataset.name, "gcs_service_account_key is not a usable key") from None
    account = "" if "disable_oauth" in credentials else json.dumps({p: credentials[p] for p in _KEY_PARTS})
    return seldom_listed(
        dataset,
        store,
        scheme="gs",
        host=host,
        key=key,
        look=lambda: look_at_google(dataset, bucket, endpoint, account),
        list_keys=first_keys,
    )


def _credentials(dataset: Dataset) -> dict[str, object]:
    """What is known of a key, and nothing else: a key may name a server of its own."""
    auth = str(dataset.options.get("gcs_auth") or "public")
    if auth == "public":
        return {"disable_oauth": True, **dict.fromkeys(_KEY_PARTS, "")}
    if auth != "service_account":
        raise SourceError(dataset.name, "gcs_auth is public or service_account")
    try:
        key = json.loads(str(dataset.options.get("gcs_service_account_key") or ""))
        return {part: str(key[part]) for part in _KEY_PARTS}
    except (ValueError, TypeError, KeyError, RecursionError):
        raise SourceError(dataset.name, "gcs_service_account_key is not a service account's key") from None


@contextmanager
def _key_file(cache_dir: Path, credentials: dict[str, object]) -> Generator[Path]:
    """A file that only this user may read, gone when the client has read it."""
    descriptor, name = tempfile.mkstemp(prefix="key-", suffix=".json", dir=cache_dir)
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(credentials, file)
        yield Path(name)
    finally:
        Path(name).unlink()
