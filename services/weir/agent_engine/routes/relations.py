"""/api/v1/schemas/{name}/agent-relations"""

from litestar import delete, get, patch, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from weir.agent_engine import relations
from weir.agent_engine.studio import Studio
from weir.agent_engine.wire.relations import NewRelation, RelationChange, RelationDetail
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal

READ = [requires_scope("schemas:read")]
WRITE = [requires_scope("schemas:write")]


@get("/schemas/{name:str}/agent-relations", guards=READ)
async def list_relations(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    name: FromPath[str],
) -> list[RelationDetail]:
    """The schema's relations, oldest first."""
    return await relations.list_relations(studio.database, principal.tenant_id, name)


@post("/schemas/{name:str}/agent-relations", guards=WRITE)
async def create_relation(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    name: FromPath[str],
    data: JSONBody[NewRelation],
) -> RelationDetail:
    """Lets one agent of the schema hand work to another."""
    return await relations.create_relation(studio.database, principal.tenant_id, name, data)


@get("/schemas/{name:str}/agent-relations/{relation_id:str}", guards=READ)
async def read_relation(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    name: FromPath[str],
    relation_id: FromPath[str],
) -> RelationDetail:
    """One relation."""
    return await relations.read_relation(studio.database, principal.tenant_id, name, relation_id)


@put("/schemas/{name:str}/agent-relations/{relation_id:str}", guards=WRITE)
async def update_relation(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    name: FromPath[str],
    relation_id: FromPath[str],
    data: JSONBody[RelationChange],
) -> RelationDetail:
    """Changes the fields that are sent."""
    return await relations.change_relation(studio.database, principal.tenant_id, name, relation_id, data)


@patch("/schemas/{name:str}/agent-relations/{relation_id:str}", guards=WRITE)
async def patch_relation(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    name: FromPath[str],
    relation_id: FromPath[str],
    data: JSONBody[RelationChange],
) -> RelationDetail:
    """The same as PUT."""
    return await relations.change_relation(studio.database, principal.tenant_id, name, relation_id, data)


@delete("/schemas/{name:str}/agent-relations/{relation_id:str}", guards=WRITE)
async def delete_relation(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    name: FromPath[str],
    relation_id: FromPath[str],
) -> None:
    """Ends a relation; its agents stay."""
    await relations.delete_relation(studio.database, principal.tenant_id, name, relation_id)


ROUTES = [list_relations, create_relation, read_relation, update_relation, patch_relation, delete_relation]
