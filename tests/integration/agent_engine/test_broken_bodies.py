"""Bodies that are too large, broken off or wrong: told in a sentence, and the studio is well afterwards.

The whole list, with the test that proves each item, is `docs/decisions/0027-known-defects.md`.
"""

import asyncio
from typing import Any

import httpx
import pytest
import structlog
from tests.integration.agent_engine.conftest import Caller, World


async def test_a_fault_in_a_query_is_told_in_the_message_too(admin: Caller) -> None:
    refusal = await admin.ask(400, "GET", "/sessions?limit=many")
    assert "limit" in refusal["message"]
    refusal = await admin.ask(400, "PUT", "/settings/x", [])
    assert "object" in refusal["message"]


@pytest.mark.parametrize("path", ["/agents", "/models", "/schemas", "/schemas/x/chat", "/sessions"])
@pytest.mark.parametrize("is_sized", [True, False])
async def test_a_huge_body_is_413_and_the_studio_is_well_afterwards(
    admin: Caller, path: str, *, is_sized: bool
) -> None:
    content = b'{"name":"big","message":"' + b"x" * 1_100_000 + b'"}'

    async def pieces() -> Any:
        for start in range(0, len(content), 65_536):
            yield content[start : start + 65_536]

    refused = await admin.http.post(f"/api/v1{path}", content=content if is_sized else pieces())
    assert refused.status_code == 413
    assert refused.json()["error"] == "payload_too_large"
    await admin.ask(200, "GET", "/agents")


async def test_a_caller_that_leaves_within_its_body_is_no_error_of_the_platform(
    world: World, admin: Caller
) -> None:
    url = httpx.URL(world.url)
    head = (
        f"POST /api/v1/agents HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
        f"X-Weir-Ticket: {admin.http.headers['x-weir-ticket']}\r\n\r\n"
    )
    with structlog.testing.capture_logs() as logs:
        _, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(head.encode() + b'{"name":')
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.close()
        await asyncio.sleep(0.3)
    assert [entry["status"] for entry in logs if entry["event"] == "request"] == [400]
    assert not [entry for entry in logs if entry["log_level"] == "error"]
