"""Azure and Google stores, against a server on loopback that speaks the little of them that reading needs."""

import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import jwt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from .conftest import Lakes


class Cloud:
    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.url = ""
        self.slow: list[float] = []
        """How long the next answers wait."""


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    cloud = Cloud()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            cloud.asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
            if cloud.slow:
                time.sleep(cloud.slow.pop())
            _, _, key = unquote(url.path).lstrip("/").partition("/")
            if query.get("comp") == "list" or query.get("list-type"):
                self.answer(200, self.listing(query.get("prefix", "")), "application/xml")
            elif key in cloud.objects:
                self.send_object(cloud.objects[key])
            else:
                self.answer(404, b"")

        do_HEAD = do_GET

        def send_object(self, body: bytes) -> None:
            if match := re.match(r"bytes=(\d+)-(\d*)", self.headers.get("range") or ""):
                start, end = int(match[1]), int(match[2] or len(body) - 1)
                part = body[start : end + 1]
                self.answer(206, part, range=f"bytes {start}-{start + len(part) - 1}/{len(body)}")
            else:
                self.answer(200, body)

        def listing(self, prefix: str) -> bytes:
            keys = [key for key in cloud.objects if key.startswith(prefix)]
            date = "Tue, 02 Jan 2024 03:04:05 GMT"
            if "x-ms-version" in self.headers:
                blobs = "".join(
                    f"<Blob><Name>{k}</Name><Properties><Last-Modified>{date}</Last-Modified>"
                    f"<Content-Length>{len(cloud.objects[k])}</Content-Length><Content-Type>text/csv</Content-Type><Etag>e</Etag></Properties></Blob>"
                    for k in keys
                )
                return (
                    f"<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker/></EnumerationResults>".encode()
                )
            found = "".join(
                f"<Contents><Key>{k}</Key><Size>{len(cloud.objects[k])}</Size><ETag>e</ETag>"
                "<LastModified>2024-01-02T03:04:05.000Z</LastModified></Contents>"
                for k in keys
            )
            return f"<ListBucketResult>{found}</ListBucketResult>".encode()

        def answer(self, status: int, body: bytes, kind: str = "text/plain", range: str = "") -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.send_header("content-type", kind)
            self.send_header("last-modified", "Tue, 02 Jan 2024 03:04:05 GMT")
            self.send_header("etag", '"e"')
            if range:
                self.send_header("content-range", range)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    cloud.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield cloud
    server.shutdown()
    server.server_close()


def dataset(name: str, connector: str, location: str, **options: Any) -> dict[str, Any]:
    return {"name": name, "connector": connector, "format": "csv", "location": location, "options": options}


async def test_blobs_are_tables_each_with_its_own_credentials(lakes: Lakes, cloud: Cloud) -> None:
    cloud.objects = {"p/a.csv": b"a\n1\n", "p/b.csv": b"a\n2\n", "p/c.txt": b"no"}
    common = {"abfs_endpoint": cloud.url, "allow_http": "true"}
    lake = await lakes.start()
    await lake.configure(
        dataset("keyed", "abfs", "abfs://c@acc.dfs.core.windows.net/p", **common, abfs_access_key="c2VjcmV0"),
        dataset("public", "abfs", "abfs://c/p/a.csv", **common, abfs_account="acc"),
        dataset(
            "signed",
            "abfs",
            "az://c/p/b.csv",
            **common,
            abfs_account="acc",
            abfs_sas_string="?sv=1&sig=x%2By",
        ),
    )
    assert await lake.rows("select sum(a) as s from keyed") == [{"s": 3}]
    assert cloud.asked[-1][1]["authorization"].startswith("SharedKey acc:")
    assert await lake.rows("select a from public") == [{"a": 1}]
    assert "authorization" not in cloud.asked[-1][1]
    assert await lake.rows("select a from signed") == [{"a": 2}]
    assert "sig=x%2By" in cloud.asked[-1][0]


async def test_a_faulty_azure_dataset_says_why(lakes: Lakes, cloud: Cloud) -> None:
    common = {"abfs_endpoint": cloud.url, "allow_http": "true", "abfs_account": "acc"}
    lake = await lakes.start()
    await lake.configure(
        dataset("account", "abfs", "abfs://c/p"),
        dataset("two_accounts", "abfs", "abfs://c@one.dfs.core.windows.net/p", abfs_account="two"),
        dataset("two_secrets", "abfs", "abfs://c/p", **common, abfs_access_key="c2Vj", abfs_bearer_token="x"),
        dataset("half", "abfs", "abfs://c/p", **common, abfs_client_secret="topsecret"),
        dataset("bad_key", "abfs", "abfs://c/p", **common, abfs_access_key="§§topsecret"),
        dataset("plain", "abfs", "abfs://c/p", abfs_account="acc", abfs_endpoint=cloud.url),
        dataset("nothing", "abfs", "abfs://c/none.csv", **common),
    )
    tables = await lake.tables()
    for name, reason in {
        "account": "account is needed",
        "two_accounts": "two accounts",
        "two_secrets": "only one of",
        "half": "needs abfs_client_id",
        "bad_key": "not usable",
        "plain": "needs allow_http",
        "nothing": "",
    }.items():
        assert tables[name]["status"] == "error", name
        assert reason in tables[name]["error"]["message"], (name, tables[name]["error"])
    assert "topsecret" not in str(tables)


