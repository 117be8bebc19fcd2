"""Datasets of every connector that can be served here, added through the desk and asked through `POST /sql`."""

import sqlite3
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import boto3
import duckdb
import pyarrow as pa
import pyarrow.feather as feather
import pymysql
import pytest
from deltalake import write_deltalake
from tests.integration.lake_runtime.test_iceberg import write_iceberg

ROWS = [{"id": 1, "name": "Alice"}, {"id": 2, "name": "Chloé"}, {"id": 3, "name": None}]
SECRET = "hunter2-not-to-be-seen"


class Orders:
    """A Postgres database with a table, and what its server was asked."""

    def __init__(self, dsn: str, connection: asyncpg.Connection) -> None:
        self.dsn = dsn
        self.connection = connection

    def params(self, **changes: Any) -> dict[str, Any]:
        url = urlsplit(self.dsn)
        params = {
            "pg_host": url.hostname,
            "pg_port": url.port,
            "pg_db": url.path[1:],
            "pg_user": url.username,
            "pg_sslmode": "disable",
        }
        if url.password:
            params["pg_pass"] = url.password
        return {name: value for name, value in (params | changes).items() if value is not None}

    async def asked(self) -> list[str]:
        rows = await self.connection.fetch(
            "select query from pg_stat_activity where application_name = 'weir' and datname = current_database()"
        )
        return [row["query"] for row in rows]


@pytest.fixture
async def orders(postgres_dsn: str) -> AsyncIterator[Orders]:
    name = f"orders_{uuid.uuid4().hex[:12]}"
    server = await asyncpg.connect(postgres_dsn)
    await server.execute(f'create database "{name}"')
    dsn = f"{postgres_dsn.rpartition('/')[0]}/{name}"
    connection = await asyncpg.connect(dsn)
    await connection.execute('create schema "a.b"')
    await connection.execute('create table "a.b"."Orders" (id bigint, name text)')
    await connection.executemany(
        'insert into "a.b"."Orders" values ($1, $2)', [(row["id"], row["name"]) for row in ROWS]
    )
    yield Orders(dsn, connection)
    await connection.close()
    await server.execute(f'drop database "{name}" with (force)')
    await server.close()


@pytest.fixture
def folder(caller: Any) -> Path:
    """The caller's own folder in the import directory."""
    path: Path = caller.imports / caller.tenant_id
    path.mkdir(parents=True, exist_ok=True)
    return path


class TestPostgres:
    async def test_a_table_is_queried_and_its_filter_is_the_servers_work(
        self, caller: Any, orders: Orders
    ) -> None:
        await caller.add("orders", 'postgres:"a.b".Orders', params=orders.params())
        assert await caller.rows("select * from orders order by id") == ROWS
        assert await caller.rows("select name from orders where id = 2") == [{"name": "Chloé"}]
        asked = await orders.asked()
        assert any("WHERE" in query and "2" in query.partition("WHERE")[2] for query in asked), asked

    async def test_a_connection_string_is_kept_as_a_secret_and_used(
        self, caller: Any, orders: Orders
    ) -> None:
        params = {"pg_connection_string": f"{orders.dsn}?sslmode=disable"}
        added = await caller.add("orders", 'postgres:"a.b".Orders', params=params)
        assert added["dataset"]["params"] == {
            "pg_connection_string": "${secrets:ds.orders.pg_connection_string}"
        }
        assert await caller.rows("select count(*) as n from orders") == [{"n": 3}]

    async def test_the_database_may_stand_in_from(self, caller: Any, orders: Orders) -> None:
        database = urlsplit(orders.dsn).path[1:]
        params = orders.params(pg_db=None)
        await caller.add("orders", f'postgres:{database}."a.b".Orders', params=params)
        assert await caller.rows("select count(*) as n from orders") == [{"n": 3}]

    async def test_a_wrong_password_is_its_own_datasets_trouble_and_is_not_told(
        self, caller: Any, orders: Orders
    ) -> None:
        await caller.add("locked", 'postgres:"a.b".Orders', params=orders.params(pg_pass=SECRET))
        await caller.add("orders", 'postgres:"a.b".Orders', params=orders.params())
        assert len(await caller.rows("select * from orders")) == 3
        failed = await caller.sql("select * from locked")
        assert (failed.status_code, failed.json()["code"]) == (502, "source_error")
        assert "password" in failed.text
        status = await caller.http.get("/status")
        datasets = status.json()["datasets"]
        assert (datasets["locked"]["status"], datasets["orders"]["status"]) == ("error", "ready")
        shown = [await caller.http.get(path) for path in ("/datasets", "/config", "/datasets/locked")]
        assert not [answer for answer in (failed, status, *shown) if SECRET in answer.text]


