"""What passes through the door, and what does not."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.integration.gateway.conftest import Door
from tests.serving import free_port, served

from weir.gateway import relay
from weir.gateway.app import create_app
from weir_shared.telemetry.metrics import HTTP_REQUESTS


async def test_both_prefixes_of_the_lake_reach_the_lake(door: Door) -> None:
    async with door.client(**await door.session()) as client:
        for prefix in ("/v1/context-lake", "/api/v1/context-lake"):
            answer = await client.get(f"{prefix}/datasets")
            assert answer.json()["path"] == "/v1/context-lake/datasets"


async def test_a_path_passes_percent_encoded_as_it_was_sent(door: Door) -> None:
    async with door.client(**await door.session()) as client:
        await client.get("/v1/context-lake/datasets/a%2Fb%20c?x=%41&y=1+2")
    assert door.lake.asked[-1]["raw"] == b"/v1/context-lake/datasets/a%2Fb%20c"


async def test_the_callers_own_headers_for_the_inside_are_dropped(door: Door) -> None:
    headers = await door.session() | {"x-weir-ticket": "forged", "x-weir-route": "x", "X-Model-Name": "m"}
    async with door.client(**headers) as client:
        await client.get("/api/v1/agents")
    seen = door.engine.asked[-1]["headers"]
    assert [name for name, _ in seen].count(b"x-weir-ticket") == 1
    assert dict(seen)[b"x-model-name"] == b"m"


async def test_every_answer_has_a_request_id_and_a_good_one_is_kept(door: Door) -> None:
    async with door.client(**await door.session()) as client:
        assert (await client.get("/api/v1/agents")).headers["x-request-id"]
        kept = await client.get("/api/v1/agents", headers={"X-Request-Id": "abc-1"})
        replaced = await client.get("/api/v1/agents", headers={"X-Request-Id": 'a"b\tc'})
    assert kept.headers["x-request-id"] == "abc-1"
    assert replaced.headers["x-request-id"] != 'a"b\tc'
    assert dict(door.engine.asked[-2]["headers"])[b"x-request-id"] == b"abc-1"


async def test_a_room_is_not_named_to_the_caller(door: Door) -> None:
    async with door.client(**await door.session()) as client:
        headers = (await client.get("/api/v1/agents")).headers
    assert "x-weir-route" not in headers
    assert "server" not in headers


async def test_a_body_in_pieces_arrives_whole(door: Door) -> None:
    async def pieces():
        for _ in range(8):
            yield b"x" * 100_000
            await asyncio.sleep(0.01)

    async with door.client(**await door.session()) as client:
        answer = await client.post("/api/v1/agents", content=pieces())
    assert answer.json()["size"] == 800_000


@pytest.mark.parametrize("sized", [True, False])
async def test_a_body_over_the_limit_is_413(door: Door, sized: bool) -> None:
    async def pieces():
        for _ in range(11):
            yield b"x" * 100_000

    async with door.client(**await door.session()) as client:
        refused = await client.post("/v1/context-lake/sql", content=b"x" * 1_100_000 if sized else pieces())
    assert (refused.status_code, refused.json()["code"]) == (413, "payload_too_large")


async def test_a_stream_arrives_as_it_is_made_and_its_end_is_told_to_the_room(door: Door) -> None:
    door.engine.left.clear()
    async with (
        door.client(**await door.session()) as client,
        client.stream("GET", "/api/v1/endless") as stream,
    ):
        seen = 0
        async for chunk in stream.aiter_bytes():
            seen += len(chunk)
            if seen > 30:
                break
    await asyncio.wait_for(door.engine.left.wait(), 2)


async def test_an_answer_that_breaks_off_does_not_look_whole(door: Door) -> None:
    async with door.client(**await door.session()) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/api/v1/cut")


async def test_a_room_that_is_away_is_503_in_its_own_dialect(settings_of, door: Door) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    headers = await door.session()
    async with (
        served(create_app(settings_of(lake_url=away, engine_url=away))) as url,
        httpx.AsyncClient(base_url=url, headers=headers) as client,
    ):
        lake, engine = await client.get("/v1/context-lake/datasets"), await client.get("/api/v1/agents")
        health = await client.get("/api/v1/health")
    assert (lake.status_code, lake.json()["code"]) == (503, "unavailable")
    assert lake.json()["requestId"] == lake.headers["x-request-id"]
    assert (engine.status_code, engine.json()["error"]) == (503, "unavailable")
    assert lake.headers["retry-after"] == "1"
    assert (health.status_code, health.json()["status"]) == (503, "degraded")


async def test_a_missing_credential_is_told_in_the_dialect_of_the_path(door: Door) -> None:
    async with door.client() as client:
        lake, engine = await client.get("/v1/context-lake/datasets"), await client.get("/api/v1/agents")
        registry = await client.get("/api/v1/models/registry")
    assert (lake.status_code, lake.json()["code"]) == (401, "missing_api_key")
    assert (engine.status_code, engine.json()["error"]) == (401, "unauthorized")
    assert registry.status_code == 200
    assert door.engine.asked[-1]["as"].actor == "anonymous"


async def test_what_openais_clients_ask_goes_to_the_engine_and_is_refused_in_their_words(
    settings_of, door: Door
) -> None:
    headers = await door.session()
    async with door.client(**headers, **{"X-Session-Id": "s-1"}) as client:
        for path in ("/v1/chat/completions", "/v1/models", "/v1/models/x"):
            assert (await client.post(path)).json()["path"] == path
    assert dict(door.engine.asked[-1]["headers"])[b"x-session-id"] == b"s-1"
    away = f"http://127.0.0.1:{free_port()}"
    async with (
        served(create_app(settings_of(engine_url=away))) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        unknown = await client.get("/v1/models")
        unreachable = await client.get("/v1/models", headers=headers)
        too_large = await client.post("/v1/chat/completions", content=b"x" * 1_100_000, headers=headers)
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (401, "missing_api_key")
    assert unknown.headers["www-authenticate"]
    assert (unreachable.status_code, unreachable.json()["error"]["type"]) == (503, "server_error")
    assert (too_large.status_code, too_large.json()["error"]["code"]) == (413, "payload_too_large")


@pytest.mark.parametrize("path", ["/", "/nothing", "/api/v1/auth/login", "/api", "/v1/other"])
async def test_an_unknown_path_is_404(door: Door, path: str) -> None:
    async with door.client() as client:
        missing = await client.post(path)
    assert (missing.status_code, missing.json()["error"]) == (404, "not_found")


async def test_a_wrong_method_is_405_and_says_what_is_allowed(door: Door) -> None:
    async with door.client() as client:
        refused = await client.delete("/api/v1/health")
    assert refused.status_code == 405
    assert "GET" in refused.headers["allow"]


@pytest.mark.parametrize(
    "body", [b"{", b"[" * 20_000, b'{"name": "\xff"}', b"\xff\xfe", b"null", b"[]", b"", b"NaN"]
)
async def test_a_body_that_is_no_json_is_400(door: Door, body: bytes) -> None:
    async with door.client(**await door.session()) as client:
        refused = await client.post("/api/v1/auth/tokens", content=body)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_request")


async def test_an_answer_without_a_body_leaves_its_connection_whole(door: Door) -> None:
    async with door.client(**await door.session()) as client:
        answers = [await client.delete("/api/v1/agents/nothing") for _ in range(3)]
        open_ones = client._transport._pool.connections  # pyright: ignore[reportAttributeAccessIssue, reportPrivateUsage]
    assert [answer.status_code for answer in answers] == [204] * 3
    assert len(open_ones) == 1


async def test_health_tells_the_parts(door: Door) -> None:
    async with door.client() as client:
        health = (await client.get("/api/v1/health")).json()
        live, ready = await client.get("/live"), await client.get("/ready")
    assert (health["status"], health["agents_count"], health["database"]) == ("ok", 3, "ok")
    assert live.status_code == 200
    assert ready.json() == {"ready": True, "database": "ok", "schema": "current", "redis": "ok"}


async def test_one_scrape_tells_every_service_by_route_template(door: Door) -> None:
    counted = HTTP_REQUESTS.labels("gateway", "/stand-in/{name}", "GET", "200")
    before = counted._value.get()
    async with door.client(**await door.session()) as client:
        for _ in range(5):
            await client.get("/api/v1/agents")
        text = (await client.get("/metrics")).text
    assert counted._value.get() - before == 5
    assert 'weir_up_to{service="agent-engine"} 1.0' in text
    assert 'weir_up{service="worker"} 0' in text
    names = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}
    assert all(name.startswith("weir_") for name in names)


async def test_one_document_describes_every_service(door: Door) -> None:
    async with door.client() as client:
        document = (await client.get("/schema/openapi.json")).json()
    assert {"/of-context-lake", "/of-agent-engine", "/api/v1/auth/tokens"} <= document["paths"].keys()
    described = {json.dumps(schema) for schema in document["components"]["schemas"].values()}
    assert any("agent-engine" in text for text in described)
    assert any("context-lake" in text for text in described)


async def test_a_room_that_never_answers_is_504_after_its_own_budget(
    settings_of, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weir.gateway.relay.ROOM_SLACK_SECONDS", 0)
    headers = await door.session()
    async with (
        served(create_app(settings_of(sql_timeout_seconds=1))) as url,
        httpx.AsyncClient(base_url=url, headers=headers, timeout=20) as client,
    ):
        silent = await client.get("/v1/context-lake/silent")
        assert (silent.status_code, silent.json()["code"]) == (504, "timeout")
        assert (await client.get("/v1/context-lake/datasets")).status_code == 200


IMPORTS = "/v1/context-lake/imports"


async def test_an_upload_passes_as_it_comes_where_others_end_at_a_mebibyte(door: Door) -> None:
    async def stream() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"x" * 65536

    async with door.client(**await door.session()) as client:
        for path in (IMPORTS, f"/api{IMPORTS}", IMPORTS + "/"):
            passed = await client.post(path, content=stream())
            assert (passed.status_code, passed.json()["size"]) == (200, 64 * 65536)
        for method, path in (("PUT", IMPORTS), ("POST", IMPORTS + "/x"), ("POST", "/v1/context-lake/sql")):
            refused = await client.request(method, path, content=stream())
            assert refused.status_code == 413
            assert refused.json()["error"] == "The body is larger than 1 MiB"


async def test_an_upload_beyond_its_limit_is_refused_announced_at_once_and_unannounced(
    door: Door, settings_of: Any
) -> None:
    async def stream() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"x" * 65536

    async with served(create_app(settings_of(import_max_mib=2))) as url:
        async with httpx.AsyncClient(base_url=url, headers=await door.session(), timeout=20) as client:
            refused = await client.post(IMPORTS, content=stream())
            assert refused.status_code == 413
            assert refused.json()["error"] == "A file to import is at most 2 MiB"
        asked = len(door.lake.asked)
        status, body = await announced(url, await door.session(), 3 * 1024**2)
        assert (status, body["error"]) == (413, "A file to import is at most 2 MiB")
        assert len(door.lake.asked) == asked


async def announced(url: str, headers: dict[str, str], size: int) -> tuple[int, Any]:
    """The answer to a request of which only the head is sent."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [f"POST {IMPORTS} HTTP/1.1", f"Host: {host}", f"Content-Length: {size}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    async with asyncio.timeout(5):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length: ")[2].partition("\r")[0])
        body = json.loads(await reader.readexactly(length))
    writer.close()
    return int(head.split()[1]), body