@pytest.fixture(scope="module")
def key() -> Any:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


async def test_google_objects_are_tables_with_and_without_a_key(lakes: Lakes, cloud: Cloud, key: Any) -> None:
    cloud.objects = {"p/a b.csv": b"a\n1\n", "p/b.csv": b"a\n2\n", "p/c.txt": b"no"}
    account = {
        "type": "service_account",
        "client_email": "reader@project.iam.gserviceaccount.com",
        "private_key_id": "key-1",
        "private_key": key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        # A key names a server for its tokens; it is not asked.
        "token_uri": "http://127.0.0.1:1/token",
    }
    common = {"gcs_endpoint": cloud.url, "allow_http": "true"}
    lake = await lakes.start()
    await lake.configure(
        dataset("public", "gcs", "gs://bkt/p/b.csv", **common),
        dataset(
            "keyed",
            "gcs",
            "gs://bkt/p/",
            **common,
            gcs_auth="service_account",
            gcs_service_account_key=json.dumps(account),
        ),
        dataset("nothing", "gcs", "gs://bkt/none.csv", **common),
        dataset("insecure", "gcs", "gs://bkt/p/b.csv", gcs_endpoint=cloud.url),
    )
    assert await lake.rows("select a from public") == [{"a": 2}]
    # The others may be opening meanwhile, the keyed one the same object.
    asked = [headers for path, headers in cloud.asked if unquote(path) == "/bkt/p/b.csv"]
    assert any("authorization" not in headers for headers in asked)
    assert await lake.rows("select sum(a) as s, count(*) as n from keyed") == [{"s": 3, "n": 2}]
    signed = [headers for _, headers in cloud.asked if "authorization" in headers]
    token = signed[-1]["authorization"].removeprefix("Bearer ")
    claims = jwt.decode(token, key.public_key(), algorithms=["RS256"], options={"verify_aud": False})
    assert (claims["iss"], jwt.get_unverified_header(token)["kid"]) == (account["client_email"], "key-1")
    listed = [path for path, _ in cloud.asked if "list-type=2" in path and "prefix=p%2F" in path]
    assert listed
    tables = await lake.tables()
    assert tables["nothing"]["status"] == "error"
    assert "allow_http" in tables["insecure"]["error"]["message"]
    assert "PRIVATE" not in str(tables)
    assert not list(Path(lakes.home).glob("cache/*/key-*"))


async def test_a_google_object_that_is_read_in_ranges(lakes: Lakes, cloud: Cloud) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": list(range(100_000))}), sink, row_group_size=10_000)
    cloud.objects = {"big.parquet": sink.getvalue().to_pybytes()}
    lake = await lakes.start()
    wanted = dataset("t", "gcs", "gs://bkt/big.parquet", gcs_endpoint=cloud.url, allow_http="true")
    await lake.configure({**wanted, "format": "parquet"})
    assert await lake.rows("select count(*) as n from t where a >= 99999") == [{"n": 1}]
    assert any("range" in headers for _, headers in cloud.asked)


async def test_a_google_key_is_read_from_a_file_that_does_not_stay(lakes: Lakes) -> None:
    key = {
        "client_email": "a@b",
        "private_key": "no key",
        "private_key_id": "1",
        "gcs_base_url": "http://127.0.0.1",
    }
    lake = await lakes.start()
    await lake.configure(
        dataset("no_key", "gcs", "gs://b/a.csv", gcs_auth="service_account"),
        dataset(
            "bad_key",
            "gcs",
            "gs://b/a.csv",
            gcs_auth="service_account",
            gcs_service_account_key=json.dumps(key),
        ),
        dataset("auth", "gcs", "gs://b/a.csv", gcs_auth="application_default"),
        dataset("scheme", "gcs", "s3://b/a.csv"),
        dataset("endpoint", "gcs", "gs://b/a.csv", gcs_endpoint="http://127.0.0.1"),
    )
    tables = await lake.tables()
    for name, reason in {
        "no_key": "not a service account's key",
        "bad_key": "not a usable key",
        "auth": "public or service_account",
        "scheme": "gs://",
        "endpoint": "needs allow_http",
    }.items():
        assert tables[name]["status"] == "error", name
        assert reason in tables[name]["error"]["message"], (name, tables[name]["error"])
    assert not list(Path(lakes.home).glob("cache/*/key-*"))
