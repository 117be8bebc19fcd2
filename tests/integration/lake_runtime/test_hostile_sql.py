"""Nothing that a statement says reaches a file, a setting or another catalog."""

import hashlib
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from tests.promises import Promise

from .conftest import Lakes, RuntimeClient, dataset
from .hostile import statements

SECRET_TEXT = "TOPSECRET"


async def lake_beside_a_secret(lakes: Lakes) -> tuple[RuntimeClient, Path]:
    """A lake of one table, and a file that is in the import directory and in no dataset."""
    secret = lakes.file("secret.csv", f"a\n{SECRET_TEXT}\n")
    lake = await lakes.start()
    await lake.configure(dataset("t", lakes.file("t.csv", "a\n1\n")))
    await lake.tables()
    return lake, secret


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder with the hash of its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in folder.rglob("*")
        if not path.is_socket()
    }


@pytest.mark.promise("P11")
async def test_no_hostile_statement_is_accepted_and_no_file_changes(lakes: Lakes, promise: Promise) -> None:
    lake, secret = await lake_beside_a_secret(lakes)
    target = lakes.home / "written"
    before, pid = tree(lakes.home), lake.pid
    texts = [*statements(secret), *(text for text in statements(target) if str(target) in text)]
    accepted: list[str] = []
    for text in texts:
        status, body = await lake.sql(text)
        if status not in (400, 403) or not body.get("error") or SECRET_TEXT in str(body):
            accepted.append(f"{status} {text!r}: {body}")
    assert len(texts) >= 150
    assert accepted == []
    assert tree(lakes.home) == before
    assert await lake.rows("select * from t") == [{"a": 1}]
    assert lake.pid == pid
    promise.held(f"{len(texts)} hostile statements, 0 accepted, 0 of {len(before)} files changed")


async def test_a_local_path_is_no_table_though_its_directory_may_be_read(lakes: Lakes) -> None:
    lake, secret = await lake_beside_a_secret(lakes)
    assert await lake.rows("select count(*) as n from t") == [{"n": 1}]
    for path in (secret, Path("/etc/passwd"), "secret.csv", f"../{lakes.imports.name}/secret.csv"):
        for quoted in (f'"{path}"', f"'{path}'", f'"file://{path}"', f'public."{path}"'):
            status, body = await lake.sql(f"select * from {quoted}")
            assert (status, body["code"]) == (400, "sql_error"), body


@pytest.mark.promise("P12")
async def test_no_statement_and_no_dataset_reaches_the_metadata_service(
    lakes: Lakes, promise: Promise
) -> None:
    asked: list[str] = []
    tried = 0

    async def note(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(text="a\n1\n")

    canary = web.Application()
    canary.router.add_route("*", "/{rest:.*}", note)
    runner = web.AppRunner(canary)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        # A lake that may ask private addresses may still not ask this one; one that may not asks none.
        closed, open_ = await lakes.start(allowPrivate=False), await lakes.start()
        for lake, hosts in (
            (closed, [f"127.0.0.1:{port}", f"localhost:{port}", "169.254.169.254", "[fd00:ec2::254]"]),
            (open_, ["169.254.169.254", "[fd00:ec2::254]"]),
        ):
            urls = [f"http://{host}/latest/meta-data/x.csv" for host in hosts]
            await lake.configure(
                *(
                    {"name": f"d{n}", "connector": "http", "from": url, "location": url, "format": "csv"}
                    for n, url in enumerate(urls)
                )
            )
            for n, url in enumerate(urls):
                status, body = await lake.sql(f"select * from d{n}", seconds=20)
                assert (status, body["code"]) == (502, "source_error"), body
                assert (await lake.sql(f'select * from "{url}"'))[0] == 400
                tried += 2
        assert asked == []
        # The canary does hear who is let through.
        url = f"http://127.0.0.1:{port}/x.csv"
        await open_.configure(
            {"name": "d", "connector": "http", "from": url, "location": url, "format": "csv"}, version=2
        )
        assert await open_.rows("select * from d") == [{"a": 1}]
        assert asked
        promise.held(f"{tried} datasets and statements that name a forbidden address: 0 connections")
    finally:
        await runner.cleanup()


async def test_odd_texts_and_parameters_are_answered_or_refused_and_never_an_error_of_ours(
    lake: RuntimeClient,
) -> None:
    for text in ("a\x00b", "\u202e", "\ufeff", "\U0001f600", "é" * 1000, "';--", "\\", "\x1b[31m", "\u2028"):
        assert await lake.rows("select $1 as v", parameters=[text]) == [{"v": text}]
        status, body = await lake.sql(text)
        assert (status, body["code"]) == (400, "sql_error"), body
        status, body = await lake.sql(f"select '{text}' as v")
        assert status in (200, 400), body
    for number in (2**63, 2**64, -(2**63) - 1, 10**40, 10**400):
        status, body = await lake.sql("select $1 as v", parameters=[number])
        assert status in (200, 400), body
        assert status == 400 or body["rows"] == [{"v": number}]
    nested: list[object] = []
    for _ in range(200):
        nested = [nested]
    for value in (nested, {"a": [1, "x"]}, [1, "x"], [[], [None]], {}):
        status, body = await lake.sql("select $1 as v", parameters=[value])
        assert status in (200, 400), body
    assert await lake.rows("select 1 as x") == [{"x": 1}]


async def test_a_file_that_unpacks_to_gigabytes_ends_in_a_clean_error_or_one_runtime(lakes: Lakes) -> None:
    import gzip

    import pyarrow as pa
    import pyarrow.parquet as pq

    # One value of 700 MiB behind 700 KB, in each format that packs.
    huge = b"x" * (700 * 1024 * 1024)
    bombs = [
        dataset("t", lakes.file("bomb.csv.gz", gzip.compress(b"a\n" + huge + b"\n", 1)), "csv"),
        dataset("t", lakes.file("bomb.json.gz", gzip.compress(b'{"a":"' + huge + b'"}\n', 1)), "json"),
    ]
    table = pa.table({"a": pa.array([huge.decode()], pa.large_string())})
    path = lakes.imports / "bomb.parquet"
    pq.write_table(table, path, compression="zstd", use_dictionary=False, write_statistics=False)
    del table
    bombs.append(dataset("t", path, "parquet"))
    neighbour = await lakes.start()
    await neighbour.configure()
    for epoch, bomb in enumerate(bombs):
        assert Path(bomb["location"]).stat().st_size < 8_000_000
        lake = await lakes.start(epoch=epoch + 1, memory=400 * 1024 * 1024)
        try:
            await lake.configure(bomb)
            status, body = await lake.sql("select max(length(a)) as n from t", seconds=20)
        except aiohttp.ClientError:
            assert (await lakes.host.exit_of(lake.pid))["reason"] in ("memory", "crash")
        else:
            assert status in (400, 502, 504), body
        assert await neighbour.rows("select 1 as x") == [{"x": 1}]
