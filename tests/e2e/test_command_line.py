"""`weir lake` as a person and as a script use it, on a platform that was started as its user would."""

import csv
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.starting import ROOT, StartedPlatform

LAKE = "/v1/context-lake"
FLIGHTS = 336_776


class Terminal:
    """A command with a terminal of its own for standard error, and for standard output where asked."""

    def __init__(self, command: list[str], environment: dict[str, str], *, output: bool) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            command, env=environment, stdout=slave if output else subprocess.PIPE, stderr=slave, stdin=slave
        )
        os.close(slave)
        self.shown = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait(self, within: float = 60) -> int:
        code = self.process.wait(within)
        self._reader.join(5)
        return code

    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.shown.decode(errors="replace"))

    def _read(self) -> None:
        while True:
            select.select([self._master], [], [])
            try:
                piece = os.read(self._master, 65536)
            except OSError:
                return
            if not piece:
                return
            self.shown += piece


class Weir:
    """The command line of one caller."""

    def __init__(self, platform: StartedPlatform, key: str) -> None:
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT / 'services'}:{ROOT / 'shared'}",
            "WEIR_URL": platform.url,
            "WEIR_API_KEY": key,
            "TERM": "xterm-256color",
            "COLUMNS": "120",
        }

    def __call__(self, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(words),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **more,
        )

    def terminal(self, *words: str, output: bool = False) -> Terminal:
        return Terminal(self._command(words), self.environment, output=output)

    def _command(self, words: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "weir", "lake", *words]


@pytest.fixture(params=["token", "session"])
def weir(platform: StartedPlatform, admin: httpx.Client, request: pytest.FixtureRequest) -> Weir:
    if request.param == "session":
        return Weir(platform, platform.session()["Authorization"].removeprefix("Bearer "))
    return Weir(platform, token(admin))


@pytest.fixture
def table() -> Iterator[str]:
    yield f"t_{uuid.uuid4().hex[:8]}"


def token(admin: httpx.Client, *scopes: str) -> str:
    body = {"name": uuid.uuid4().hex, "scopes": scopes or ["lake:read", "lake:query", "lake:write"]}
    return admin.post("/api/v1/auth/tokens", json=body).json()["token"]


def test_a_file_is_imported_asked_and_dropped(weir: Weir, table: str, tmp_path: Path) -> None:
    file = tmp_path / f"{table}.csv"
    file.write_text("town,people\nOslo,709000\n東京,\n", encoding="utf-8")
    made = weir("import", str(file))
    assert (made.returncode, made.stderr) == (0, f"{table}: 2 rows from {table}.csv\n")
    assert made.stdout == "name,type,nullable\ntown,string,true\npeople,int64,true\n"
    again = weir("import", str(file))
    assert (again.returncode, again.stdout) == (1, "")
    assert "name_conflict" in again.stderr
    assert weir("import", str(file), "--replace", "--output", "json").returncode == 0
    asked = weir("query", f"select * from {table} order by town")
    assert list(csv.reader(io.StringIO(asked.stdout))) == [
        ["town", "people"],
        ["Oslo", "709000"],
        ["東京", ""],
    ]
    shown = weir("query", f"select * from {table} order by town", "--output", "table")
    assert shown.stdout.splitlines() == ["town  people", "----  ------", "Oslo  709000", "東京    NULL"]
    rows = weir("query", "-", "--output", "json", input=f"select * from {table} order by town")
    assert json.loads(rows.stdout) == [{"town": "Oslo", "people": 709000}, {"town": "東京", "people": None}]
    assert f"{table},dataset,import,private,\n" in weir("tables").stdout
    assert json.loads(weir("schema", table.upper(), "--output", "json").stdout)[0]["name"] == "town"
    assert weir("drop", table).returncode == 0
    gone = weir("drop", table)
    assert (gone.returncode, gone.stderr) == (
        1,
        f"weir lake drop: There is no table '{table}' (not_found)\n",
    )


def test_a_script_gets_every_row_and_a_person_what_fits(
    platform: StartedPlatform, admin: httpx.Client
) -> None:
    weir = Weir(platform, token(admin))
    whole = weir("query", "select origin from flights")
    assert whole.stdout.count("\n") == FLIGHTS + 1
    shown = weir("query", "select origin from flights", "--output", "table", "--max-rows", "5")
    assert (shown.returncode, len(shown.stdout.splitlines())) == (0, 7)
    assert "only the first 5 rows" in shown.stderr
    assert len(json.loads(weir("query", "select origin from flights", "--output", "json").stdout)) == FLIGHTS


