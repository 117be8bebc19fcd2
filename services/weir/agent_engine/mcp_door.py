"""The platform as an MCP server: the lake's tools, and each schema that is open for chat, as far as the caller may.

Stateless: every request stands for itself, so that any replica answers it.
"""

import asyncio
from contextlib import aclosing
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
    ToolAnnotations,
)
from msgspec import Struct
from starlette.types import Receive, Scope, Send

from weir import __version__
from weir.agent_engine.chat import Brought, ChatDisabled, OpenedTurn, SchemaMissing, open_chat
from weir.agent_engine.completion_told import Telling, text_of_confirmation
from weir.agent_engine.completions import open_schemas
from weir.agent_engine.events import told_in
from weir.agent_engine.models.base import ToolDefinition
from weir.agent_engine.models.wire_names import safe_name
from weir.agent_engine.signals import ToolFailed
from weir.agent_engine.studio import Studio
from weir.agent_engine.tables.schemas import SchemaRow
from weir.agent_engine.tools import lake
from weir.agent_engine.tools.base import Call
from weir.agent_engine.turn_clock import TurnClock
from weir.agent_engine.wire.chat import ChatRequest
from weir_shared.auth.principal import Principal
from weir_shared.errors import WeirError
from weir_shared.web.app import MAX_BODY_BYTES

LAKE_SCOPE, CHAT_SCOPE = "lake:query", "chat"
PREFIX = "ask_"
PAGE = 200
INSTRUCTIONS = (
    "The tools that begin with lake_ query the caller's context lake with SQL (DataFusion dialect). "
    f"Those that begin with {PREFIX} ask an agent, which may use tools of its own; give it the session_id of its "
    "last answer to go on with a conversation."
)
_QUESTION = {
    "type": "object",
    "properties": {
        "message": {"type": "string", "description": "What to ask."},
        "session_id": {
            "type": "string",
            "description": "The session_id of an earlier answer, to go on with that conversation.",
        },
    },
    "required": ["message"],
}
_ANSWER = {
    "type": "object",
    "properties": {"message": {"type": "string"}, "session_id": {"type": "string"}},
    "required": ["message", "session_id"],
}


class Visitor(Struct, frozen=True):
    """Who calls, and what their request brings for a turn."""

    principal: Principal
    brought: Brought


