"""Tools that are HTTP requests: what is sent for a call, what the model gets of the answer, and what stays inside."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from msgspec import Struct
from tests.fakes.model_server import Reply, say, use
from tests.integration.agent_engine.conftest import Assistant, Caller, World
from tests.integration.agent_engine.test_portable import elsewhere, exported, imported, refused, without_time
from tests.promises import Promise

from weir.agent_engine.tables import http_tools

__all__ = ["elsewhere"]

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Asked(Struct, frozen=True):
    """One request as the server has seen it."""

    method: str
    target: str
    headers: dict[str, str]
    body: str


class Shop:
    """A server whose answer a test decides."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self.answer: Answer = self._echo

    async def handle(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.asked.append(Asked(request.method, request.raw_path, headers, await request.text()))
        return await self.answer(request)

    @staticmethod
    async def _echo(request: web.Request) -> web.StreamResponse:
        return web.json_response({"path": request.path})


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with _serving(Shop()) as served:
        yield served


@asynccontextmanager
async def _serving(shop: Shop) -> AsyncIterator[Shop]:
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", shop.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    shop.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield shop
    finally:
        await runner.cleanup()


async def equipped(world: World, admin: Caller, tool: dict[str, Any], *replies: Reply) -> Assistant:
    """An assistant that has the tool, which is called `shop_order`."""
    await imported(admin, {"tools": {"shop_order": {"type": "http"} | tool}})
    return await world.assistant(admin, *replies, tools=["shop_order"])


async def called(
    world: World, admin: Caller, tool: dict[str, Any], arguments: dict[str, Any]
) -> dict[str, Any]:
    """The result of one call."""
    assistant = await equipped(world, admin, tool, use("shop_order", arguments), say("Done."))
    turn = await admin.chat(assistant.schema)
    assert turn.text == "Done."
    return turn.one("tool_result")


async def test_an_agent_asks_with_what_the_model_says(world: World, admin: Caller, shop: Shop):
    tool = {
        "method": "post",
        "url": f"{shop.url}/orders/{{{{order_id}}}}/notes?via=agent",
        "description": "Adds a note to an order.",
        "params": [
            {"name": "order_id", "type": "integer"},
            {"name": "urgent", "type": "boolean"},
            {"name": "tags", "type": "array"},
        ],
        "query": {"lang": "{{language}}"},
        "body": {"note": "Agent says: {{text}}", "urgent": "{{urgent}}", "by": {"kind": "agent"}},
        "headers": {"X-Org": "acme"},
        "auth": {"type": "bearer", "token": "tool-canary-1"},
    }
    arguments = {"order_id": 17, "language": "de & en", "text": 'with "care"', "tags": ["a"]}
    assistant = await equipped(world, admin, tool, use("shop_order", arguments), say("Done."))
    turn = await admin.chat(assistant.schema)
    assert turn.one("tool_result")["output"] == '{"path": "/orders/17/notes"}'
    [asked] = shop.asked
    assert (asked.method, asked.target) == ("POST", "/orders/17/notes?via=agent&lang=de+%26+en")
    assert (asked.headers["x-org"], asked.headers["authorization"]) == ("acme", "Bearer tool-canary-1")
    assert asked.headers["content-type"] == "application/json"
    note = {"note": 'Agent says: with "care"', "by": {"kind": "agent"}}
    assert json.loads(asked.body) == {"tags": ["a"]} | note
    [offered] = assistant.brain.requests[0]["tools"]
    function = offered["function"]
    assert (function["name"], function["description"]) == ("shop_order", "Adds a note to an order.")
    assert function["parameters"]["properties"]["order_id"] == {"type": "integer"}
    assert sorted(function["parameters"]["required"]) == ["language", "order_id", "text"]


async def test_what_is_placed_nowhere_goes_into_the_query_or_the_body(
    world: World, admin: Caller, shop: Shop
):
    params = {"status": {"type": "string", "required": True}, "limit": {"type": "integer"}}
    await called(
        world, admin, {"url": f"{shop.url}/orders", "params": params}, {"status": "open", "limit": 5}
    )
    assert shop.asked[-1].target == "/orders?status=open&limit=5"
    assert shop.asked[-1].body == ""
    tool = {"method": "PUT", "url": f"{shop.url}/orders", "params": params}
    await called(world, admin, tool, {"status": "open", "unknown": "x"})
    assert (shop.asked[-1].target, shop.asked[-1].body) == ("/orders", '{"status": "open"}')


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        ({"type": "basic", "username": "weir", "password": "s3cret-word"}, "authorization", "Basic d2VpcjpzM2NyZXQtd29yZA=="),
        ({"type": "header", "name": "X-Api-Key", "value": "s3cret-word"}, "x-api-key", "s3cret-word"),
        ({"type": "none"}, "authorization", None),
    ],
)  # fmt: skip
async def test_a_tool_has_its_own_way_to_say_who_it_is(
    world: World, admin: Caller, shop: Shop, auth: dict[str, str], header: str, value: str | None
):
    await called(world, admin, {"url": f"{shop.url}/", "auth": auth}, {})
    assert shop.asked[-1].headers.get(header) == value


