"""The schemas that a tenant has configured: what one chats with. Their names never change."""

from msgspec import UNSET
from msgspec.structs import replace

from weir.agent_engine.naming import check_name, invalid, missing, reference
from weir.agent_engine.tables import agents, schemas
from weir.agent_engine.tables.schemas import SchemaRow
from weir.agent_engine.wire.schemas import NewSchema, SchemaChange, SchemaDetail, SchemaFields
from weir_shared.clock import now, rfc3339
from weir_shared.db.pool import Connection, Database, ForeignKeyViolation, UniqueViolation
from weir_shared.errors import Conflict, Forbidden, NotFound
from weir_shared.ids import new_id


async def list_schemas(database: Database, tenant_id: str) -> list[SchemaDetail]:
    async with database.tenant(tenant_id) as connection:
        return [_detail(row) for row in await schemas.every(connection, tenant_id)]


async def read_schema(database: Database, tenant_id: str, name: str) -> SchemaDetail:
    async with database.tenant(tenant_id) as connection:
        return _detail(await find_schema(connection, tenant_id, name))


async def create_schema(database: Database, tenant_id: str, new: NewSchema) -> SchemaDetail:
    """Raises ValidationFailed, also for an entry agent that does not exist, and Conflict."""
    check_name(new.name)
    try:
        async with database.tenant(tenant_id) as connection:
            row = await _merged(connection, tenant_id, _blank(new.name), new)
            await schemas.add(connection, tenant_id, row)
    except UniqueViolation:
        raise Conflict(f"There is a schema named '{new.name}' already") from None
    except ForeignKeyViolation:
        raise invalid("entry_agent_id", "the agent was deleted at this moment") from None
    return _detail(row)


async def change_schema(database: Database, tenant_id: str, name: str, change: SchemaChange) -> SchemaDetail:
    """Raises ValidationFailed, NotFound, and Conflict for another name."""
    async with database.tenant(tenant_id) as connection:
        found = await find_schema(connection, tenant_id, name)
        if change.name is not UNSET and change.name != found.name:
            raise Conflict("The name of a schema is immutable")
        row = await _merged(connection, tenant_id, found, change)
        await schemas.change(connection, tenant_id, row)
    return _detail(row)


async def delete_schema(database: Database, tenant_id: str, name: str) -> None:
    """Its sessions stay, as history."""
    async with database.tenant(tenant_id) as connection:
        row = await find_schema(connection, tenant_id, name)
        if row.is_system:
            raise Forbidden("A schema of the platform cannot be deleted")
        await schemas.remove(connection, tenant_id, row.id)


async def find_schema(connection: Connection, tenant_id: str, name: str) -> SchemaRow:
    """Raises NotFound."""
    row = await schemas.find(connection, tenant_id, *reference(name, "schema"))
    if row is None:
        raise missing("schema", name)
    return row


def _blank(name: str) -> SchemaRow:
    return SchemaRow(
        id=new_id(),
        name=name,
        description="",
        entry_agent_id=None,
        entry_agent=None,
        chat_enabled=False,
        chat_last_fired_at=None,
        is_system=False,
        created_at=now(),
        updated_at=now(),
    )


async def _merged(connection: Connection, tenant_id: str, row: SchemaRow, fields: SchemaFields) -> SchemaRow:
    if fields.description is not UNSET:
        row = replace(row, description=fields.description or "")
    if fields.chat_enabled is not UNSET:
        row = replace(row, chat_enabled=fields.chat_enabled)
    named = fields.entry_agent_id if fields.entry_agent_id is not UNSET else fields.entry_agent
    if named is not UNSET:
        id, name = await _entry_agent(connection, tenant_id, named)
        row = replace(row, entry_agent_id=id, entry_agent=name)
    return replace(row, updated_at=now())


async def _entry_agent(
    connection: Connection, tenant_id: str, named: str | None
) -> tuple[str | None, str | None]:
    if not named:
        return None, None
    try:
        agent = await agents.find(connection, tenant_id, *reference(named, "agent"))
    except NotFound:
        agent = None
    if agent is None:
        raise invalid("entry_agent_id", f"there is no agent '{named[:100]}'")
    return agent.id, agent.name


def _detail(row: SchemaRow) -> SchemaDetail:
    members = [row.entry_agent] if row.entry_agent else []
    return SchemaDetail(
        id=row.id,
        name=row.name,
        description=row.description,
        agents=members,
        agents_count=len(members),
        entry_agent_id=row.entry_agent_id,
        entry_agent_name=row.entry_agent,
        chat_enabled=row.chat_enabled,
        chat_last_fired_at=rfc3339(row.chat_last_fired_at) if row.chat_last_fired_at else None,
        is_system=row.is_system,
        created_at=rfc3339(row.created_at),
        updated_at=rfc3339(row.updated_at),
    )
