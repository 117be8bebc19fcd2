"""/api/v1/schemas/{name}/memory"""

from litestar import delete, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from weir.agent_engine import memory
from weir.agent_engine.studio import Studio
from weir.agent_engine.wire.memory import Deleted, MemoryEntry
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal


@get("/schemas/{name:str}/memory", guards=[requires_scope("schemas:read")])
async def list_memories(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], name: FromPath[str]
) -> list[MemoryEntry]:
    """What the schema's agents remember of the caller, newest first; an administrator sees everybody's."""
    return await memory.list_memories(studio.database, principal, name)


@delete("/schemas/{name:str}/memory", guards=[requires_scope("schemas:write")])
async def forget_all(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], name: FromPath[str]
) -> None:
    """Forgets all that the caller would see."""
    await memory.forget_all(studio.database, principal, name)


@delete(
    "/schemas/{name:str}/memory/{entry_id:str}", guards=[requires_scope("schemas:write")], status_code=200
)
async def forget(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    name: FromPath[str],
    entry_id: FromPath[str],
) -> Deleted:
    """Forgets one entry."""
    return await memory.forget(studio.database, principal, name, entry_id)


ROUTES = [list_memories, forget_all, forget]