class TestMySql:
    @pytest.fixture
    def people(self) -> Iterator[str]:
        """A database of this test with a table `people`."""
        try:
            connection = pymysql.connect(
                host="127.0.0.1", port=3306, user="root", password="", autocommit=True
            )
        except pymysql.err.OperationalError as error:
            pytest.skip(f"no MySQL server answers on 127.0.0.1:3306: {error}")
        name = f"weir_{uuid.uuid4().hex[:12]}"
        with connection.cursor() as cursor:
            cursor.execute(f"create database {name} character set utf8mb4")
            cursor.execute(f"create table {name}.people (id bigint, name varchar(20))")
            cursor.executemany(
                f"insert into {name}.people values (%s, %s)", [(row["id"], row["name"]) for row in ROWS]
            )
            yield name
            cursor.execute(f"drop database {name}")
        connection.close()

    async def test_a_table_is_queried(self, caller: Any, people: str) -> None:
        params = {
            "mysql_host": "127.0.0.1",
            "mysql_tcp_port": 3306,
            "mysql_user": "root",
            "mysql_sslmode": "disabled",
        }
        await caller.add("people", f"mysql:{people}.people", params=params)
        await caller.add("again", "mysql:people", params=params | {"mysql_db": people})
        assert await caller.rows("select * from people order by id") == ROWS
        assert await caller.rows("select name from again where id = 2") == [{"name": "Chloé"}]

    async def test_a_wrong_password_is_its_own_datasets_trouble_and_is_not_told(
        self, caller: Any, people: str
    ) -> None:
        url = f"mysql://root:{SECRET}@127.0.0.1:3306/{people}"
        params = {"mysql_connection_string": url, "mysql_sslmode": "disabled"}
        await caller.add("locked", "mysql:people", params=params)
        await caller.add(
            "people",
            f"mysql:{people}.people",
            params={"mysql_host": "127.0.0.1", "mysql_user": "root", "mysql_sslmode": "disabled"},
        )
        assert len(await caller.rows("select * from people")) == 3
        failed = await caller.sql("select * from locked")
        assert failed.status_code == 502
        assert SECRET not in failed.text
        assert SECRET not in (await caller.http.get("/status")).text


class TestDatabaseFiles:
    async def test_a_table_of_an_sqlite_file_is_queried(self, caller: Any, folder: Path) -> None:
        with closing(sqlite3.connect(folder / "people.db")) as connection:
            connection.execute('create table "people.all" (id integer, name text)')
            connection.executemany('insert into "people.all" values (:id, :name)', ROWS)
            connection.commit()
        # Once by a path in the import directory, once by the whole path.
        path = f"{caller.tenant_id}/people.db"
        await caller.add("people", 'sqlite:"people.all"', params={"sqlite_open": path})
        await caller.add(
            "again", 'sqlite:main."people.all"', params={"sqlite_open": str(folder / "people.db")}
        )
        assert await caller.rows("select * from people order by id") == ROWS
        assert await caller.rows("select name from again where id = 2") == [{"name": "Chloé"}]

    async def test_a_table_of_a_duckdb_file_is_queried(self, caller: Any, folder: Path) -> None:
        with closing(duckdb.connect(str(folder / "people.duckdb"))) as connection:
            connection.execute("create schema s; create table s.people (id bigint, name varchar)")
            connection.executemany(
                "insert into s.people values (?, ?)", [(row["id"], row["name"]) for row in ROWS]
            )
        path = f"{caller.tenant_id}/people.duckdb"
        await caller.add("people", "duckdb:s.people", params={"duckdb_open": path})
        assert await caller.rows("select * from people order by id") == ROWS