@pytest.mark.parametrize("sent", ["..", ".", "", "a/../../admin", "a?x=1#y", "\u00e4 b"])
async def test_what_the_model_says_stays_within_its_part_of_the_path(
    world: World, admin: Caller, shop: Shop, sent: str
):
    result = await called(world, admin, {"url": f"{shop.url}/orders/{{{{id}}}}/x"}, {"id": sent})
    if sent in ("..", ".", ""):
        assert "must not be empty" in result["output"]
        assert shop.asked == []
    else:
        [asked] = shop.asked
        assert asked.target.count("/") == 3
        assert "?" not in asked.target


async def test_in_the_query_of_an_address_any_text_may_stand(world: World, admin: Caller, shop: Shop):
    await called(world, admin, {"url": f"{shop.url}/find?q={{{{q}}}}&n=1"}, {"q": "..&n=2"})
    assert shop.asked[-1].target == "/find?q=..%26n%3D2&n=1"


async def test_a_name_that_leads_to_a_forbidden_address_is_not_connected_to(
    world: World, admin: Caller, shop: Shop, monkeypatch: pytest.MonkeyPatch
):
    async def look_up(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 80))]

    tool = {"url": "http://rebound.example.com/"}
    assistant = await equipped(world, admin, tool, use("shop_order"), say("Done."))
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    turn = await admin.chat(assistant.schema)
    told = "[ERROR] The address 169.254.169.254 is never reachable from here"
    assert turn.one("tool_result")["output"] == told


@pytest.mark.promise("P12")
async def test_no_redirect_leads_anywhere(world: World, admin: Caller, shop: Shop, promise: Promise):
    """Tools, models, embedders and MCP servers that send the platform on to another address."""
    async with _serving(Shop()) as canary:
        status = 0

        async def away(_: web.Request) -> web.StreamResponse:
            return web.Response(status=status, headers={"Location": f"{canary.url}/latest/meta-data"})

        shop.answer = away
        model = {"type": "openai_compatible", "model_name": "m", "base_url": shop.url, "api_key": "sk-x"}
        await admin.ask(201, "POST", "/models", model | {"name": "away"})
        embedder = {"name": "embed-away", "kind": "embedding", "embedding_dim": 8}
        await admin.ask(201, "POST", "/models", model | embedder)
        await admin.ask(
            201, "POST", "/mcp-servers", {"name": "away", "type": "streamable-http", "url": shop.url}
        )
        await admin.ask(201, "POST", "/mcp-servers", {"name": "away-sse", "type": "sse", "url": shop.url})
        asked = 0
        for status in (301, 302, 303, 307, 308):
            shop.asked.clear()
            await called(world, admin, {"url": f"{shop.url}/{status}"}, {})
            for path in (
                "/models/away/verify",
                "/models/embed-away/verify",
                "/mcp-servers/away/refresh",
                "/mcp-servers/away-sse/refresh",
            ):
                assert (await admin.call("POST", path)).status_code in (200, 400, 409, 502, 503), path
            # A breaker may have opened for a server that always fails.
            assert len(shop.asked) >= 3
            asked += len(shop.asked)
        assert canary.asked == []
    promise.held(f"{asked} redirects of tools, models, embedders and MCP servers: 0 connections")


