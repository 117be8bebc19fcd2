"""What an administrator looks at afterwards: every call of a tool, by whom, with what, and how it went."""

from weir.agent_engine.naming import invalid
from weir.agent_engine.tables import tool_calls
from weir.agent_engine.tables.tool_calls import ToolCallFilter, ToolCallRow
from weir.agent_engine.wire.audit import ToolCallPage, ToolCallRecord
from weir_shared.clock import rfc3339
from weir_shared.db.pool import Database
from weir_shared.ids import parse_uuid
from weir_shared.web.filters import Page, moment_of, text_of

STATUSES = ("completed", "failed", "running")


def filter_of(
    *,
    session_id: str | None,
    agent: str | None,
    tool: str | None,
    status: str | None,
    user_id: str | None,
    made_from: str | None,
    made_to: str | None,
) -> ToolCallFilter:
    """The filter that a caller wrote. Raises ValidationFailed, which names the parameter."""
    if session_id and parse_uuid(session_id) is None:
        raise invalid("session_id", "a session id is a UUID")
    if status and status not in STATUSES:
        raise invalid("status", f"one of {', '.join(STATUSES)}")
    return ToolCallFilter(
        session_id=parse_uuid(session_id) if session_id else None,
        agent=text_of(agent),
        tool=text_of(tool),
        status=text_of(status),
        user_id=text_of(user_id),
        made_from=moment_of("from", made_from),
        made_to=moment_of("to", made_to, ends=True),
    )


async def list_tool_calls(
    database: Database, tenant_id: str, wanted: ToolCallFilter, page: Page
) -> ToolCallPage:
    """Newest first; a page beyond the last one is empty."""
    async with database.tenant(tenant_id) as connection:
        rows, total = await tool_calls.page(
            connection, tenant_id, wanted, limit=page.size, offset=page.offset
        )
    return ToolCallPage(
        data=[_record(row) for row in rows],
        total=total,
        page=page.number,
        per_page=page.size,
        total_pages=page.pages_of(total),
    )


def _record(row: ToolCallRow) -> ToolCallRecord:
    return ToolCallRecord(
        id=row.id,
        session_id=row.session_id,
        turn_id=row.turn_id,
        call_id=row.call_id,
        agent_name=row.agent,
        tool_name=row.tool,
        input=row.input,
        output=row.output,
        status=row.status,
        duration_ms=row.duration_ms,
        user_id=row.owner.partition(":")[2],
        created_at=rfc3339(row.created_at),
    )
