"""What becomes of providers that refuse, fail, hang, lie or never end: a typed error, soon, and no word of the key."""

import asyncio
import gzip
import time
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import structlog
from msgspec.structs import replace
from tests.fakes.model_server import Reply
from tests.fakes.provider_server import FakeProviders, Script
from tests.unit.agent_engine.conftest import HELLO, KEY, access_to, hear

from weir.agent_engine.metrics import LLM_RETRIES
from weir.agent_engine.models import asking
from weir.agent_engine.models.asking import Asker
from weir.agent_engine.models.base import (
    ModelError,
    ModelGarbled,
    ModelMissing,
    ModelOverloaded,
    ModelRateLimited,
    ModelRefused,
    ModelTimedOut,
    ModelUnauthorized,
    ModelUnavailable,
    ModelUnpaid,
    PromptTooLong,
)
from weir.agent_engine.models.client import WireClient
from weir.agent_engine.models.refusals import Told, error_of, pause_of, told_in
from weir_shared.egress import open_egress

TYPES = ["openai_compatible", "anthropic", "google"]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "FAULT_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(asking, "LIMIT_PAUSE_SECONDS", 0.01)


async def failure(
    client: WireClient, script: Script, type: str = "openai_compatible", **fields: Any
) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await asyncio.wait_for(hear(client, access_to(type, script.base_url, **fields)), 10)
    assert KEY not in str(caught.value)
    return caught.value


REFUSALS = [
    (401, b'{"error":{"message":"Incorrect API key provided: %s"}}' % KEY.encode(), ModelUnauthorized),
    (403, b"", ModelUnauthorized),
    (400, b'{"error":{"status":"INVALID_ARGUMENT","message":"API key not valid."}}', ModelUnauthorized),
    (404, b'{"type":"error","error":{"type":"not_found_error","message":"model: m"}}', ModelMissing),
    (400, b'{"error":{"code":"context_length_exceeded","message":"too long"}}', PromptTooLong),
    (400, b'{"error":{"type":"invalid_request_error","message":"prompt is too long: 9 tokens > 8"}}', PromptTooLong),
    (400, b'{"error":{"message":"The input token count (9) exceeds the maximum number of tokens"}}', PromptTooLong),
    (413, b"", PromptTooLong),
    (402, b'{"error":{"message":"Insufficient Balance"}}', ModelUnpaid),
    (429, b'{"error":{"code":"insufficient_quota","message":"You exceeded your quota"}}', ModelUnpaid),
    (400, b'{"error":{"message":"Your credit balance is too low"}}', ModelUnpaid),
    (400, b'{"error":{"code":"content_filter","message":"policy"}}', ModelRefused),
    (422, b'{"detail":[{"msg":"Extra inputs are not permitted"}]}', ModelRefused),
    (301, b"", ModelRefused),
    (204, b"", ModelRefused),
]  # fmt: skip


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize(("status", "body", "error"), REFUSALS)
async def test_a_refusal_has_its_type_and_is_not_asked_again(
    providers: FakeProviders, client: WireClient, type: str, status: int, body: bytes, error: type[ModelError]
) -> None:
    script = providers.script(Reply(status=status, raw=body))
    found = await failure(client, script, type)
    assert found.__class__ is error
    assert len(script.asked) == 1


