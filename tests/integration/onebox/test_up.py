"""`weir up` from the outside: it starts, keeps its services, and leaves nothing behind."""

import asyncio
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio
from tests.integration.onebox.platforms import eventually, living

ALL = ("gateway", "context-lake", "agent-engine", "worker", "lake-host", "demo-model")


def test_everything_runs_and_answers_after_a_first_start(platform):
    weir = platform().ready()
    for name in ALL:
        eventually((weir.data_dir / f"{name}.pid").exists)
        eventually(lambda name=name: living({weir.service_pid(name)}))
    assert "seeding" in weir.output
    assert weir.output.index("postgres") < weir.output.index("migrations") < weir.output.index("gateway")


def test_services_are_told_where_everything_is(platform):
    weir = platform(CALLERS_OWN="kept").ready()
    told = weir.service_environment("gateway")
    assert told["WEIR_PORT"] == str(weir.port)
    assert told["CALLERS_OWN"] == "kept"
    assert told["WEIR_ALLOW_PRIVATE_ADDRESSES"] == "1"
    assert told["WEIR_LAKE_URL"].endswith(weir.service_environment("context-lake")["WEIR_PORT"])
    assert told["WEIR_ENGINE_URL"].endswith(weir.service_environment("agent-engine")["WEIR_PORT"])
    assert told["WEIR_DEMO_MODEL_URL"].endswith(weir.service_environment("demo-model")["WEIR_PORT"])

    async def use_both() -> tuple[str, bool, str]:
        connection = await asyncpg.connect(told["WEIR_DATABASE_URL"])
        client = redis.asyncio.from_url(told["WEIR_REDIS_URL"], decode_responses=True)
        answers = (
            await connection.fetchval("select lower('ÄPFEL')"),
            await client.set("a", 1),
            (await client.config_get("maxmemory-policy"))["maxmemory-policy"],
        )
        await connection.execute("create extension vector")
        await connection.close()
        await client.aclose()
        return answers

    assert asyncio.run(use_both()) == ("äpfel", True, "noeviction")


def test_without_demo_there_is_neither_model_nor_seeding(platform):
    weir = platform(WEIR_DEMO="0").ready()
    assert "demo-model" not in weir.output
    assert "seeding" not in weir.output


@pytest.mark.parametrize("name", ["worker", "gateway"])
def test_a_killed_service_is_started_again(platform, name):
    weir = platform().ready()
    eventually((weir.data_dir / f"{name}.pid").exists)
    first = weir.service_pid(name)
    os.kill(first, signal.SIGKILL)
    eventually(lambda: weir.service_pid(name) != first)
    assert f"{name} ended (SIGKILL); starting it again in 0.2 s" in weir.output


