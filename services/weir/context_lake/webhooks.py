"""A lake's inbound webhook: an address that whoever knows it may call, to have datasets read again."""

import hashlib
import secrets

from msgspec import Struct

from weir.context_lake import names
from weir.context_lake.changing import Catalogue
from weir.context_lake.datasets import DatasetNotFound
from weir.context_lake.tables import lake_refreshes, lake_webhooks, lakes
from weir.context_lake.tables.lake_webhooks import Webhook
from weir_shared.auth.principal import Principal
from weir_shared.errors import NotFound

PREFIX = "clwh_"
HINT_CHARACTERS = 12
# Further calls within this time are answered and have no effect.
TRIGGER_SECONDS = 30.0


class WebhookNotFound(NotFound):
    """The same for every token that is none: nothing tells a near miss from a far one."""

    def __init__(self) -> None:
        super().__init__("There is no such webhook")


class ShownWebhook(Struct, frozen=True, kw_only=True):
    webhook: Webhook
    token: str | None
    """Only when it has just been made: it is not kept."""


async def show_webhook(catalogue: Catalogue, principal: Principal) -> ShownWebhook:
    """The lake's webhook, made when nobody has looked at it before."""
    token = _new_token()
    async with catalogue.database.tenant(principal.tenant_id) as connection:
        known = await lake_webhooks.find_webhook(connection, principal.tenant_id)
        if known is not None:
            return ShownWebhook(webhook=known, token=None)
        made = await lake_webhooks.add_webhook(connection, principal.tenant_id, hash_of(token), _hint(token))
        if made is not None:
            return ShownWebhook(webhook=made, token=token)
        known = await lake_webhooks.find_webhook(connection, principal.tenant_id)
    assert known is not None, "somebody else has made it in this moment"
    return ShownWebhook(webhook=known, token=None)


async def rotate_webhook(catalogue: Catalogue, principal: Principal) -> ShownWebhook:
    """A new token; the one of before is refused from now on."""
    token = _new_token()
    async with catalogue.database.tenant(principal.tenant_id) as connection:
        made = await lake_webhooks.put_webhook(connection, principal.tenant_id, hash_of(token), _hint(token))
    return ShownWebhook(webhook=made, token=token)


async def call_webhook(catalogue: Catalogue, token: str, dataset: str | None) -> None:
    """Wishes for a refresh of one dataset, or of all. Raises WebhookNotFound, DatasetNotFound."""
    async with catalogue.database.any_tenant() as connection:
        # The hash is looked up, not compared: how long that takes tells nothing of the token.
        tenant_id = await lake_webhooks.find_any_owner(connection, hash_of(token))
    if tenant_id is None:
        raise WebhookNotFound
    async with catalogue.database.tenant(tenant_id) as connection:
        there = {
            names.key_of(item.name)
            for item in (await lakes.read_lake(connection, tenant_id)).document.datasets
        }
        if dataset is not None and names.key_of(dataset) not in there:
            raise DatasetNotFound(dataset)
        wanted = there if dataset is None else {names.key_of(dataset)}
        await lake_webhooks.note_call(connection, tenant_id)
        name = "" if dataset is None else names.key_of(dataset)
        if not await lake_webhooks.trigger(connection, tenant_id, name, seconds=TRIGGER_SECONDS):
            return
        for key in sorted(wanted):
            await lake_refreshes.want(connection, tenant_id, key, trigger="webhook")
    for key in sorted(wanted):
        await catalogue.doorbell.ring("lake.refresh", key=f"{tenant_id}:{key}", tenant_id=tenant_id, name=key)


def hash_of(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _new_token() -> str:
    return PREFIX + secrets.token_hex(32)


def _hint(token: str) -> str:
    return token[:HINT_CHARACTERS]
