"""Iceberg tables by a REST catalog: a fake one on loopback that knows the two routes reading needs; S3 is moto's."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import boto3
import pytest

from weir.lake_runtime.settings import RuntimeSettings
from weir.lake_runtime.sources.iceberg import _s3_properties
from weir.lake_runtime.wire import Dataset

from .conftest import Lakes
from .test_iceberg import ROWS, endpoint, write_iceberg  # noqa: F401 - a fixture

TOKEN, CREDENTIAL = "tok-never-to-be-seen", "engine:client-secret-never-seen"
PATH = "/catalog/v1/wh%2Fone/namespaces/shop%1Feu/tables/orders"


class Catalog:
    """What the fake catalog answers, and what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.answer: Any = {}
        self.status = 200
        self.asked: list[tuple[str, str, dict[str, str], str]] = []

    def table(self, **options: Any) -> dict[str, Any]:
        name = options.pop("name", "t")
        options = {"allow_http": "true", **options}
        return {"name": name, "connector": "iceberg", "location": self.url + PATH, "options": options}

    def paths(self) -> list[str]:
        return [path for _, path, _, _ in self.asked]


@pytest.fixture
def catalog() -> Iterator[Catalog]:
    catalog = Catalog()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            catalog.asked.append((self.command, self.path, headers, body))
            if self.path.endswith("/oauth/tokens"):
                form = parse_qs(body)
                client, _, secret = CREDENTIAL.partition(":")
                is_known = (form["client_id"], form["client_secret"]) == ([client], [secret])
                self.say(200, {"access_token": TOKEN}) if is_known else self.say(
                    401, {"error": "invalid_client"}
                )
            elif headers.get("authorization") != f"Bearer {TOKEN}":
                self.say(401, {"error": {"message": f"no such token {headers.get('authorization')}"}})
            else:
                self.say(catalog.status, catalog.answer)

        do_POST = do_GET

        def say(self, status: int, answer: Any) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("location", "http://169.254.169.254/")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    catalog.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield catalog
    server.shutdown()
    server.server_close()


@pytest.fixture
def stored(catalog: Catalog, endpoint: str) -> dict[str, Any]:  # noqa: F811
    """A table in S3 that the catalog knows; the keys and the store's address are lent."""
    keys = {"aws_access_key_id": "root", "aws_secret_access_key": "root-secret"}
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys).create_bucket(Bucket="lake")
    lent = {"s3.endpoint": endpoint, "s3.access-key-id": "root", "s3.secret-access-key": "root-secret"}
    path = write_iceberg("s3://lake/i", ROWS, ROWS.slice(0, 1), **lent, **{"s3.region": "us-east-1"})
    metadata = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys).get_object(
        Bucket="lake", Key=path.removeprefix("s3://lake/")
    )
    # What else a catalog might say is not heard.
    hostile = {"uri": "http://169.254.169.254", "py-io-impl": "os.system", "rest.sigv4-enabled": "true"}
    catalog.answer = {
        "metadata-location": path,
        "metadata": json.loads(metadata["Body"].read()),
        "config": {**lent, **hostile},
    }
    return lent


@pytest.mark.usefixtures("stored")
async def test_a_table_of_a_catalog_is_read_with_the_keys_that_it_lends(
    lakes: Lakes, catalog: Catalog
) -> None:
    lake = await lakes.start()
    await lake.configure(catalog.table(token=TOKEN))
    assert await lake.rows("select count(*) as n from t") == [{"n": 4}]
    assert await lake.rows("select a, b from t where a > 1 and n = 2.5") == [{"a": 2, "b": "it's"}]
    assert await lake.rows("select d from t order by a limit 1") == [{"d": "2024-01-01"}]
    method, path, headers, _ = catalog.asked[0]
    assert (method, path) == ("GET", PATH)
    assert headers["x-iceberg-access-delegation"] == "vended-credentials"


