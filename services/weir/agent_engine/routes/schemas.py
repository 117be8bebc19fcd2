"""/api/v1/schemas"""

from litestar import delete, get, patch, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from weir.agent_engine import schemas
from weir.agent_engine.studio import Studio
from weir.agent_engine.wire.schemas import NewSchema, SchemaChange, SchemaDetail
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal

READ = [requires_scope("schemas:read")]
WRITE = [requires_scope("schemas:write")]


@get("/schemas", guards=READ)
async def list_schemas(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal]
) -> list[SchemaDetail]:
    """The tenant's schemas, oldest first."""
    return await schemas.list_schemas(studio.database, principal.tenant_id)


@post("/schemas", guards=WRITE)
async def create_schema(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], data: JSONBody[NewSchema]
) -> SchemaDetail:
    """Creates a schema, whose name never changes."""
    return await schemas.create_schema(studio.database, principal.tenant_id, data)


@get("/schemas/{name:str}", guards=READ)
async def read_schema(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], name: FromPath[str]
) -> SchemaDetail:
    """One schema, by its name or its id."""
    return await schemas.read_schema(studio.database, principal.tenant_id, name)


@put("/schemas/{name:str}", guards=WRITE)
async def update_schema(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    name: FromPath[str],
    data: JSONBody[SchemaChange],
) -> SchemaDetail:
    """Changes the fields that are sent."""
    return await schemas.change_schema(studio.database, principal.tenant_id, name, data)


@patch("/schemas/{name:str}", guards=WRITE)
async def patch_schema(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    name: FromPath[str],
    data: JSONBody[SchemaChange],
) -> SchemaDetail:
    """The same as PUT."""
    return await schemas.change_schema(studio.database, principal.tenant_id, name, data)


@delete("/schemas/{name:str}", guards=WRITE)
async def delete_schema(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], name: FromPath[str]
) -> None:
    """Deletes a schema; its sessions stay, as history."""
    await schemas.delete_schema(studio.database, principal.tenant_id, name)


@get("/schemas/{name:str}/agents", guards=READ)
async def list_schema_agents(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], name: FromPath[str]
) -> list[str]:
    """The names of the schema's agents: its entry agent, and both ends of every relation."""
    return await schemas.list_members(studio.database, principal.tenant_id, name)


ROUTES = [
    list_schemas,
    create_schema,
    read_schema,
    update_schema,
    patch_schema,
    delete_schema,
    list_schema_agents,
]