async def test_an_upload_that_stalls_is_ended_with_a_word(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "UPLOAD_SILENCE_SECONDS", 0.3)

    async def stream() -> AsyncIterator[bytes]:
        # Slow and steady is well, for as long as it takes.
        for _ in range(8):
            yield b"x" * 1000
            await asyncio.sleep(0.1)

    async def stalled() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        await asyncio.sleep(2)
        yield b"x"

    async with door.client(**await door.session()) as client:
        assert (await client.post(IMPORTS, content=stream())).status_code == 200
        ended = await client.post(IMPORTS, content=stalled())
        assert (ended.status_code, ended.json()["code"]) == (408, "upload_stalled")


@pytest.mark.parametrize(
    "credential", [{}, {"Authorization": "Bearer not-one-of-ours"}, {"API_KEY": "rbk_" + "0" * 64}]
)
async def test_a_webhook_needs_no_credential_but_its_token(door: Door, credential: dict[str, str]) -> None:
    path = "/api/hooks/cl/clwh_" + "a" * 64
    async with door.client(**credential) as client:
        answer = await client.post(path, params={"dataset": "sales"})
    assert answer.status_code == 200
    asked = door.lake.asked[-1]
    assert (asked["path"], asked["as"].actor, asked["as"].scopes) == (path, "anonymous", frozenset())
    assert not {b"authorization", b"api_key"} & {name for name, _ in asked["headers"]}


async def test_a_delivery_to_a_trigger_is_handed_on_without_a_credential(door: Door) -> None:
    path = "/api/v1/webhooks/wh_1"
    async with door.client(Authorization="Bearer not-one-of-ours", **{"X-Webhook-Secret": "s"}) as client:
        assert (await client.post(path, json={})).status_code == 200
        for other in ("/api/v1/webhooks-not", "/api/v1/triggers"):
            assert (await client.get(other)).status_code == 401
    asked = door.engine.asked[-1]
    assert (asked["path"], asked["as"].actor, asked["as"].scopes) == (path, "anonymous", frozenset())
    assert b"x-webhook-secret" in {name for name, _ in asked["headers"]}


@pytest.mark.parametrize("path", ["/api/hooks/clwh_x", "/api/hooks/cl2/clwh_x", "/api/hooks"])
async def test_what_is_no_webhook_is_not_open(door: Door, path: str) -> None:
    before = len(door.lake.asked) + len(door.engine.asked)
    async with door.client() as client:
        assert (await client.post(path)).status_code == 404
    assert len(door.lake.asked) + len(door.engine.asked) == before
