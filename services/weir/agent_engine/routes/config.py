"""/api/v1/config: the configuration as a document, and its reload."""

import asyncio
from dataclasses import dataclass
from typing import Any

from litestar import MediaType, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    RequestBody,
    Schema,
)
from litestar.params import FromQuery

from weir.agent_engine.portable.document import parsed, sections_of
from weir.agent_engine.portable.exporting import export_document, yaml_of
from weir.agent_engine.portable.importing import import_document
from weir.agent_engine.portable.reloading import reload
from weir.agent_engine.studio import Studio
from weir.agent_engine.wire.portable import Imported, Reloaded
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal

YAML = "application/x-yaml"
FILE_NAME = "weir-config.yaml"
GUARDS = [requires_scope("config")]
DOCUMENT = Schema(
    type=OpenAPIType.OBJECT,
    description="A mapping with the sections models, mcp_servers, knowledge_bases, tools, agents and schemas; "
    "each is a list of things with a name, or a mapping of names to things",
)


@dataclass
class ImportOperation(Operation):
    """The operation with its body, which is read by hand."""

    def __post_init__(self) -> None:
        forms = (YAML, "application/yaml", "text/yaml", "application/json")
        body = {form: OpenAPIMediaType(schema=DOCUMENT) for form in forms}
        self.request_body = RequestBody(required=True, content=body)


@dataclass
class ExportOperation(Operation):
    """The document's two forms."""

    def __post_init__(self) -> None:
        answer = (self.responses or {}).get("200")
        if isinstance(answer, OpenAPIResponse):
            answer.content = {form: OpenAPIMediaType(schema=DOCUMENT) for form in (YAML, "application/json")}


@post("/config/reload", guards=GUARDS, status_code=200)
async def reload_config(studio: NamedDependency[Studio], principal: NamedDependency[Principal]) -> Reloaded:
    """Counts what is configured. A change takes effect with the next request; nothing has to be reloaded for it."""
    return await reload(studio.database, principal.tenant_id)


@get(
    "/config/export",
    guards=GUARDS,
    operation_class=ExportOperation,
    responses={200: ResponseSpec(data_container=dict[str, Any], description="The document")},
)
async def export_config(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    request: Request[Any, Any, Any],
) -> Response[Any]:
    """The configuration as YAML, or as JSON where that is asked for; without secrets."""
    document = await export_document(studio.database, principal.tenant_id)
    if "application/json" in request.headers.get("accept", ""):
        return Response(document, media_type=MediaType.JSON)
    return Response(
        (await asyncio.to_thread(yaml_of, document)).encode(),
        media_type=YAML,
        headers={"Content-Disposition": f'attachment; filename="{FILE_NAME}"'},
    )


@post("/config/import", guards=GUARDS, status_code=200, operation_class=ImportOperation)
async def import_config(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    request: Request[Any, Any, Any],
    dry_run: FromQuery[bool] = False,
) -> Imported:
    """Merges a document into the configuration, all of it or nothing; with `dry_run` it is only tried.

    What the document does not name stays as it is. A fault anywhere is told with its place, and nothing is done.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    data = await asyncio.to_thread(parsed, await request.body(), media_type)
    sections = sections_of(data, studio.config_variables)
    return await import_document(studio, principal.tenant_id, sections, dry_run=dry_run)


ROUTES = [reload_config, export_config, import_config]