@pytest.mark.usefixtures("stored")
async def test_a_token_is_got_for_a_clients_secret(lakes: Lakes, catalog: Catalog) -> None:
    lake = await lakes.start()
    await lake.configure(
        catalog.table(oauth2_credential=CREDENTIAL, oauth2_scope="PRINCIPAL_ROLE:ALL"),
        catalog.table(
            name="elsewhere",
            oauth2_credential=CREDENTIAL,
            oauth2_server_url=f"{catalog.url}/idp/oauth/tokens",
        ),
    )
    assert await lake.rows("select max(a) as m from t") == [{"m": 3}]
    assert await lake.rows("select max(a) as m from elsewhere") == [{"m": 3}]
    assert {"/catalog/v1/oauth/tokens", "/idp/oauth/tokens"} <= set(catalog.paths())
    forms = [parse_qs(body) for _, path, _, body in catalog.asked if path == "/catalog/v1/oauth/tokens"]
    assert forms[0]["grant_type"] == ["client_credentials"]
    assert forms[0]["scope"] == ["PRINCIPAL_ROLE:ALL"]


@pytest.mark.usefixtures("stored")
async def test_a_catalog_that_refuses_or_is_dead_is_told_without_its_secrets(
    lakes: Lakes, catalog: Catalog
) -> None:
    dead = {**catalog.table(name="dead", token=TOKEN), "location": f"http://127.0.0.1:1{PATH}"}
    lake = await lakes.start()
    await lake.configure(
        catalog.table(name="stranger"),
        catalog.table(name="wrong", token="wrong-token-not-seen"),
        catalog.table(name="client", oauth2_credential="engine:bad-secret-not-seen"),
        catalog.table(name="insecure", token=TOKEN, allow_http="false"),
        dead,
    )
    tables = await lake.tables()
    for name, reason in {
        "stranger": "does not accept the credentials (401)",
        "wrong": "does not accept the credentials (401)",
        "client": "no token was given",
        "insecure": "needs allow_http",
        "dead": "could not be asked: Connection refused",
    }.items():
        assert tables[name]["status"] == "error", name
        assert reason in tables[name]["error"]["message"], (name, tables[name]["error"])
    assert "not-seen" not in str(tables)
    assert TOKEN not in str(tables)


@pytest.mark.parametrize(
    ("status", "answer", "reason"),
    [
        (
            404,
            {"error": {"message": "Table does not exist: shop.orders"}},
            "no such table (404): Table does not",
        ),
        (403, {"error": {"message": "denied"}}, "does not let these credentials read the table (403)"),
        (500, "oops", "the catalog answered 500"),
        (302, {}, "the catalog answered 302"),
        (200, {"config": {}}, "the catalog's answer is not a table"),
        (200, {"metadata": {"format-version": 2}}, ""),
        (200, [], "the catalog's answer is not a table"),
    ],
)
async def test_an_answer_that_is_no_table_is_told(
    lakes: Lakes, catalog: Catalog, status: int, answer: Any, reason: str
) -> None:
    catalog.status, catalog.answer = status, answer
    lake = await lakes.start()
    await lake.configure(catalog.table(token=TOKEN))
    told = (await lake.tables())["t"]
    assert told["status"] == "error"
    assert reason in told["error"]["message"]


@pytest.mark.usefixtures("stored")
async def test_a_catalog_reaches_no_file_and_no_address_of_its_choice(lakes: Lakes, catalog: Catalog) -> None:
    whole = catalog.answer
    local = write_iceberg(str(lakes.imports / "i"), ROWS)
    metadata = json.loads(Path(local).read_text())
    lake = await lakes.start()
    catalog.answer = {"metadata-location": local, "metadata": metadata}
    await lake.configure(catalog.table(token=TOKEN))
    status, answer = await lake.sql("select * from t")
    assert (status, answer["dataset"]) == (502, "t")
    assert "path_not_allowed" in answer["error"]
    catalog.answer = {**whole, "config": {**whole["config"], "s3.endpoint": "http://169.254.169.254"}}
    strict = await lakes.start(allowPrivate=False)
    await strict.configure(catalog.table(token=TOKEN))
    assert "not a public address" in (await strict.tables())["t"]["error"]["message"]
    assert catalog.paths() == [PATH]  # the second was not asked at all


