"""Sessions that a client opens before its first message, names, and marks as it likes."""

from typing import Any

import msgspec
from msgspec import UNSET

from weir.agent_engine.naming import invalid, missing
from weir.agent_engine.sessions import find_session, summary_of
from weir.agent_engine.studio import Studio
from weir.agent_engine.tables import schemas, sessions
from weir.agent_engine.wire.sessions import NewSession, SessionChange, SessionSummary
from weir_shared.auth.principal import Principal
from weir_shared.db.pool import Connection
from weir_shared.errors import Conflict, Forbidden
from weir_shared.ids import new_id, parse_uuid

METADATA_BYTES = 16 * 1024


async def add_session(studio: Studio, principal: Principal, wanted: NewSession) -> SessionSummary:
    """A session without a turn. Raises ValidationFailed, Conflict, and Forbidden for somebody else's."""
    tenant_id = principal.tenant_id
    id = _id(wanted.id)
    _check_metadata(wanted.metadata)
    async with studio.database.tenant(tenant_id) as connection:
        schema_id, schema_name, agent = await _schema(connection, tenant_id, wanted.schema_id)
        is_new = await sessions.add(
            connection,
            tenant_id,
            id=id,
            owner=_owner(principal, wanted.user_sub),
            schema_id=schema_id,
            schema_name=schema_name,
            agent=agent,
            title=wanted.title or "",
            metadata=wanted.metadata or {},
        )
        row = await sessions.find(connection, tenant_id, id) if is_new else None
    if row is None:
        raise Conflict("There is a session of this id already")
    return summary_of(row)


async def change_session(
    studio: Studio, principal: Principal, id: str, change: SessionChange
) -> SessionSummary:
    """What the change leaves out stays. Raises NotFound and ValidationFailed."""
    if change.metadata is not UNSET:
        _check_metadata(change.metadata)
    async with studio.database.tenant(principal.tenant_id) as connection:
        session = await find_session(connection, principal, id)
        await sessions.change(
            connection,
            principal.tenant_id,
            session.id,
            title=None if change.title is UNSET else change.title,
            status=None if change.status is UNSET else change.status,
            metadata=None if change.metadata is UNSET else change.metadata,
        )
        changed = await sessions.find(connection, principal.tenant_id, session.id)
    if changed is None:
        raise missing("session", id)
    return summary_of(changed)


def _id(text: str | None) -> str:
    if text is None:
        return new_id()
    id = parse_uuid(text)
    if id is None:
        raise invalid("id", "a session id is a UUID; leave it out to have one made")
    return id


def _owner(principal: Principal, user_sub: str | None) -> str:
    """An administrator may open a session for a user; anybody else only for themselves."""
    if user_sub is None or user_sub == principal.subject:
        return principal.identity
    if not principal.is_admin:
        raise Forbidden("Only an administrator opens sessions for others")
    return f"user:{user_sub}"


async def _schema(
    connection: Connection, tenant_id: str, reference: str | None
) -> tuple[str | None, str, str]:
    """Id and name of the schema, and its entry agent; nothing yet when none is named."""
    if reference is None:
        return None, "", ""
    row = await schemas.find(connection, tenant_id, reference, parse_uuid(reference))
    if row is None:
        raise invalid("schema_id", f"there is no schema '{reference[:100]}'")
    return row.id, row.name, row.entry_agent or ""


def _check_metadata(metadata: dict[str, Any] | None) -> None:
    if metadata and len(msgspec.json.encode(metadata)) > METADATA_BYTES:
        raise invalid("metadata", f"metadata takes at most {METADATA_BYTES} bytes")
