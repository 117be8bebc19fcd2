"""`/v1/context-lake/webhook`: the lake's inbound webhook, seen and given a new address."""

from litestar import Router, get, post
from litestar.di import NamedDependency
from msgspec import Struct

from weir.context_lake import webhooks
from weir.context_lake.changing import Catalogue
from weir.context_lake.webhooks import ShownWebhook
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal
from weir_shared.clock import rfc3339

PATH = "/api/hooks/cl/"


class ToldWebhook(Struct, frozen=True, kw_only=True):
    """`url` and `token` only when the token has just been made; `hint` is how it begins."""

    url: str | None
    token: str | None
    hint: str
    createdAt: str
    lastCalledAt: str | None


@get("/")
async def show_webhook(
    principal: NamedDependency[Principal], catalogue: NamedDependency[Catalogue]
) -> ToldWebhook:
    """The webhook; the first look makes it and is the only one that shows its token."""
    return _told(await webhooks.show_webhook(catalogue, principal))


@post("/")
async def rotate_webhook(
    principal: NamedDependency[Principal], catalogue: NamedDependency[Catalogue]
) -> ToldWebhook:
    """A new token, shown once; the one of before is refused from now on."""
    return _told(await webhooks.rotate_webhook(catalogue, principal))


def _told(shown: ShownWebhook) -> ToldWebhook:
    webhook = shown.webhook
    return ToldWebhook(
        url=PATH + shown.token if shown.token else None,
        token=shown.token,
        hint=webhook.hint,
        createdAt=rfc3339(webhook.created_at),
        lastCalledAt=rfc3339(webhook.last_called_at) if webhook.last_called_at else None,
    )


routes = Router(
    "/v1/context-lake/webhook",
    route_handlers=[show_webhook, rotate_webhook],
    guards=[requires_scope("lake:admin")],
    tags=["context lake"],
)
