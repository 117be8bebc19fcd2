"""/api/v1/schema-templates"""

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from weir.agent_engine import forks
from weir.agent_engine.studio import Studio
from weir.agent_engine.wire.templates import ForkedTemplate, Template, TemplateFork, TemplateList
from weir_shared.auth.guards import requires_caller, requires_scope
from weir_shared.auth.principal import Principal

ANYBODY = [requires_caller]
WRITE = [requires_scope("schemas:write")]


@get("/schema-templates", guards=ANYBODY)
async def list_templates(
    category: FromQuery[str | None] = None, q: FromQuery[str | None] = None
) -> TemplateList:
    """The templates that the platform ships, by title."""
    return forks.list_templates(category, q)


@get("/schema-templates/{name:str}", guards=ANYBODY)
async def read_template(name: FromPath[str]) -> Template:
    """One template."""
    return forks.read_template(name)


@post("/schema-templates/{name:str}/fork", guards=WRITE)
async def fork_template(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    name: FromPath[str],
    data: JSONBody[TemplateFork],
) -> ForkedTemplate:
    """Makes a schema of a template, with agents of its own and the tenant's default model."""
    return await forks.fork_template(studio.database, principal.tenant_id, name, data.schema_name)


ROUTES = [list_templates, read_template, fork_template]