class TestLakeTables:
    async def test_a_delta_table_is_queried(self, caller: Any, folder: Path) -> None:
        write_deltalake(folder / "people", pa.Table.from_pylist(ROWS))
        await caller.add("people", f"delta_lake:{caller.tenant_id}/people")
        await caller.add("again", f"delta_lake:{folder / 'people'}")
        assert await caller.rows("select * from people order by id") == ROWS
        assert await caller.rows("select name from again where id = 2") == [{"name": "Chloé"}]

    async def test_a_delta_table_in_s3_is_queried_with_its_own_keys(self, caller: Any, moto_url: str) -> None:
        keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s"}
        client = boto3.client("s3", endpoint_url=moto_url, region_name="us-east-1", **keys)
        client.create_bucket(Bucket="tables")
        options = {**keys, "aws_endpoint": moto_url, "aws_allow_http": "true", "aws_region": "us-east-1"}
        write_deltalake("s3://tables/people", pa.Table.from_pylist(ROWS), storage_options=options)
        # Once at the operator's endpoint, once at its own.
        await caller.add("people", "delta_lake:s3://tables/people", params=keys)
        own = {f"delta_lake_{name}": value for name, value in options.items()}
        added = await caller.add("again", "delta_lake:s3://tables/people", params=own)
        assert added["warnings"] == []
        assert await caller.rows("select * from people order by id") == ROWS
        assert await caller.rows("select name from again where id = 2") == [{"name": "Chloé"}]

    async def test_an_iceberg_table_is_queried_by_its_metadata_file(self, caller: Any, folder: Path) -> None:
        metadata = write_iceberg(str(folder / "people"), pa.Table.from_pylist(ROWS))
        params = {"iceberg_metadata_path": metadata}
        await caller.add("people", f"iceberg:{caller.tenant_id}/people", params=params)
        await caller.add("again", f"iceberg:{metadata}")
        assert await caller.rows("select * from people order by id") == ROWS
        assert await caller.rows("select count(*) as n from again") == [{"n": 3}]


class TestFiles:
    async def test_a_file_of_arrow_is_queried(self, caller: Any, folder: Path) -> None:
        feather.write_feather(
            pa.Table.from_pylist(ROWS), str(folder / "people.arrow"), compression="uncompressed"
        )
        await caller.add("people", f"file:{caller.tenant_id}/people.arrow")
        assert await caller.rows("select * from people order by id") == ROWS

    async def test_a_file_behind_a_url_is_queried(self, caller: Any, site: "Site") -> None:
        params = {"http_username": "reader", "http_password": "letmein"}
        await caller.add("people", f"{site.url}/people.csv?page=1", params=params)
        await caller.add("locked", f"{site.url}/people.csv", params=params | {"http_password": SECRET})
        await caller.add(
            "headed", f"{site.url}/people", params={"file_format": "csv", "http_headers": "X-Key: letmein"}
        )
        assert await caller.rows("select * from people order by id") == ROWS
        assert await caller.rows("select count(*) as n from headed") == [{"n": 3}]
        failed = await caller.sql("select * from locked")
        assert failed.status_code == 502
        assert SECRET not in failed.text
        status = await caller.status()
        assert {name: dataset["ok"] for name, dataset in status["datasets"].items()} == {
            "people": True,
            "headed": True,
            "locked": False,
        }


class Site:
    """A server of one file, for who says the password or the key."""

    url: str


@pytest.fixture
def site() -> Iterator[Site]:
    body = "id,name\n1,Alice\n2,Chloé\n3,\n".encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # reader:letmein
            is_known = self.headers.get("authorization") == "Basic cmVhZGVyOmxldG1laW4="
            is_known = is_known or self.headers.get("x-key") == "letmein"
            self.send_response(200 if is_known else 401)
            self.send_header("content-length", str(len(body) if is_known else 0))
            self.end_headers()
            if is_known:
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    site = Site()
    site.url = f"http://127.0.0.1:{server.server_port}"
    yield site
    server.shutdown()
    server.server_close()