async def test_keys_that_are_lent_for_a_time_are_asked_for_again(
    lakes: Lakes,
    catalog: Catalog,
    stored: dict[str, Any],
) -> None:
    soon = str(round((time.time() + 302) * 1000))
    catalog.answer["config"] |= {"s3.session-token": "lent", "s3.session-token-expires-at-ms": soon}
    lake = await lakes.start()
    await lake.configure(catalog.table(token=TOKEN))
    assert await lake.rows("select max(a) as m from t") == [{"m": 3}]
    assert len(catalog.asked) == 1
    # Five minutes before its end, which is in two seconds.
    await asyncio.sleep(2.1)
    later = str(round((time.time() + 3600) * 1000))
    catalog.answer["config"]["s3.session-token-expires-at-ms"] = later
    assert await lake.rows("select min(a) as m from t") == [{"m": 1}]
    assert await lake.rows("select max(a) as m from t where a < 3") == [{"m": 2}]
    assert len(catalog.asked) == 2
    assert stored["s3.access-key-id"] == "root"


def test_a_datasets_own_keys_are_not_mixed_with_lent_ones(tmp_path: Path) -> None:
    settings = RuntimeSettings(
        tenant="t",
        epoch=1,
        secret="s",
        memory_limit_bytes=0,
        import_root=tmp_path,
        cache_dir=tmp_path,
        allow_private=True,
    )
    lent = {
        "s3.access-key-id": "lent",
        "s3.secret-access-key": "l",
        "s3.session-token": "l",
        "client.region": "eu",
    }
    own = {"s3_access_key_id": "own", "s3_secret_access_key": "o"}
    mine = Dataset(name="t", connector="iceberg", options=own)
    theirs = Dataset(name="t", connector="iceberg", options={})
    properties = _s3_properties(mine, settings, lent)
    assert properties["s3.access-key-id"] == "own"
    assert "s3.session-token" not in properties
    assert properties["s3.region"] == "eu"
    properties = _s3_properties(theirs, settings, lent)
    assert (properties["s3.access-key-id"], properties["s3.session-token"]) == ("lent", "l")
    assert _s3_properties(theirs, settings, {})["s3.anonymous"] == "true"


async def test_a_table_whose_catalog_tells_no_store_is_at_the_operators(
    lakes: Lakes, catalog: Catalog, stored: dict[str, Any]
) -> None:
    """The endpoint that the operator has set needs nobody's leave to be http, nor to be private."""
    catalog.answer["config"] = {k: v for k, v in stored.items() if k != "s3.endpoint"}
    lake = await lakes.start()
    await lake.configure(catalog.table(token=TOKEN, operator_s3_endpoint=stored["s3.endpoint"]))
    assert await lake.rows("select max(a) as m from t") == [{"m": 3}]


async def test_connecting_to_a_store_ends_when_it_may_take_no_longer(
    lakes: Lakes, catalog: Catalog, stored: dict[str, Any]
) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # Its queue is full: the next to connect waits.
        waiting = [socket.socket() for _ in range(4)]
        for line in waiting:
            line.setblocking(False)
            line.connect_ex(full.getsockname())
        catalog.answer["config"] = {**stored, "s3.endpoint": f"http://127.0.0.1:{full.getsockname()[1]}"}
        lake = await lakes.start()
        await lake.configure(catalog.table(token=TOKEN, s3_connect_timeout="300ms"))
        await lake.tables()
        started = time.monotonic()
        status, answer = await lake.sql("select max(a) as m from t", seconds=25)
        took = time.monotonic() - started
        for line in waiting:
            line.close()
    assert (status, answer["code"]) == (502, "source_error")
    assert took < 15