async def test_the_reason_of_a_refusal_is_told_without_the_key(
    providers: FakeProviders, client: WireClient
) -> None:
    body = b'{"error":{"message":"stop: at most 4, said %s\\n and sk-abcdefghijklmnopqrstuv"}}' % KEY.encode()
    with structlog.testing.capture_logs() as logs:
        found = await failure(client, providers.script(Reply(status=400, raw=body)))
    assert "stop: at most 4" in str(found)
    assert "sk-abc" not in str(found)
    assert logs
    assert KEY not in str(logs)
    assert "sk-abc" not in str(logs)
    assert KEY not in repr(access_to("openai_compatible", "http://h"))


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize(
    ("status", "error", "tries"),
    [(429, ModelRateLimited, 4), (500, ModelUnavailable, 3), (503, ModelOverloaded, 3), (529, ModelOverloaded, 3)],
)  # fmt: skip
async def test_what_may_pass_is_asked_again_and_counted(
    providers: FakeProviders, client: WireClient, type: str, status: int, error: type[ModelError], tries: int
) -> None:
    counted = LLM_RETRIES.labels(type, error.code)
    before = counted._value.get()
    script = providers.script(Reply(status=status))
    assert (await failure(client, script, type)).__class__ is error
    assert len(script.asked) == tries
    assert counted._value.get() - before == tries - 1
    again = providers.script(Reply(status=status), Reply(text=("ok",)))
    assert (await hear(client, access_to(type, again.base_url))).text == "ok"


async def test_a_pause_that_the_provider_asks_for_is_kept(
    providers: FakeProviders, client: WireClient
) -> None:
    script = providers.script(Reply(status=429, headers={"retry-after": "0.3"}), Reply(text=("ok",)))
    started = time.monotonic()
    assert (await hear(client, access_to("xai", script.base_url))).text == "ok"
    assert time.monotonic() - started >= 0.3


async def test_a_pause_beyond_the_turn_is_not_made(providers: FakeProviders, client: WireClient) -> None:
    script = providers.script(Reply(status=429, headers={"retry-after": "5"}))
    started = time.monotonic()
    found = await failure(client, script, deadline=time.monotonic() + 2)
    assert isinstance(found, ModelRateLimited)
    assert time.monotonic() - started < 1
    assert len(script.asked) == 1


def test_pauses_are_read_in_every_form() -> None:
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    delay = b'{"error":{"details":[{"@type":"x/RetryInfo","retryDelay":"34.5s"}]}}'
    assert pause_of({"retry-after": "7"}, Told()) == 7
    assert pause_of({"retry-after-ms": "1500", "retry-after": "7"}, Told()) == 1.5
    assert 50 < (pause_of({"retry-after": in_a_minute}, Told()) or 0) <= 60
    assert pause_of({}, told_in(delay)) == 34.5
    assert pause_of({"retry-after": "soon"}, Told()) is None
    assert pause_of({"retry-after": "-3"}, Told()) is None
    assert pause_of({}, Told()) is None


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"5", b"\xff", b"[" * 100_000, b'{"error":{"message":5}}', b'{"error":[1]}', b"<p>"]
)  # fmt: skip
def test_any_body_of_a_refusal_is_survived(body: bytes) -> None:
    assert isinstance(error_of(400, told_in(body)), ModelRefused)


GARBAGE = [
    (b"data: {not json}\n\n", ModelGarbled),
    (b'data: {"choices": 5, "candidates": 5, "type": 5}\n\n', ModelGarbled),
    (b"data: " + b"[" * 100_000 + b"\n\n", ModelGarbled),
    (b"<html>hello</html>", ModelGarbled),
    (b'{"error":{"message":"no","type":"authentication_error"}}', ModelUnauthorized),
    (b": only\n: comments\n\n", ModelUnavailable),
    (b"", ModelUnavailable),
    (b"data: " + b"x" * (9 * 1024 * 1024), ModelGarbled),
    (b'data: {"error":{"message":"slow down","code":429}}\n\n', ModelRateLimited),
    (b'data: {"error":{"message":"x"},"type":"error"}\n\n', ModelUnavailable),
]


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize(("raw", "error"), GARBAGE)
async def test_garbage_has_its_type_and_is_not_asked_again(
    providers: FakeProviders, client: WireClient, type: str, raw: bytes, error: type[ModelError]
) -> None:
    script = providers.script(Reply(raw=raw))
    assert (await failure(client, script, type)).__class__ is error
    assert len(script.asked) == 1


