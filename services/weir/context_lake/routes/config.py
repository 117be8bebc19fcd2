"""`/v1/context-lake/config`: a lake as one document, read and patched."""

from typing import Any

import msgspec
from litestar import Request, Response, Router, get, patch
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Struct

from weir.context_lake import names, page
from weir.context_lake.changing import Catalogue, Reply, Terms, Written, read_lake
from weir.context_lake.document import Changes
from weir.context_lake.notifications import telling
from weir.context_lake.notifications.telling import ToldQueue
from weir.context_lake.patch import WantedPatch, patch_lake
from weir.context_lake.permissions import visible_part
from weir.context_lake.routes.guards import requires_json
from weir.context_lake.routes.terms import TERMS, reply_of, sent, shown
from weir.context_lake.vms.waking import Vms
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal
from weir_shared.clock import rfc3339
from weir_shared.errors import FieldError

YAML = "application/yaml"


class Patched(Struct, frozen=True, kw_only=True):
    ok: bool = True
    version: int
    changes: Changes
    warnings: list[FieldError]
    notifications: dict[str, ToldQueue] = {}
    """The queues of the datasets that this patch adds or updates, by their names."""


@get("/", guards=[requires_scope("lake:read")])
async def show_config(
    request: Request[Any, Any, Any],
    principal: NamedDependency[Principal],
    catalogue: NamedDependency[Catalogue],
    vms: NamedDependency[Vms],
) -> Response[dict[str, Any]]:
    """The whole configuration, parsed and as YAML; the YAML alone for `Accept: application/yaml`."""
    lake = await read_lake(catalogue, principal)
    spicepod = page.spicepod_of(visible_part(lake.document, principal))
    text = page.yaml_of(spicepod)
    if wants_yaml(request):
        answer = shown(text, lake.version)
        answer.media_type = YAML
        return answer
    body = {
        "yaml": text,
        "config": spicepod,
        "version": lake.version,
        "appliedVersion": (await vms.look(principal.tenant_id)).applied_version,
        "updatedAt": rfc3339(lake.updated_at) if lake.updated_at else None,
    }
    return shown(body, lake.version)


@patch("/", guards=[requires_scope("lake:write"), requires_json])
async def patch_config(
    request: Request[Any, Any, Any],
    data: JSONBody[WantedPatch],
    principal: NamedDependency[Principal],
    catalogue: NamedDependency[Catalogue],
    terms: NamedDependency[Terms],
) -> Response[Patched]:
    """Adds, removes and updates datasets and views, all of it or nothing."""
    order = list(msgspec.json.decode(await request.body(), type=dict[str, msgspec.Raw]))

    def tell(written: Written) -> Reply:
        changed = (*written.changes.datasets.added, *written.changes.datasets.updated)
        body = Patched(
            version=written.version,
            changes=written.changes,
            warnings=written.warnings,
            notifications={
                name: telling.told(queue)
                for name in changed
                if (queue := written.queues.get(names.key_of(name))) is not None
            },
        )
        return reply_of(body, written)

    return sent(await patch_lake(catalogue, principal, data, order, terms, tell))


def wants_yaml(request: Request[Any, Any, Any]) -> bool:
    kinds = (kind.partition(";")[0].strip().lower() for kind in request.headers.get("accept", "").split(","))
    return next((kind == YAML for kind in kinds if kind in (YAML, "application/json")), False)


routes = Router(
    "/v1/context-lake/config",
    route_handlers=[show_config, patch_config],
    dependencies=TERMS,
    tags=["context lake"],
)