async def test_a_call_without_what_is_required_is_not_sent(world: World, admin: Caller, shop: Shop):
    result = await called(world, admin, {"url": f"{shop.url}/orders/{{{{id}}}}"}, {"other": 1})
    assert result["output"] == "[ERROR] shop_order needs `id`"
    assert shop.asked == []


async def _refuses(_: web.Request) -> web.StreamResponse:
    return web.Response(status=404, text="no such order for Bearer tool-canary-1")


async def _redirects(_: web.Request) -> web.StreamResponse:
    return web.Response(status=302, headers={"location": "http://169.254.169.254/"})


async def _breaks(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"content-length": "100"})
    await answer.prepare(request)
    await answer.write(b"half")
    assert request.transport is not None
    request.transport.abort()
    return answer


async def _hangs(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(3600)
    return web.Response()


async def _binary(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b"\0\1\2", content_type="image/png")


async def _huge(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"content-type": "text/plain"})
    await answer.prepare(request)
    for _ in range(200):
        await answer.write(b"x" * 1024 * 1024)
    return answer


async def _nothing(_: web.Request) -> web.StreamResponse:
    return web.Response(status=204)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (_refuses, "[ERROR] The server answered with the status 404: no such order for Bearer ***"),
        (_redirects, "[ERROR] The server answered with the status 302"),
        (_breaks, "[ERROR] The server's answer broke off or is no HTTP"),
        (_hangs, "[ERROR] The server did not answer within 0.5 s"),
        (_binary, "[image/png, not shown]"),
        (_nothing, "[status 204, no content]"),
    ],
)
async def test_a_turn_goes_on_whatever_the_server_does(
    world: World, admin: Caller, shop: Shop, answer: Answer, told: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("weir.agent_engine.tools.http.SECONDS", 0.5)
    shop.answer = answer
    tool = {"url": f"{shop.url}/", "auth": {"type": "bearer", "token": "tool-canary-1"}}
    result = await called(world, admin, tool, {})
    assert result["output"] == told
    assert result["has_error"] is told.startswith("[ERROR]")


async def test_a_server_that_is_not_there_fails_its_call(world: World, admin: Caller):
    result = await called(world, admin, {"url": "http://127.0.0.1:9/"}, {})
    assert result["output"] == "[ERROR] The server cannot be reached"


async def test_an_answer_without_end_is_cut_off(world: World, admin: Caller, shop: Shop):
    shop.answer = _huge
    async with asyncio.timeout(10):
        result = await called(world, admin, {"url": f"{shop.url}/"}, {})
    assert result["output"].endswith("x\n[cut off after 100000 characters]")
    assert len(result["output"]) < 100_100


async def test_a_cookie_of_one_call_is_sent_with_no_other(world: World, admin: Caller, shop: Shop):
    async def sets(_: web.Request) -> web.StreamResponse:
        return web.Response(text="ok", headers={"set-cookie": "session=of-one-tenant; Path=/"})

    shop.answer = sets
    for _ in range(2):
        await called(world, admin, {"url": f"{shop.url.replace('127.0.0.1', 'localhost')}/"}, {})
    assert len(shop.asked) == 2
    assert all("cookie" not in asked.headers for asked in shop.asked)


async def test_a_tool_that_asks_for_confirmation_is_gated_whatever_its_agent_says(
    world: World, admin: Caller, shop: Shop
):
    tool = {"url": f"{shop.url}/", "confirmation_required": True}
    replies = use("shop_order"), say("Declined."), use("shop_order"), say("Done.")
    assistant = await equipped(world, admin, tool, *replies)
    for answer, text, count in (("no", "Declined.", 0), ("approve", "Done.", 1)):
        path = f"/schemas/{assistant.schema}/chat"
        said = ""
        async with admin.streaming(path, {"message": "hi"}) as frames:
            async for frame in frames:
                if frame.event == "confirmation":
                    assert shop.asked == []
                    respond = f"/sessions/{frame.data['session_id']}/respond"
                    body = {"call_id": frame.data["call_id"], "answers": [answer]}
                    await admin.ask(200, "POST", respond, body)
                if frame.event == "message_delta":
                    said += frame.data["content"]
        assert (said, len(shop.asked)) == (text, count)


@pytest.mark.parametrize("gate", ["shop_order"])
async def test_an_agent_may_gate_it_too(world: World, admin: Caller, shop: Shop, gate: str):
    await imported(admin, {"tools": {"shop_order": {"url": f"{shop.url}/"}}})
    assistant = await world.assistant(admin, say("Hi."), tools=["shop_order"], confirm_before=[gate])
    await admin.chat(assistant.schema)
    assert "asked for approval: shop_order" in assistant.brain.requests[0]["messages"][0]["content"]


DOCUMENT: dict[str, Any] = {
    "models": [{"name": "m", "type": "ollama", "model_name": "x"}],
    "tools": {
        "get_order": {
            "type": "http",
            "method": "GET",
            "url": "https://shop.example.com/orders/{{id}}",
            "description": "Looks an order up.",
            "params": {"id": {"type": "integer", "description": "Its number"}, "lang": "de"},
            "headers": {"X-Org": "acme-canary"},
            "auth": {"type": "bearer", "token": "tool-canary-2"},
            "confirmation_required": True,
        },
        "plain": {
            "endpoint": "POST https://shop.example.com/plain",
            "params": [{"name": "a", "required": True}],
        },
    },
    "agents": [{"name": "clerk", "tools": ["get_order", "plain", "lake_query"]}],
}


async def secrets_of(world: World, caller: Caller, name: str) -> dict[str, str]:
    studio, tenant_id = world.app.state.studio, caller.principal.tenant_id
    async with studio.database.tenant(tenant_id) as connection:
        row = await connection.fetchrow(
            "select secrets_sealed, updated_at from http_tools where tenant_id = $1 and name = $2",
            tenant_id,
            name,
        )
        assert b"canary" not in (row["secrets_sealed"] or b"")
        [found] = await http_tools.named(connection, tenant_id, [name])
    return await studio.http_tools.secrets(tenant_id, found)


async def test_tools_of_a_document_are_counted_and_agents_have_them(world: World, admin: Caller):
    answer = await imported(admin, DOCUMENT)
    assert answer["tools_imported"] == 2
    assert answer["changes"]["tools"] == {"created": 2, "updated": 0, "unchanged": 0}
    assert (await admin.ask(200, "GET", "/agents/clerk"))["tools"] == ["get_order", "plain", "lake_query"]
    assert await secrets_of(world, admin, "get_order") == {
        "auth": "tool-canary-2",
        "header:X-Org": "acme-canary",
    }
    refusal = await admin.ask(400, "PATCH", "/agents/clerk", {"tools": ["get_ordr"]})
    assert "did you mean 'get_order'?" in refusal["message"]


async def test_an_export_of_tools_over_itself_changes_nothing(world: World, admin: Caller):
    await imported(admin, DOCUMENT)
    text = await exported(admin)
    assert "canary" not in text
    answer = await imported(admin, text.encode())
    assert answer["changes"]["tools"] == {"created": 0, "updated": 0, "unchanged": 2}
    assert answer["warnings"] == []
    assert without_time(await exported(admin)) == without_time(text)
    assert (await secrets_of(world, admin, "get_order"))["auth"] == "tool-canary-2"


async def test_elsewhere_a_tool_lacks_its_secrets_until_they_are_entered(
    world: World, admin: Caller, elsewhere: Caller
):
    await imported(admin, DOCUMENT)
    text = await exported(admin)
    answer = await imported(elsewhere, text.encode())
    places = [warning.partition(":")[0] for warning in answer["warnings"]]
    assert places == ["tools.get_order.headers.X-Org", "tools.get_order.auth.AUTH"]
    assert await secrets_of(world, elsewhere, "get_order") == {}
    given = {"headers": {"X-Org": "o"}, "auth": {"type": "bearer", "token": "t"}}
    await imported(elsewhere, {"tools": {"get_order": given}})
    assert await secrets_of(world, elsewhere, "get_order") == {"auth": "t", "header:X-Org": "o"}
    assert without_time(await exported(elsewhere)) == without_time(text)


async def test_what_a_document_says_of_a_tool_is_merged(world: World, admin: Caller):
    await imported(admin, DOCUMENT)
    answer = await imported(admin, {"tools": {"get_order": {"description": "Other."}}})
    assert answer["changes"]["tools"]["updated"] == 1
    assert (await secrets_of(world, admin, "get_order"))["auth"] == "tool-canary-2"
    await imported(admin, {"tools": {"get_order": {"auth": {"type": "none"}}}})
    assert await secrets_of(world, admin, "get_order") == {"header:X-Org": "acme-canary"}


async def test_tools_that_an_agent_describes_itself_are_made_too(admin: Caller):
    custom = [
        {
            "name": "own",
            "endpoint": "GET https://x.example.com/a",
            "auth": {"type": "bearer", "token_env": "T"},
        }
    ]
    document = {"models": DOCUMENT["models"], "agents": {"a": {"tools": {"builtin": [], "custom": custom}}}}
    answer = await imported(admin, document)
    assert answer["tools_imported"] == 1
    assert (await admin.ask(200, "GET", "/agents/a"))["tools"] == ["own"]
    [warning] = answer["warnings"]
    assert warning.startswith("agents.a.tools.custom.own.auth.token_env: ")


@pytest.mark.parametrize(
    ("name", "fields", "place"),
    [
        ("t", {}, "tools.t.url"),
        ("t", {"url": "ftp://x.example.com"}, "tools.t.url"),
        ("t", {"url": "http://169.254.169.254/latest"}, "tools.t.url"),
        ("t", {"url": "https://u:p@x.example.com/"}, "tools.t.url"),
        ("t", {"url": "https://{{host}}/"}, "tools.t.url"),
        ("t", {"url": "https://x.example.com:{{port}}/"}, "tools.t.url"),
        ("t", {"url": "https://x.example.com/{{not closed/"}, "tools.t.url"),
        ("t", {"url": "https://x.example.com/#a"}, "tools.t.url"),
        ("t", {"url": "https://x.example.com/\u00e4"}, "tools.t.url"),
        ("t", {"url": "https://x.example.com/", "type": "python"}, "tools.t.type"),
        ("t", {"url": "https://x.example.com/", "method": "CONNECT"}, "tools.t.method"),
        ("t", {"url": "https://x.example.com/", "body": {"a": 1}}, "tools.t.body"),
        ("t", {"url": "https://x.example.com/", "method": "PUT", "body": "text"}, "tools.t.body"),
        ("t", {"url": "https://x.example.com/", "headers": {"Host": "x"}}, "tools.t.headers.Host"),
        ("t", {"url": "https://x.example.com/", "headers": {"X": "a\nb"}}, "tools.t.headers.X"),
        ("t", {"url": "https://x.example.com/", "headers": {"X": "{{a}}"}}, "tools.t.headers.X"),
        ("t", {"url": "https://x.example.com/", "auth": {"type": "oauth"}}, "tools.t.auth.type"),
        (
            "t",
            {"url": "https://x.example.com/", "auth": {"type": "basic", "token": "x"}},
            "tools.t.auth.username",
        ),
        (
            "t",
            {"url": "https://x.example.com/", "auth": {"type": "header", "token": "x"}},
            "tools.t.auth.header",
        ),
        ("t", {"url": "https://x.example.com/", "params": [{"name": "a"}, {"name": "a"}]}, "tools.t.params"),
        (
            "t",
            {"url": "https://x.example.com/", "method": "PUT", "body": {"a": "x" * 40_000}},
            "tools.t.body",
        ),
        ("lake_query", {"url": "https://x.example.com/"}, "tools.lake_query.name"),
        ("spawn_x", {"url": "https://x.example.com/"}, "tools.spawn_x.name"),
        ("Bad Name", {"url": "https://x.example.com/"}, "tools.Bad Name.name"),
    ],
)
async def test_a_tool_that_makes_no_sense_is_refused_with_its_place(
    admin: Caller, name: str, fields: dict[str, Any], place: str
):
    refusal = await refused(admin, {"tools": {name: fields}})
    assert place in {error["path"] for error in refusal["errors"]}, refusal


async def test_one_tenants_tool_is_nobody_elses(admin: Caller, elsewhere: Caller):
    await imported(admin, DOCUMENT)
    await imported(elsewhere, {"models": DOCUMENT["models"]})
    await elsewhere.ask(400, "POST", "/agents", {"name": "a", "tools": ["get_order"]})
    assert "get_order" not in await exported(elsewhere)