@pytest.mark.parametrize("type", TYPES)
async def test_a_stream_is_read_for_what_it_is_not_for_what_it_says_it_is(
    providers: FakeProviders, client: WireClient, type: str
) -> None:
    script = providers.script(Reply(text=("ok",), headers={"content-type": "text/html"}))
    assert (await hear(client, access_to(type, script.base_url))).text == "ok"


@pytest.mark.parametrize("type", TYPES)
async def test_slow_headers_and_stalled_bodies_time_out(
    providers: FakeProviders, client: WireClient, type: str
) -> None:
    for reply in (Reply(text=("ok",), delay=5), Reply(text=("Hel",), hangs=True)):
        script = providers.script(reply)
        started = time.monotonic()
        assert isinstance(await failure(client, script, type), ModelTimedOut)
        assert time.monotonic() - started < 2
        assert len(script.asked) == 1
        await asyncio.wait_for(script.cut_off.wait(), 2)


@pytest.mark.parametrize("type", TYPES)
async def test_leaving_hangs_up(providers: FakeProviders, client: WireClient, type: str) -> None:
    script = providers.script(Reply(text=("Hel",), hangs=True))
    async with aclosing(client.stream(access_to(type, script.base_url), HELLO)) as parts:
        async for _ in parts:
            break
    await asyncio.wait_for(script.cut_off.wait(), 1)


@pytest.mark.parametrize("type", TYPES)
async def test_a_dropped_connection_is_unavailable(
    providers: FakeProviders, client: WireClient, type: str
) -> None:
    script = providers.script(Reply(text=("Hel",), drops=True))
    assert isinstance(await failure(client, script, type), ModelUnavailable)
    assert len(script.asked) == 1


async def test_a_compressed_answer_is_read_and_a_bomb_is_not_swallowed(
    providers: FakeProviders, client: WireClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = b'data: {"choices":[{"delta":{"content":"ok"},"finish_reason":"stop"}]}\n\n'
    packed = {"content-encoding": "gzip"}
    script = providers.script(Reply(raw=gzip.compress(said), headers=packed))
    assert (await hear(client, access_to("zai", script.base_url))).text == "ok"
    assert script.last.headers["accept-encoding"] == "identity"
    bomb = gzip.compress(b": keep alive\n" * 3_000_000)
    monkeypatch.setattr(asking, "MAX_ANSWER_BYTES", 8 * 1024 * 1024)
    found = await failure(client, providers.script(Reply(raw=bomb, headers=packed)))
    assert isinstance(found, ModelGarbled)
    unknown = Reply(raw=b"\x00\x01", headers={"content-encoding": "br"})
    assert isinstance(await failure(client, providers.script(unknown)), ModelError)


async def test_redirects_lead_nowhere(providers: FakeProviders, client: WireClient) -> None:
    target = providers.script(Reply(text=("stolen",)))
    script = providers.script(Reply(status=307, raw=b"", headers={"location": target.base_url}))
    assert isinstance(await failure(client, script), ModelRefused)
    assert not target.asked


@pytest.mark.parametrize("type", TYPES)
async def test_an_address_that_resolves_to_a_private_one_is_not_asked(
    providers: FakeProviders, type: str
) -> None:
    script = providers.script(Reply(text=("secret",)))
    address = script.base_url.replace("127.0.0.1", "localhost")
    async with open_egress(allow_private=False) as session:
        strict = WireClient(Asker(session))
        with pytest.raises(ModelError):
            await hear(strict, replace(access_to(type, address), deadline=time.monotonic() + 1))
    assert not script.asked


@pytest.mark.parametrize(
    "base", ["http://127.0.0.1:9", "http://127.0.0.1:99999", "http://[::1", "http://h ost"]
)
async def test_an_address_that_nobody_serves_is_an_error_of_the_model(client: WireClient, base: str) -> None:
    with pytest.raises(ModelError):
        await hear(client, access_to("openai_compatible", base))
