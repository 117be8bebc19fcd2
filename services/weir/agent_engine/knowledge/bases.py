"""The knowledge bases that a tenant has: create, read, change, delete, and which agents look things up in them."""

from msgspec import UNSET

from weir.agent_engine.agents import find_agent
from weir.agent_engine.knowledge.vectors import require_vectors
from weir.agent_engine.models.configured import embedder_named
from weir.agent_engine.naming import Faults, check_name, invalid, missing, reference
from weir.agent_engine.tables import knowledge
from weir.agent_engine.tables.knowledge import BaseRow
from weir.agent_engine.wire.knowledge import BaseChange, BaseDetail, NewBase
from weir_shared.clock import now, rfc3339
from weir_shared.db.pool import Connection, Database, ForeignKeyViolation, UniqueViolation
from weir_shared.errors import Conflict
from weir_shared.ids import new_id

PATH = "embedding_model_id"


async def list_bases(database: Database, tenant_id: str) -> list[BaseDetail]:
    async with database.tenant(tenant_id) as connection:
        return [_detail(row) for row in await knowledge.every_base(connection, tenant_id)]


async def read_base(database: Database, tenant_id: str, name: str) -> BaseDetail:
    async with database.tenant(tenant_id) as connection:
        return _detail(await find_base(connection, tenant_id, name))


async def create_base(database: Database, tenant_id: str, new: NewBase) -> BaseDetail:
    """Raises ValidationFailed, Conflict, and NoVectors where the ledger cannot keep any."""
    await require_vectors(database)
    return await add_base(database, tenant_id, new)


async def add_base(database: Database, tenant_id: str, new: NewBase) -> BaseDetail:
    """The same in a ledger of which it is known that it keeps vectors."""
    faults = Faults()
    with faults.gathered():
        check_name(new.name)
    try:
        async with database.tenant(tenant_id) as connection:
            model_id = 0
            with faults.gathered():
                model_id = (await embedder_named(connection, tenant_id, PATH, new.embedding_model_id)).id
            faults.raise_any()
            id = new_id()
            await knowledge.add_base(
                connection, tenant_id, id, new.name, new.description or "", model_id, now()
            )
            return _detail(await find_base(connection, tenant_id, id))
    except UniqueViolation:
        raise Conflict(f"There is a knowledge base named '{new.name}' already") from None
    except ForeignKeyViolation:
        raise invalid("embedding_model_id", "the model was deleted at this moment") from None


async def change_base(database: Database, tenant_id: str, name: str, change: BaseChange) -> BaseDetail:
    """Raises ValidationFailed, NotFound, and Conflict for another name."""
    async with database.tenant(tenant_id) as connection:
        row = await find_base(connection, tenant_id, name)
        await knowledge.lock_base(connection, tenant_id, row.id)
        if change.name is not UNSET and change.name != row.name:
            raise Conflict("The name of a knowledge base cannot change")
        model_id = row.embedding_model_id
        if change.embedding_model_id is not UNSET:
            model_id = (await embedder_named(connection, tenant_id, PATH, change.embedding_model_id)).id
        described = row.description if change.description is UNSET else change.description or ""
        await knowledge.change_base(connection, tenant_id, row.id, described, model_id, now())
        if model_id != row.embedding_model_id:
            files = await knowledge.every_file(connection, tenant_id, row.id)
            # The old vectors are of another space than the new model's questions.
            await knowledge.index_anew(connection, tenant_id, [file.id for file in files], hide=True)
        return _detail(await find_base(connection, tenant_id, row.id))


async def delete_base(database: Database, tenant_id: str, name: str) -> None:
    """Its files and all that was made of them go with it. Raises Conflict while agents are linked."""
    async with database.tenant(tenant_id) as connection:
        found = await find_base(connection, tenant_id, name)
        await knowledge.lock_base(connection, tenant_id, found.id)
        row = await find_base(connection, tenant_id, found.id)
        if row.linked_agents:
            shown = ", ".join(row.linked_agents[:5]) + ("…" if len(row.linked_agents) > 5 else "")
            raise Conflict(f"Agents look things up in this knowledge base ({shown}); unlink them first")
        await knowledge.remove_base(connection, tenant_id, row.id)


async def link_agent(database: Database, tenant_id: str, name: str, agent: str) -> None:
    """Linking twice is linking once."""
    async with database.tenant(tenant_id) as connection:
        known = await knowledge.hold_names(connection, tenant_id)
        row = await find_base(connection, tenant_id, name)
        found = await find_agent(connection, tenant_id, agent)
        if row.id not in known:
            raise missing("knowledge base", name)
        await knowledge.link(connection, tenant_id, row.name, found.id, now())


async def unlink_agent(database: Database, tenant_id: str, name: str, agent: str) -> None:
    async with database.tenant(tenant_id) as connection:
        row = await find_base(connection, tenant_id, name)
        found = await find_agent(connection, tenant_id, agent)
        await knowledge.unlink(connection, tenant_id, row.name, found.id, now())


async def base_of_agent(database: Database, tenant_id: str, agent: str) -> str | None:
    """The id of the first knowledge base of an agent. Raises NotFound for an agent that there is not."""
    async with database.tenant(tenant_id) as connection:
        found = await find_agent(connection, tenant_id, agent)
        for name in found.knowledge_base_ids:
            if row := await knowledge.find_base(connection, tenant_id, name, None):
                return row.id
    return None


async def find_base(connection: Connection, tenant_id: str, name: str) -> BaseRow:
    """Raises NotFound."""
    row = await knowledge.find_base(connection, tenant_id, *reference(name, "knowledge base"))
    if row is None:
        raise missing("knowledge base", name)
    return row


def _detail(row: BaseRow) -> BaseDetail:
    return BaseDetail(
        id=row.id,
        name=row.name,
        description=row.description,
        embedding_model_id=str(row.embedding_model_id),
        embedding_model=row.embedding_model,
        file_count=row.file_count,
        linked_agents=row.linked_agents,
        created_at=rfc3339(row.created_at),
        updated_at=rfc3339(row.updated_at),
    )
