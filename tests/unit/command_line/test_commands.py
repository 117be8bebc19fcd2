"""The commands against a platform that is not one: what they send, how they end, and what they say."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from weir.__main__ import COMMANDS, build_parser
from weir.command_line import lake
from weir.command_line.documented import page
from weir.command_line.failures import Exit

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "reference" / "command-line.md"


def weir(*words: str, url: str = "http://127.0.0.1:9", key: str = "bb_x", **more: Any) -> Any:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT / 'services'}:{ROOT / 'shared'}",
        "WEIR_URL": url,
        "WEIR_API_KEY": key,
    }
    command = [sys.executable, "-m", "weir", "lake", *words]
    return subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False, **more)


class StandIn(BaseHTTPRequestHandler):
    """A stand-in for a platform: answers every request with what the test says."""

    answer: Callable[["StandIn"], None]
    asked: list[tuple[str, str, bytes, dict[str, str]]]

    def reply(self, status: int, body: Any, *, length: int | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)

    def serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked.append((self.command, self.path, body, dict(self.headers)))
        type(self).answer(self)

    do_GET = do_POST = do_DELETE = serve

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def platform(answer: Callable[[StandIn], None]) -> Iterator[tuple[str, list[Any]]]:
    asked: list[Any] = []
    handler = type("Handler", (StandIn,), {"answer": staticmethod(answer), "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def test_the_page_of_the_command_line_is_what_the_parser_takes() -> None:
    meanings = {name: meaning for name, (_, meaning) in COMMANDS.items()}
    assert PAGE.read_text() == page(build_parser()[1], meanings)


def test_every_command_of_the_parser_is_one_that_runs() -> None:
    verbs = next(action for action in build_parser()[1]._actions if action.dest == "verb")
    assert set(verbs.choices or ()) == set(lake.COMMANDS)


def test_help_is_there_at_once_and_loads_nothing_of_the_platform() -> None:
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        assert weir("--help").returncode == 0
        taken.append(time.perf_counter() - started)
    assert min(taken) < 0.3
    probe = (
        "import sys; from weir.__main__ import main\n"
        "try: main(['lake', '--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('msgspec', 'cryptography', 'asyncio', 'rich', 'weir_shared') if m in sys.modules])"
    )
    environment = {"PYTHONPATH": f"{ROOT / 'services'}:{ROOT / 'shared'}"}
    shown = subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, check=True)
    assert shown.stdout.decode().splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("status", "body", "exit_", "said"),
    [
        (
            400,
            {"error": "table 'x' not found", "code": "sql_error"},
            Exit.REFUSED,
            "'x' not found (sql_error)",
        ),
        (
            400,
            {"error": "Validation failed", "code": "v", "errors": [{"path": "name", "message": "too long"}]},
            Exit.REFUSED,
            "name: too long (v)",
        ),
        (401, {"error": "unauthorized", "message": "No."}, Exit.NOT_AUTHORISED, "unauthorized"),
        (403, {"error": "The scope is missing", "code": "forbidden"}, Exit.NOT_AUTHORISED, "scope"),
        (429, {"error": "Slow down", "code": "rate_limited"}, Exit.REFUSED, "Slow down"),
        (503, {"error": "Later", "code": "unavailable"}, Exit.UNREACHABLE, "Later (unavailable)"),
        (504, {"error": "Too late", "code": "timeout"}, Exit.UNREACHABLE, "timeout"),
        (500, b"<html>", Exit.UNREACHABLE, "is not a platform"),
        (302, b"", Exit.UNREACHABLE, "is not a platform"),
    ],
)
def test_each_way_to_be_refused_has_its_exit_code_and_one_line(
    status: int, body: Any, exit_: Exit, said: str
) -> None:
    with platform(lambda request: request.reply(status, body)) as (url, _):
        ended = weir("query", "select 1", url=url)
    assert ended.returncode == exit_
    assert ended.stdout == b""
    [line] = ended.stderr.decode().splitlines()
    assert line.startswith("weir lake query: ")
    assert said in line


def test_a_platform_that_is_not_there_is_unreachable_and_a_key_that_is_not_there_is_named() -> None:
    for words in (["tables"], ["schema", "x"], ["query", "x"], ["drop", "x"], ["status"]):
        gone = weir(*words)
        assert (gone.returncode, gone.stdout) == (Exit.UNREACHABLE, b"")
        assert b"cannot be reached" in gone.stderr
        keyless = weir(*words, key="")
        assert keyless.returncode == Exit.NOT_AUTHORISED
        assert b"WEIR_API_KEY" in keyless.stderr
    assert weir("tables", key="a\nb").returncode == Exit.NOT_AUTHORISED
    for url in ("ftp://x", "http://", "http://x:y", "http://[::1"):
        assert weir("tables", url=url).returncode == Exit.USAGE, url


def test_what_is_not_understood_is_a_matter_of_usage(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    for words in (
        [],
        ["nothing"],
        ["query"],
        ["query", " "],
        ["query", "x", "--max-rows", "0"],
        ["query", "x", "--max-rows", "many"],
        ["query", "x", "--output", "xml"],
        ["import", str(tmp_path / "none.csv")],
        ["import", str(tmp_path / "notes.txt")],
        ["import", str(tmp_path)],
    ):
        ended = weir(*words)
        assert ended.returncode == Exit.USAGE, words
        assert b"Traceback" not in ended.stderr


def test_an_answer_that_breaks_off_is_no_success() -> None:
    with platform(lambda request: request.reply(200, b"a,b\n1,2\n", length=500)) as (url, _):
        ended = weir("query", "select 1", url=url)
    assert ended.returncode == Exit.UNREACHABLE
    assert b"not whole" in ended.stderr


def test_a_query_is_read_from_standard_input_and_sent_as_it_stands() -> None:
    with platform(lambda request: request.reply(200, b"x\n1\n")) as (url, asked):
        ended = weir("query", "-", "--max-rows", "7", url=url, input="select 'é'\n".encode())
    assert (ended.returncode, ended.stdout) == (0, b"x\n1\n")
    [(method, path, body, headers)] = asked
    assert (method, path) == ("POST", "/v1/context-lake/sql")
    assert json.loads(body) == {"query": "select 'é'\n", "maxRows": 7}
    assert headers["Authorization"] == "Bearer bb_x"
    assert headers["Accept"] == "text/csv"


def test_json_is_one_array_however_many_rows_come() -> None:
    for lines, rows in ((b"", []), (b'{"a":1}\n', [{"a": 1}]), (b'{"a":1}\n{"a":2}\n', [{"a": 1}, {"a": 2}])):
        with platform(lambda request, lines=lines: request.reply(200, lines)) as (url, _):
            ended = weir("query", "x", "--output", "json", url=url)
        assert json.loads(ended.stdout) == rows


def test_a_table_that_was_cut_says_so() -> None:
    body = {
        "rows": [{"a": 1}],
        "schema": [{"name": "a"}],
        "rowCount": 1,
        "truncated": True,
        "durationMs": 1.0,
    }
    with platform(lambda request: request.reply(200, body)) as (url, _):
        ended = weir("query", "x", "--output", "table", url=url)
    assert ended.stdout == b"a\n-\n1\n"
    assert b"only the first 1 rows" in ended.stderr


def test_a_reader_who_leaves_ends_it_quietly() -> None:
    with platform(lambda request: request.reply(200, b"x\n" + b"1\n" * 2_000_000)) as (url, _):
        environment = {"PYTHONPATH": f"{ROOT / 'services'}:{ROOT / 'shared'}"} | {
            "WEIR_URL": url,
            "WEIR_API_KEY": "bb_x",
            "PATH": os.environ["PATH"],
        }
        line = f"{sys.executable} -m weir lake query x | head -1; exit ${{PIPESTATUS[0]}}"
        ended = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"x\n", b"")


def test_an_upload_that_is_refused_at_once_is_not_sent_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "big.csv"
    with file.open("wb") as stream:
        stream.truncate(2 * 1024**3)

    def refuse(request: StandIn) -> None:
        request.reply(413, {"error": "A file to import is at most 1024 MiB", "code": "payload_too_large"})

    class Early(StandIn):
        def serve(self) -> None:
            type(self).answer(self)
            # As a server that reads on and throws away.
            self.connection.settimeout(5)
            taken = 0
            with contextlib.suppress(OSError):
                while piece := self.connection.recv(1 << 20):
                    taken += len(piece)
            self.asked.append(taken)

        do_POST = serve

    asked: list[Any] = []
    handler = type("Handler", (Early,), {"answer": staticmethod(refuse), "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        ended = weir("import", str(file), url=f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
    assert ended.returncode == Exit.REFUSED, ended.stderr
    assert b"at most 1024 MiB" in ended.stderr
    assert asked[0] < 512 * 1024**2