def test_a_key_without_the_scope_is_told_apart(platform: StartedPlatform, admin: httpx.Client) -> None:
    reader = Weir(platform, token(admin, "lake:read"))
    assert reader("tables").returncode == 0
    refused = reader("query", "select 1")
    assert (refused.returncode, refused.stdout) == (4, "")
    assert Weir(platform, "bb_" + "0" * 64)("tables").returncode == 4


def test_a_wrong_statement_is_one_line_with_its_code(platform: StartedPlatform, admin: httpx.Client) -> None:
    wrong = Weir(platform, token(admin))("query", "select * from nowhere")
    assert wrong.returncode == 1
    [line] = wrong.stderr.splitlines()
    assert line.endswith("(sql_error)")


def test_a_terminal_has_a_bar_for_an_import_and_a_pipe_has_none(
    platform: StartedPlatform, admin: httpx.Client, table: str, tmp_path: Path
) -> None:
    weir = Weir(platform, token(admin))
    file = tmp_path / f"{table}.csv"
    file.write_text("a,b\n" + "1,some text that makes it long\n" * 1_500_000)
    run = weir.terminal("import", str(file))
    assert run.wait() == 0, run.text()
    assert "MiB" in run.text()
    assert "━" in run.text()
    assert "reading it through" in run.text()
    assert f"{table}: 1500000 rows" in run.text()
    assert "━" not in weir("import", str(file), "--replace").stderr
    weir("drop", table)


def test_a_terminal_has_a_bar_while_the_lake_wakes(platform: StartedPlatform, admin: httpx.Client) -> None:
    weir = Weir(platform, token(admin))
    admin.post(f"{LAKE}/stop", params={"force": "true", "wait": "20"})
    until = time.monotonic() + 20
    while admin.get(f"{LAKE}/status").json()["vmStatus"] != "paused":
        assert time.monotonic() < until
        time.sleep(0.1)
    cold = weir.terminal("query", "select count(*) as n from flights", output=True)
    assert cold.wait() == 0, cold.text()
    assert "waking the lake" in cold.text()
    assert str(FLIGHTS) in cold.text()
    warm = weir.terminal("query", "select count(*) as n from flights", output=True)
    assert warm.wait() == 0
    assert "waking" not in warm.text()
    assert "1 rows in" in warm.text()


def test_ctrl_c_ends_the_command_and_the_query_behind_it(
    platform: StartedPlatform, admin: httpx.Client
) -> None:
    weir = Weir(platform, token(admin))
    assert weir("query", "select 1").returncode == 0
    mark = uuid.uuid4().hex
    slow = f"select count(*) as n from flights a, flights b where a.dep_delay + b.dep_delay > 1 and '{mark}' <> ''"
    run = weir.terminal("query", slow)
    time.sleep(2.5)
    assert run.process.poll() is None, run.text()
    run.process.send_signal(signal.SIGINT)
    assert run.wait(10) == 130
    assert "interrupted" in run.text()
    history = f"select error_message from runtime.task_history where input like '%{mark}%' and input not like '%task_history%'"
    until = time.monotonic() + 20
    while True:
        rows = admin.post(
            f"{LAKE}/sql", json={"query": history}, headers={"Cache-Control": "no-cache"}
        ).json()
        if rows.get("rows"):
            break
        assert time.monotonic() < until, rows
        time.sleep(0.2)
    assert "left" in rows["rows"][0]["error_message"]


def test_the_state_of_the_lake_is_shown(platform: StartedPlatform, admin: httpx.Client) -> None:
    weir = Weir(platform, token(admin))
    until = time.monotonic() + 30
    while True:
        # A query that was left just now may still cost the runtime its process; the next one brings it back.
        weir("query", "select 1")
        shown = weir("status", "--output", "table").stdout
        told = json.loads(weir("status", "--output", "json").stdout)
        if shown.startswith("runtime: running") and told["vmStatus"] == "running":
            break
        assert time.monotonic() < until, (shown, told)
    assert "flights" in shown
    assert "flights" in told["datasets"]
