"""Who may hand work to whom within a schema: edges between agents, which never run in a circle."""

from collections import defaultdict
from typing import Any

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from weir.agent_engine.naming import Faults, invalid, missing
from weir.agent_engine.schemas import find_member, find_schema
from weir.agent_engine.tables import relations, schemas
from weir.agent_engine.tables.relations import RelationRow
from weir.agent_engine.wire.relations import NewRelation, RelationChange, RelationDetail
from weir_shared.clock import now, rfc3339
from weir_shared.db.pool import Connection, Database, ForeignKeyViolation, UniqueViolation
from weir_shared.errors import Conflict, ValidationFailed
from weir_shared.ids import new_id, parse_uuid

MAX_CONFIG_BYTES = 16_384


async def list_relations(database: Database, tenant_id: str, schema: str) -> list[RelationDetail]:
    async with database.tenant(tenant_id) as connection:
        found = await find_schema(connection, tenant_id, schema)
        return [_detail(row) for row in await relations.every(connection, tenant_id, found.id)]


async def read_relation(database: Database, tenant_id: str, schema: str, id: str) -> RelationDetail:
    async with database.tenant(tenant_id) as connection:
        found = await find_schema(connection, tenant_id, schema)
        return _detail(await _find(connection, tenant_id, found.id, id))


async def create_relation(
    database: Database, tenant_id: str, schema: str, new: NewRelation
) -> RelationDetail:
    """The first relation's source becomes the entry agent of a schema that has none. Raises ValidationFailed."""
    check_config(new.config or {})
    try:
        async with database.tenant(tenant_id) as connection:
            found = await find_schema(connection, tenant_id, schema)
            ends = await _ends(connection, tenant_id, new.source, new.target)
            row = RelationRow(
                id=new_id(),
                schema_id=found.id,
                **ends,
                config=new.config or {},
                created_at=now(),
                updated_at=now(),
            )
            others = await relations.every(connection, tenant_id, found.id)
            refuse_circle(row, others)
            await relations.add(connection, tenant_id, row)
            if found.entry_agent_id is None and not others:
                entry = replace(found, entry_agent_id=row.source_id, updated_at=now())
                await schemas.change(connection, tenant_id, entry)
    except UniqueViolation:
        raise Conflict("There is such a relation already") from None
    except ForeignKeyViolation:
        raise _gone() from None
    return _detail(row)


async def change_relation(
    database: Database, tenant_id: str, schema: str, id: str, change: RelationChange
) -> RelationDetail:
    """Raises ValidationFailed, NotFound, and Conflict for a pair that another relation has."""
    if change.config:
        check_config(change.config)
    try:
        async with database.tenant(tenant_id) as connection:
            found = await find_schema(connection, tenant_id, schema)
            row = await _find(connection, tenant_id, found.id, id)
            source = row.source_id if change.source is UNSET else change.source
            target = row.target_id if change.target is UNSET else change.target
            config = row.config if change.config is UNSET else change.config or {}
            ends = await _ends(connection, tenant_id, source, target)
            row = replace(row, **ends, config=config, updated_at=now())
            others = await relations.every(connection, tenant_id, found.id)
            refuse_circle(row, [other for other in others if other.id != row.id])
            await relations.change(connection, tenant_id, row)
    except UniqueViolation:
        raise Conflict("There is such a relation already") from None
    except ForeignKeyViolation:
        raise _gone() from None
    return _detail(row)


async def delete_relation(database: Database, tenant_id: str, schema: str, id: str) -> None:
    async with database.tenant(tenant_id) as connection:
        found = await find_schema(connection, tenant_id, schema)
        row = await _find(connection, tenant_id, found.id, id)
        await relations.remove(connection, tenant_id, row.id)


def check_config(config: dict[str, Any]) -> None:
    """Raises ValidationFailed for a configuration that is too large to keep beside a row."""
    if len(msgspec.json.encode(config)) > MAX_CONFIG_BYTES:
        raise invalid("config", f"at most {MAX_CONFIG_BYTES} bytes")


def refuse_circle(row: RelationRow, others: list[RelationRow]) -> None:
    """Raises ValidationFailed when work that the row's source hands on could come back to it."""
    targets: dict[str, list[RelationRow]] = defaultdict(list)
    for other in others:
        targets[other.source_id].append(other)
    seen: set[str] = set()
    ahead = [(row.target_id, [row.source, row.target])]
    while ahead:
        agent, path = ahead.pop()
        if agent == row.source_id:
            raise invalid("target", f"work must not come back to its giver: {' → '.join(path)}")
        if agent not in seen:
            seen.add(agent)
            ahead += [(edge.target_id, [*path, edge.target]) for edge in targets[agent]]


async def _find(connection: Connection, tenant_id: str, schema_id: str, id: str) -> RelationRow:
    known = parse_uuid(id)
    row = await relations.find(connection, tenant_id, schema_id, known) if known else None
    if row is None:
        raise missing("relation", id)
    return row


async def _ends(connection: Connection, tenant_id: str, source: str, target: str) -> dict[str, str]:
    faults, ends = Faults(), dict[str, str]()
    for end, named in (("source", source), ("target", target)):
        with faults.gathered():
            ends[f"{end}_id"], ends[end] = await find_member(connection, tenant_id, end, named)
    faults.raise_any()
    if ends["source_id"] == ends["target_id"]:
        raise invalid("target", "an agent hands no work to itself")
    return ends


def _gone() -> ValidationFailed:
    return invalid("source", "an agent of the relation was deleted at this moment")


def _detail(row: RelationRow) -> RelationDetail:
    return RelationDetail(
        id=row.id,
        schema_id=row.schema_id,
        source=row.source,
        target=row.target,
        config=row.config,
        created_at=rfc3339(row.created_at),
        updated_at=rfc3339(row.updated_at),
    )
