"""The safety net under the queues: an awake dataset's objects are listed now and then, for what nobody told of."""

import asyncio
import hashlib
from typing import Any

import structlog
from msgspec import Struct

from weir.context_lake import names, secrets
from weir.context_lake.deployment import compile_dataset, with_roles
from weir.context_lake.notifications.matching import Watched
from weir.context_lake.roles import Lender
from weir.context_lake.surroundings import Surroundings
from weir.context_lake.tables import lake_notifications, lake_refreshes, lakes
from weir.context_lake.tables.lake_notifications import Notification
from weir_shared.db.pool import Database
from weir_shared.sealing import SealError, Vault

AT_ONCE = 4
LIST_SECONDS = 240

log = structlog.get_logger(__name__)


class ListingFailed(Exception):
    """The objects of a dataset could not be listed."""


class Reconciler(Struct, frozen=True):
    """What listing takes; a dataset is listed with its own credentials."""

    database: Database
    vault: Vault
    surroundings: Surroundings
    lender: Lender
    every_seconds: float


async def reconcile_any(reconciler: Reconciler) -> None:
    """Lists the datasets whose time has come; what differs from the listing before is read again."""
    async with reconciler.database.any_tenant() as connection:
        due = await lake_notifications.claim_listing_any(
            connection, seconds=reconciler.every_seconds, most=AT_ONCE
        )
    await asyncio.gather(*(_reconcile(reconciler, item) for item in due))


async def _reconcile(reconciler: Reconciler, item: Notification) -> None:
    try:
        options = await _options_of(reconciler, item)
        if options is None:
            return
        watched = Watched(bucket=item.bucket, path=item.path, format=item.format, ending=item.ending)
        async with asyncio.timeout(LIST_SECONDS):
            listing = await list_fingerprint(options, watched)
    except (ListingFailed, SealError, TimeoutError) as fault:
        log.info("dataset not listed", tenant_id=item.tenant_id, dataset=item.name, reason=str(fault))
        return
    async with reconciler.database.tenant(item.tenant_id) as connection:
        if item.listing is not None and item.listing != listing:
            log.info("dataset differs from its last listing", tenant_id=item.tenant_id, dataset=item.name)
            await lake_refreshes.want(connection, item.tenant_id, item.name, trigger="reconcile")
        await lake_notifications.note_listing(connection, item.tenant_id, item.id, listing)


async def _options_of(reconciler: Reconciler, item: Notification) -> dict[str, Any] | None:
    """How the runtime reads the dataset, or None when it is not what is to be listed any more."""
    async with reconciler.database.tenant(item.tenant_id) as connection:
        lake = await lakes.read_sealed_lake(connection, item.tenant_id)
    dataset = lake.document.find_dataset(item.name)
    if dataset is None or not dataset.notifications or names.key_of(dataset.name) != item.name:
        return None
    opened = await secrets.open_all(reconciler.vault, item.tenant_id, lake.secrets)
    compiled = compile_dataset(dataset, opened, reconciler.surroundings)
    await with_roles([compiled], reconciler.lender, item.tenant_id)
    return compiled["options"]


async def list_fingerprint(options: dict[str, Any], watched: Watched) -> str:
    """Of names, contents and sizes of everything that the dataset reads. Raises ListingFailed."""
    # Imported when needed: see the queues.
    from aiobotocore.session import get_session  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    seen = hashlib.sha256()
    try:
        async with get_session().create_client("s3", **_client_options(options)) as client:
            pages = client.get_paginator("list_objects_v2").paginate(
                Bucket=watched.bucket, Prefix=watched.prefix
            )
            async for page in pages:
                for item in page.get("Contents", ()):
                    if watched.holds(item["Key"]) and watched.reads(item["Key"]):
                        seen.update(repr((item["Key"], item.get("ETag"), item.get("Size"))).encode())
    except (BotoCoreError, ClientError, OSError) as fault:
        raise ListingFailed(str(fault)) from None
    return seen.hexdigest()


def _client_options(options: dict[str, Any]) -> dict[str, Any]:
    from aiobotocore.config import AioConfig  # noqa: PLC0415
    from botocore import UNSIGNED  # noqa: PLC0415

    style = "virtual" if options.get("url_style") == "vhost" else "path"
    config: dict[str, Any] = {"s3": {"addressing_style": style}, "connect_timeout": 5, "read_timeout": 30}
    keys: dict[str, Any] = {}
    # Never with the platform's own credentials: they may see more than the tenant.
    if options["auth"] == "public":
        config["signature_version"] = UNSIGNED
    elif options.get("access_key_id") and options.get("secret_access_key"):
        keys = {
            "aws_access_key_id": options["access_key_id"],
            "aws_secret_access_key": options["secret_access_key"],
            "aws_session_token": options.get("session_token"),
        }
    else:
        raise ListingFailed(options.get("role_refusal") or "the dataset has no access key")
    return {
        "region_name": options["region"],
        "endpoint_url": options.get("endpoint"),
        "config": AioConfig(**config),
        **keys,
    }