def test_a_killed_database_is_started_again_with_its_rows(platform):
    weir = platform().ready()
    postmaster = int((weir.data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGKILL)
    weir.await_output("postgres ended (SIGKILL)")
    assert _count_of_starts(weir) == 1


@pytest.mark.parametrize("to_the_group", [True, False], ids=["group", "leader"])
def test_sigterm_leaves_no_process_and_says_so(platform, to_the_group):
    weir = platform().ready()
    family = weir.descendants()
    assert len(family) > len(ALL) + 2
    began = time.monotonic()
    (os.killpg if to_the_group else os.kill)(weir.process.pid, signal.SIGTERM)
    assert weir.end() == 0
    assert time.monotonic() - began < 5
    assert not living(family)
    assert weir.output.endswith("weir stopped\n")
    assert "starting it again" not in weir.output
    assert "database system is shut down" in (weir.data_dir / "logs" / "postgres.log").read_text()


@pytest.mark.parametrize("seconds", [0.4, 0.7, 1.0, 1.4])
def test_sigterm_while_starting_leaves_no_process_and_the_next_start_works(platform, seconds):
    weir = platform()
    time.sleep(seconds)
    family = weir.descendants()
    os.killpg(weir.process.pid, signal.SIGTERM)
    weir.end()
    assert not living(family)
    platform().ready()


def test_sigkill_of_the_leader_leaves_no_process_and_no_row_is_lost(platform):
    weir = platform().ready()
    family = weir.descendants()
    grandchild = {pid for pid in family if _command_of(pid).startswith("sleep")}
    os.kill(weir.process.pid, signal.SIGKILL)
    weir.end()
    again = platform()
    again.await_output("start number 2")
    assert not living(family - grandchild)
    for pid in grandchild:  # what a service starts must see to its own end when all of us are killed
        os.kill(pid, signal.SIGKILL)


def test_sigkill_of_everything_loses_no_row(platform):
    weir = platform().ready()
    weir.kill_everything()
    platform().await_output("start number 2")


def test_a_lock_file_that_names_a_stranger_is_no_obstacle(platform):
    weir = platform().ready()
    weir.kill_everything()
    lock = weir.data_dir / "postgres" / "postmaster.pid"
    # Of the same user, else Postgres itself would see that it is none of its own.
    owner = lock.stat().st_uid
    with subprocess.Popen(["sleep", "60"], user=owner) as stranger:
        lock.write_text(lock.read_text().replace(lock.read_text().split()[0], str(stranger.pid), 1))
        platform().await_output("start number 2")
        stranger.kill()


def test_a_second_ctrl_c_ends_a_stubborn_service_at_once(platform):
    weir = platform(STAND_IN_STUBBORN="worker").ready()
    eventually((weir.data_dir / "worker.pid").exists)
    family = weir.descendants()
    weir.process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert weir.process.poll() is None
    weir.process.send_signal(signal.SIGINT)
    assert weir.end(5) == 0
    assert not living(family)


def test_a_service_that_cannot_start_stops_the_platform_with_its_last_words(platform):
    weir = platform(STAND_IN_BROKEN="worker")
    assert weir.end() == 1
    assert (
        "worker ended 5 times while starting (exit code 1: ValueError: worker is broken on purpose)"
        in weir.output
    )


def test_a_taken_port_is_said_before_anything_starts(platform):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        weir = platform(port=str(port))
        assert weir.end() == 1
    assert weir.output == f"weir: Port {port} is in use; stop the other process or set WEIR_PORT.\n"
    assert not weir.data_dir.exists()


def test_a_second_weir_on_the_same_data_is_refused_and_the_first_goes_on(platform):
    first = platform().ready()
    second = platform()
    assert second.end() == 1
    assert f"is in use by another weir (process {first.process.pid})" in second.output
    assert _count_of_starts(first) == 1


def test_two_weirs_run_side_by_side(platform, tmp_path):
    weirs = [platform(tmp_path / name) for name in ("one", "two", "three")]
    for weir in weirs:
        weir.ready()
        assert "start number 1" in weir.output
    assert [weir.stop() for weir in weirs] == [0, 0, 0]


def test_data_is_there_after_a_restart(platform):
    weir = platform().ready()
    assert weir.stop() == 0
    platform().await_output("start number 2")


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("WEIR_DATABASE_URL", "postgresql://someone:hidden@127.0.0.1:9/weir"),
        ("WEIR_REDIS_URL", "redis://:hidden@127.0.0.1:9/0"),
    ],
)
def test_a_given_server_that_does_not_answer_is_named_without_its_password(platform, variable, url):
    weir = platform(**{variable: url})
    assert weir.end() == 1
    assert f"weir: {variable}: the server at 127.0.0.1:9 cannot be reached" in weir.output
    assert "hidden" not in weir.output


def test_given_servers_are_used_and_not_stopped(platform, tmp_path):
    lender = platform(tmp_path / "lender").ready()
    lent = lender.service_environment("gateway")
    weir = platform(
        tmp_path / "borrower",
        WEIR_DATABASE_URL=lent["WEIR_DATABASE_URL"],
        WEIR_REDIS_URL=lent["WEIR_REDIS_URL"],
    ).ready()
    assert "start number 2" in weir.output
    assert weir.stop() == 0
    assert not (tmp_path / "borrower" / "postgres").exists()
    assert _count_of_starts(lender) == 2


def test_a_failed_migration_is_one_sentence(platform):
    weir = platform(MIGRATION_FAILS="1")
    assert weir.end() == 1
    assert (
        "weir: The database migrations failed: migration 0001 is wrong. The whole trace is in" in weir.output
    )
    assert "Traceback" not in weir.output


@pytest.mark.parametrize("name", ["run", "logs", "postgres", "valkey"])
def test_a_file_where_a_directory_belongs_is_one_sentence(platform, tmp_path, name):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).write_text("x")
    weir = platform(tmp_path / "data")
    assert weir.end() == 1
    assert f"data/{name}" in weir.output.splitlines()[-1]
    assert "Traceback" not in weir.output


def test_a_long_data_directory_has_short_sockets(platform, tmp_path):
    weir = platform(tmp_path / ("long" * 30)).ready()
    path = weir.service_environment("lake-host")["WEIR_LAKE_HOST_SOCKET"]
    assert len(path) < 107


def _count_of_starts(weir) -> int:
    async def count() -> int:
        connection = await asyncpg.connect(weir.service_environment("gateway")["WEIR_DATABASE_URL"])
        try:
            return await connection.fetchval("select count(*) from starts")
        finally:
            await connection.close()

    for _ in range(100):
        try:
            return asyncio.run(count())
        except (OSError, asyncpg.PostgresError):
            time.sleep(0.1)
    raise AssertionError("the database did not come back")


def _command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