async def serve(studio: Studio, visitor: Visitor, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers one HTTP request of MCP. When its sender leaves, what it called ends."""

    counter = _Counter(studio, visitor)
    server: Any = Server(
        "weir",
        version=__version__,
        instructions=INSTRUCTIONS,
        get_tool_input_schema=_input_of,
        on_list_tools=counter.list_tools,
        on_call_tool=counter.call_tool,
    )
    manager = StreamableHTTPSessionManager(server, stateless=True, max_request_body_size=MAX_BODY_BYTES)
    async with manager.run():
        await manager.handle_request(scope, receive, send)


class _Counter:
    """What one visitor is offered and served."""

    def __init__(self, studio: Studio, visitor: Visitor) -> None:
        self._studio = studio
        self._principal = visitor.principal
        self._brought = visitor.brought

    async def list_tools(
        self, _: ServerRequestContext[Any, Any], params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        start = _start_of(params.cursor if params else None)
        tools = [_lake_tool(kind.definition) for kind in self._lake_tools().values()]
        tools += [_schema_tool(name, row) for name, row in (await self._schemas()).items()]
        rest = start + PAGE < len(tools)
        return ListToolsResult(
            tools=tools[start : start + PAGE], next_cursor=str(start + PAGE) if rest else None
        )

    async def call_tool(
        self, context: ServerRequestContext[Any, Any], params: CallToolRequestParams
    ) -> CallToolResult:
        arguments = params.arguments or {}
        if params.name in self._lake_tools():
            return await self._ask_lake(params.name, arguments)
        schema = await self._schema_of(params.name)
        if schema is None:
            raise _no_tool(params.name)
        return await self._ask_schema(context, schema, arguments)

    def _lake_tools(self) -> dict[str, Any]:
        return lake.TOOLS if self._principal.may(LAKE_SCOPE) else {}

    async def _schemas(self) -> dict[str, SchemaRow]:
        """Those open for chat, oldest first, by the names of their tools."""
        if not self._principal.may(CHAT_SCOPE):
            return {}
        rows = await open_schemas(self._studio.database, self._principal)
        return {safe_name(PREFIX + row.name): row for row in rows}

    async def _schema_of(self, tool: str) -> str | None:
        """Its name stands in the tool's, unless that had to be made safe."""
        if not self._principal.may(CHAT_SCOPE):
            return None
        if tool.startswith(PREFIX):
            return tool.removeprefix(PREFIX)
        row = (await self._schemas()).get(tool)
        return row.name if row else None

    async def _ask_lake(self, name: str, arguments: dict[str, Any]) -> CallToolResult:
        clock = TurnClock(self._studio.sql_seconds)
        [tool] = lake.lake_tools([name], self._studio, self._principal, clock=clock)
        try:
            return _result(await tool.run(Call(call_id="", tool=name, arguments=arguments, written="")))
        except ToolFailed as failed:
            return _result(str(failed), is_error=True)

    async def _ask_schema(
        self, context: ServerRequestContext[Any, Any], schema: str, arguments: dict[str, Any]
    ) -> CallToolResult:
        message, session_id = arguments.get("message"), arguments.get("session_id")
        if not isinstance(message, str) or not isinstance(session_id, str | None):
            return _result(
                "`message` is required and is a text, and so is `session_id` where it is given", is_error=True
            )
        if "\0" in message:
            return _result("A text must not hold the character U+0000", is_error=True)
        request = ChatRequest(message=message, session_id=session_id)
        try:
            opened = await open_chat(self._studio, self._principal, schema, request, self._brought)
        except (SchemaMissing, ChatDisabled):
            raise _no_tool(PREFIX + schema) from None
        except WeirError as refusal:
            return _result(_sentence(refusal), is_error=True)
        try:
            return await _follow(context, opened)
        except asyncio.CancelledError:
            # Unlike a chat's, this caller cannot come back for the answer.
            opened.task.cancel()
            raise


async def _follow(context: ServerRequestContext[Any, Any], opened: OpenedTurn) -> CallToolResult:
    """The turn's answer; what it does meanwhile is told as progress to callers who asked for it."""
    telling, said, steps = Telling(), list[str](), 0
    async with aclosing(opened.follow()) as parts:
        async for part in parts:
            for event, data in told_in(part):
                delta = telling.take(event, data)
                said.append(delta.content or "" if delta else "")
                if doing := _doing(event, data):
                    steps += 1
                    await context.session.report_progress(steps, message=doing)
    if telling.fault is not None:
        said.append(f"[ERROR] {telling.fault.message}")
    return _result("".join(said), opened.session_id, is_error=telling.fault is not None)


def _doing(event: str, data: dict[str, Any]) -> str:
    match event:
        case "tool_call":
            return f"Calls {data['tool']}"
        case "confirmation":
            return text_of_confirmation(data)
        case _:
            return ""


def _result(text: str, session_id: str | None = None, *, is_error: bool = False) -> CallToolResult:
    """With a session, also told as a text: many clients show their model nothing else."""
    content, structured = [text], None
    if session_id is not None:
        content.append(f"session_id: {session_id}")
        structured = {"message": text, "session_id": session_id}
    return CallToolResult(
        content=[TextContent(type="text", text=part) for part in content],
        structured_content=structured,
        is_error=is_error,
    )


def _input_of(name: str) -> dict[str, Any]:
    """What a tool of this name takes, if there is one; the library would list all of them before each call."""
    return lake.TOOLS[name].definition.parameters if name in lake.TOOLS else _QUESTION


def _lake_tool(definition: ToolDefinition) -> Tool:

    return Tool(
        name=definition.name,
        description=definition.description,
        input_schema=definition.parameters,
        annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False),
    )


def _schema_tool(name: str, row: SchemaRow) -> Tool:

    return Tool(
        name=name,
        title=row.name,
        description=row.description or f"Asks the agent of the schema {row.name}.",
        input_schema=_QUESTION,
        output_schema=_ANSWER,
    )


def _start_of(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 10):
        raise _wrong("A cursor is what the page before called its next; leave it out to begin anew")
    return int(cursor)


def _no_tool(name: str) -> Exception:
    return _wrong(f"There is no tool '{name[:100]}' for this credential; tools/list tells which there are")


def _wrong(sentence: str) -> Exception:

    return MCPError(INVALID_PARAMS, sentence)


def _sentence(refusal: WeirError) -> str:
    return "; ".join([str(refusal), *(f"{fault.path}: {fault.message}" for fault in refusal.errors)])
