"""What agents remember, as its users and administrators see it: listed and forgotten."""

from weir.agent_engine.naming import missing
from weir.agent_engine.schemas import find_schema
from weir.agent_engine.tables import memories
from weir.agent_engine.tables.memories import MemoryRow
from weir.agent_engine.wire.memory import Deleted, MemoryEntry
from weir_shared.auth.principal import Principal
from weir_shared.clock import rfc3339
from weir_shared.db.pool import Database
from weir_shared.ids import parse_uuid

MOST_SHOWN = 1000


async def list_memories(database: Database, principal: Principal, schema: str) -> list[MemoryEntry]:
    """The newest thousand, of everybody's for an administrator, else the caller's own. Raises NotFound."""
    async with database.tenant(principal.tenant_id) as connection:
        found = await find_schema(connection, principal.tenant_id, schema)
        rows = await memories.every(
            connection, principal.tenant_id, found.id, _owner(principal), limit=MOST_SHOWN
        )
    return [_entry(row) for row in rows]


async def forget_all(database: Database, principal: Principal, schema: str) -> None:
    """Raises NotFound for a schema that there is not."""
    async with database.tenant(principal.tenant_id) as connection:
        found = await find_schema(connection, principal.tenant_id, schema)
        await memories.remove(connection, principal.tenant_id, found.id, _owner(principal), None)


async def forget(database: Database, principal: Principal, schema: str, id: str) -> Deleted:
    """Raises NotFound, also for an entry of somebody else."""
    known = parse_uuid(id)
    async with database.tenant(principal.tenant_id) as connection:
        found = await find_schema(connection, principal.tenant_id, schema)
        if known is None or not await memories.remove(
            connection, principal.tenant_id, found.id, _owner(principal), known
        ):
            raise missing("memory", id)
    return Deleted()


def _owner(principal: Principal) -> str | None:
    return None if principal.is_admin else principal.identity


def _entry(row: MemoryRow) -> MemoryEntry:
    return MemoryEntry(
        id=row.id,
        schema_id=row.schema_id,
        user_sub=row.owner.partition(":")[2],
        content=row.content,
        metadata=row.metadata,
        created_at=rfc3339(row.created_at),
        updated_at=rfc3339(row.updated_at),
    )
