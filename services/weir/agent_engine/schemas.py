"""The schemas that a tenant has configured: what one chats with. Their names never change."""

from msgspec import UNSET
from msgspec.structs import replace

from weir.agent_engine.naming import Faults, check_name, invalid, missing, reference, unknown
from weir.agent_engine.tables import agents, relations, schemas
from weir.agent_engine.tables.schemas import SchemaRow
from weir.agent_engine.wire.schemas import NewSchema, SchemaChange, SchemaDetail, SchemaFields
from weir_shared.clock import now, rfc3339
from weir_shared.db.pool import Connection, Database, ForeignKeyViolation, UniqueViolation
from weir_shared.errors import Conflict, Forbidden, ValidationFailed
from weir_shared.ids import new_id, parse_uuid


async def list_schemas(database: Database, tenant_id: str) -> list[SchemaDetail]:
    async with database.tenant(tenant_id) as connection:
        return [_detail(row) for row in await schemas.every(connection, tenant_id)]


async def read_schema(database: Database, tenant_id: str, name: str) -> SchemaDetail:
    async with database.tenant(tenant_id) as connection:
        return _detail(await find_schema(connection, tenant_id, name))


async def list_members(database: Database, tenant_id: str, name: str) -> list[str]:
    """The names of a schema's agents: its entry agent, and both ends of every relation."""
    async with database.tenant(tenant_id) as connection:
        return (await find_schema(connection, tenant_id, name)).members


async def create_schema(database: Database, tenant_id: str, new: NewSchema) -> SchemaDetail:
    """Raises ValidationFailed, also for an entry agent that does not exist, and Conflict."""
    faults = Faults()
    with faults.gathered():
        check_name(new.name)
    row = blank_schema(new.name)
    try:
        async with database.tenant(tenant_id) as connection:
            with faults.gathered():
                row = await _merged(connection, tenant_id, row, new)
            faults.raise_any()
            await schemas.add(connection, tenant_id, row)
            return _detail(await find_schema(connection, tenant_id, row.id))
    except UniqueViolation:
        raise Conflict(f"There is a schema named '{new.name}' already") from None
    except ForeignKeyViolation:
        raise _gone() from None


async def change_schema(database: Database, tenant_id: str, name: str, change: SchemaChange) -> SchemaDetail:
    """Raises ValidationFailed, NotFound, and Conflict for another name."""
    try:
        async with database.tenant(tenant_id) as connection:
            found = await find_schema(connection, tenant_id, name)
            if change.name is not UNSET and change.name != found.name:
                raise Conflict("The name of a schema is immutable")
            row = await _merged(connection, tenant_id, found, change)
            await schemas.change(connection, tenant_id, row)
            return _detail(await find_schema(connection, tenant_id, row.id))
    except ForeignKeyViolation:
        raise _gone() from None


async def delete_schema(database: Database, tenant_id: str, name: str) -> None:
    """Its relations go with it; its sessions stay, as history."""
    async with database.tenant(tenant_id) as connection:
        row = await find_schema(connection, tenant_id, name)
        if row.is_system:
            raise Forbidden("A schema of the platform cannot be deleted")
        await schemas.remove(connection, tenant_id, row.id)


async def find_schema(connection: Connection, tenant_id: str, name: str) -> SchemaRow:
    """Raises NotFound. Locks the schema, so that its graph stays as it is until the unit of work ends."""
    row = await schemas.find(connection, tenant_id, *reference(name, "schema"))
    if row is None:
        raise missing("schema", name)
    return row


async def find_member(connection: Connection, tenant_id: str, path: str, named: str) -> tuple[str, str]:
    """Id and name of the agent that a body names by either. Raises ValidationFailed for nobody."""
    known = await agents.names(connection, tenant_id)
    id = parse_uuid(named)
    if id in known:
        return id, known[id]
    for known_id, name in known.items():
        if name == named:
            return known_id, name
    raise unknown(path, "agent", named, known.values())


def blank_schema(name: str) -> SchemaRow:
    """A schema of which nothing is said yet."""
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
        row = replace(row, chat_enabled=bool(fields.chat_enabled))
    # Of the words for the entry agent the one that says something new counts: a client may send back what it read.
    had = (row.entry_agent_id, row.entry_agent)
    said = [
        value or None
        for value in (fields.entry_agent_id, fields.entry_agent, fields.entry_agent_name)
        if value is not UNSET
    ]
    for named in [value for value in said if value not in had][:1]:
        id, name = await _entry_agent(connection, tenant_id, row, named)
        row = replace(row, entry_agent_id=id, entry_agent=name)
    return replace(row, updated_at=now())


async def _entry_agent(
    connection: Connection, tenant_id: str, row: SchemaRow, named: str | None
) -> tuple[str | None, str | None]:
    if named is None:
        return None, None
    id, name = await find_member(connection, tenant_id, "entry_agent_id", named)
    if name not in row.members and await relations.every(connection, tenant_id, row.id):
        members = ", ".join(row.members)
        raise invalid("entry_agent_id", f"'{name}' has no relation in this schema; its agents are {members}")
    return id, name


def _gone() -> ValidationFailed:
    return invalid("entry_agent_id", "the agent was deleted at this moment")


def _detail(row: SchemaRow) -> SchemaDetail:
    return SchemaDetail(
        id=row.id,
        name=row.name,
        description=row.description,
        agents=row.members,
        agents_count=len(row.members),
        entry_agent_id=row.entry_agent_id,
        entry_agent_name=row.entry_agent,
        chat_enabled=row.chat_enabled,
        chat_last_fired_at=rfc3339(row.chat_last_fired_at) if row.chat_last_fired_at else None,
        is_system=row.is_system,
        created_at=rfc3339(row.created_at),
        updated_at=rfc3339(row.updated_at),
    )
