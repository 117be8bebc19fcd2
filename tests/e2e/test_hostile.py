"""Bad input on every route: a 4xx with a sentence, never a 5xx, and the platform well afterwards."""

import json
import os
import random
import re
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from tests.promises import Promise, size
from tests.starting import StartedPlatform, started

# Chat streams for as long as a turn lasts, and these change what the other tests stand on.
LEFT_OUT = r"chat$|/start$|/stop$|/redeploy$"
CASES_PER_OPERATION = size(12, 600)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedPlatform]:
    """A platform of its own: what is generated also deletes."""
    with started(tmp_path_factory.mktemp("hostile")) as running:
        yield running


ROUTES = [
    ("POST", "/v1/context-lake/datasets"),
    ("PUT", "/v1/context-lake/datasets/x"),
    ("POST", "/v1/context-lake/sql"),
    ("POST", "/api/v1/agents"),
    ("PUT", "/api/v1/agents/lake-analyst"),
    ("POST", "/api/v1/models"),
    ("PUT", "/api/v1/models/demo-scripted"),
    ("POST", "/api/v1/schemas"),
    ("PUT", "/api/v1/schemas/ask-the-lake"),
    ("POST", "/api/v1/schemas/ask-the-lake/chat"),
    ("POST", "/api/v1/auth/tokens"),
]
BODIES = {
    "cut short": b'{"name": ',
    "nested deeply": b'{"name":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "not utf-8": b'{"name": "\xff\xfe"}',
    "a lone surrogate": b'{"name": "\\ud800", "message": "\\ud800", "query": "\\ud800"}',
    "a NUL": b'{"name": "a\\u0000b", "message": "a\\u0000b", "query": "a\\u0000b"}',
    "a list": b"[]",
    "null": b"null",
    "a number": b"7",
    "a huge number": b'{"name": "x", "max_steps": 1e400, "maxRows": 99999999999999999999, "query": "select 1"}',
    "empty": b"",
    "wrong types": b'{"name": {}, "from": 7, "query": [], "message": true, "scopes": "x", "type": []}',
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
}


@pytest.mark.parametrize("fault", BODIES)
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_hostile_body_is_refused_with_a_sentence(
    platform: StartedPlatform, admin: httpx.Client, method: str, path: str, fault: str
) -> None:
    answered = admin.request(
        method, path, content=BODIES[fault], headers={"Content-Type": "application/json"}
    )
    assert 400 <= answered.status_code < 500, answered.text
    told = answered.json()
    assert told.get("message") or told.get("error")
    assert "Traceback" not in answered.text
    assert answered.headers["X-Request-Id"]


@pytest.mark.parametrize("path", ["%00", "%FF", "..%2F..", "%2e%2e", "a" * 5000, "'%3B--", "%E2%80%A8"])
@pytest.mark.parametrize("noun", ["/v1/context-lake/datasets/", "/api/v1/agents/", "/api/v1/sessions/"])
def test_a_hostile_path_is_no_server_error(admin: httpx.Client, noun: str, path: str) -> None:
    answered = admin.get(noun + path)
    assert 400 <= answered.status_code < 500, answered.text


def test_nothing_of_all_this_is_left_behind(admin: httpx.Client) -> None:
    listed = [*admin.get("/api/v1/agents").json(), *admin.get("/api/v1/models").json()]
    names = {item["name"] for item in listed}
    assert names
    assert not names & {"x", "a", "ab"}
    assert all(name.isprintable() for name in names)


@pytest.mark.promise("P15")
def test_no_generated_request_is_answered_with_5xx(
    platform: StartedPlatform, tmp_path: Path, promise: Promise
) -> None:
    """Schemathesis over the merged OpenAPI document, with credentials that are good."""
    document = httpx.get(f"{platform.url}/schema/openapi.json", timeout=30).json()
    # Left in, the generator would send credentials of its own beside ours.
    document.pop("security")
    document["components"].pop("securitySchemes")
    described = tmp_path / "openapi.json"
    described.write_text(json.dumps(document))
    headers = [f"{name}: {value}" for name, value in platform.session().items()]
    command = [sys.executable, "-c", "from schemathesis.cli import schemathesis as run; run()", "run"]
    command += [str(described), "-u", platform.url, "-H", headers[0]]
    command += ["--phases", "coverage,fuzzing", "--max-examples", str(CASES_PER_OPERATION), "--seed", "1"]
    command += ["-c", "not_a_server_error", "--exclude-path-regex", LEFT_OUT, "--continue-on-failure"]
    outcome = subprocess.run(
        command,
        cwd=tmp_path,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=size(170, 7200),
    )
    assert outcome.returncode == 0, outcome.stdout[-6000:]
    generated = re.search(r"([\d,]+) generated, ", outcome.stdout)
    assert generated, outcome.stdout[-2000:]
    assert httpx.get(f"{platform.url}/api/v1/health", timeout=30).status_code == 200
    assert platform.process.poll() is None
    promise.held(f"{generated[1]} generated requests, 0 answers with 5xx, 0 exits")


# Requests as no client library would write them.
RAW: list[bytes] = [
    b"",
    b"\0" * 100,
    b"\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    b"GET /api/v1/agents HTTP/1.1\r\n\r\n",
    b"GET http://127.0.0.1:9/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT 127.0.0.1:9 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    b"GET / HTTP/1.1\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\0\r\n\r\n",
    b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
]
BROKEN = [
    b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
    b"Content-Length: -1\r\n\r\n{}",
    b"Content-Length: 99999999999999999999\r\n\r\n{}",
    b"Content-Length: x\r\n\r\n{}",
    b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n-1\r\n{}\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}",
    b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}X0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n2;" + b"a" * 100_000 + b"\r\n{}\r\n0\r\n\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"Transfer-Encoding: identity\r\n\r\n{}",
    b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\n{}",
    b"Content-Type: application/json; charset=\xff\r\nContent-Length: 2\r\n\r\n{}",
    b"Content-Type: multipart/form-data; boundary=\r\nContent-Length: 2\r\n\r\n{}",
    b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    b"Idempotency-Key: \xff\0\r\nContent-Length: 2\r\n\r\n{}",
    b'If-Match: "\r\nContent-Length: 2\r\n\r\n{}',
]
WHOLE_SECONDS = 1
YAML_ROUTE = ("POST", "/api/v1/config/import")


def raw_requests(authorization: str, chance: random.Random, mutations: int) -> list[bytes]:
    """Every broken request on every route, and good requests with bytes changed, dropped or doubled."""
    known = f"Host: x\r\nAuthorization: {authorization}\r\n".encode()
    starts = [f"{method} {path} HTTP/1.1\r\n".encode() + known for method, path in (*ROUTES, YAML_ROUTE)]
    requests = RAW + [start + rest for start in starts for rest in BROKEN]
    bodies = [
        *BODIES.values(),
        b"a: &a [*a, *a]\n",
        b"agents: !!python/object/apply:os.system [x]\n",
        b"%YAML 9.9\n--- \t",
    ]
    for _ in range(mutations):
        body = bytearray(chance.choice(bodies)[:4096])
        for _ in range(chance.randrange(8)):
            body.insert(chance.randrange(len(body) + 1), chance.randrange(256))
        head = chance.choice(starts) + b"Content-Type: application/json\r\n"
        request = bytearray(head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        for _ in range(chance.randrange(3)):
            # The credential stays, or everything would end at the door.
            place = chance.choice([chance.randrange(40), chance.randrange(len(head), len(request))])
            request[place : place + chance.randrange(2)] = chance.randbytes(chance.randrange(3))
        requests.append(bytes(request))
    return requests


def answer_to(platform: StartedPlatform, request: bytes) -> bytes:
    """The first bytes of what a request of raw bytes gets, nothing if the connection is closed instead."""
    host, _, port = platform.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as line:
        try:
            line.sendall(request)
            if not select.select([line], [], [], WHOLE_SECONDS)[0]:
                # It is waited for the rest, which never comes.
                line.shutdown(socket.SHUT_WR)
            return line.recv(64)
        except ConnectionError:
            return b""


@pytest.mark.promise("P15")
def test_no_raw_bytes_are_answered_with_5xx(platform: StartedPlatform, promise: Promise) -> None:
    authorization = platform.session()["Authorization"]
    requests = raw_requests(authorization, random.Random(15), size(1200, 60_000))
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda request: answer_to(platform, request), requests))
    broken = [
        (re.sub(rb"Bearer \S+", b"", request)[:200], answer[:16])
        for request, answer in zip(requests, answers, strict=True)
        if answer and not re.match(rb"HTTP/1\.[01] [1-4]\d\d ", answer)
    ]
    assert broken == []
    told = sum(bool(answer) for answer in answers)
    assert told > len(requests) // 2
    assert platform.process.poll() is None
    assert httpx.get(f"{platform.url}/api/v1/ready", timeout=30).status_code == 200
    promise.held(f"{len(requests)} requests of raw bytes, {told} answered, 0 with 5xx, 0 exits")
