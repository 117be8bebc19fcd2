"""Files behind http URLs: fetched once, asked for again on refresh, and within bounds."""

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from weir.lake_runtime.sources import download

from .conftest import Lakes


class Site:
    """What a server answers, path by path, and what it was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.claims: dict[str, int] = {}
        self.asked: list[tuple[str, dict[str, str], int]] = []
        self.url = ""


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body, tag = site.files.get(self.path), ""
            status = 404 if body is None else 200
            if body is not None:
                tag = f'"{hash(body)}"'
                status = 304 if headers.get("if-none-match") == tag else 200
            if self.path in site.redirects:
                status = 302
            site.asked.append((self.path, headers, status))
            self.send_response(status)
            if self.path in site.redirects:
                self.send_header("location", site.redirects[self.path])
            if tag:
                self.send_header("etag", tag)
            sent = body if body is not None and status == 200 else b""
            self.send_header("content-length", str(site.claims.get(self.path, len(sent))))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield site
    server.shutdown()
    server.server_close()


def dataset(name: str, url: str, form: str = "csv", **options: Any) -> dict[str, Any]:
    return {"name": name, "connector": "http", "format": form, "location": url, "options": options}


async def test_a_url_is_a_table_and_a_refresh_fetches_only_what_has_changed(lakes: Lakes, site: Site) -> None:
    site.files["/d/a.csv"] = b"a\n1\n"
    site.files["/z.csv.gz"] = gzip.compress(b"a\n2\n")
    site.files["/q?x=%C3%BC"] = b'{"a": 3}\n'
    lake = await lakes.start()
    await lake.configure(
        dataset(
            "t", f"{site.url}/d/a.csv", http_username="u", http_password="p4ss", http_headers="X-A: 1; X-B: 2"
        ),
        dataset("z", f"{site.url}/z.csv.gz"),
        dataset("q", f"{site.url}/q?x=ü", "json"),
    )
    for name, value in (("t", 1), ("z", 2), ("q", 3)):
        assert await lake.rows(f"select a from {name}") == [{"a": value}], name
    headers = next(headers for path, headers, _ in site.asked if path == "/d/a.csv")
    assert (headers["authorization"], headers["x-a"], headers["x-b"]) == ("Basic dTpwNHNz", "1", "2")
    site.asked.clear()
    await lake.request("POST", "/datasets/t/refresh")
    site.files["/d/a.csv"] = b"a\n5\n"
    await lake.request("POST", "/datasets/t/refresh")
    assert [status for _, _, status in site.asked] == [304, 200]
    assert await lake.rows("select a from t") == [{"a": 5}]


async def test_a_broken_download_is_an_error_of_its_dataset(lakes: Lakes, site: Site) -> None:
    site.files["/short.csv"] = b"a\n1\n"
    site.claims = {"/short.csv": 100, "/large.csv": download.MAX_BYTES + 1}
    site.files["/large.csv"] = b"a\n1\n"
    site.redirects = {"/away": "http://localhost/x.csv", "/round": "/round", "/moved": "/ok.csv"}
    site.files["/ok.csv"] = b"a\n1\n"
    lake = await lakes.start()
    await lake.configure(
        dataset("moved", f"{site.url}/moved"),
        dataset("missing", f"{site.url}/nothing.csv"),
        dataset("short", f"{site.url}/short.csv"),
        dataset("large", f"{site.url}/large.csv"),
        dataset("away", f"{site.url}/away"),
        dataset("round", f"{site.url}/round"),
        dataset("user", site.url.replace("//", "//name:s3cret@") + "/ok.csv"),
        dataset("scheme", "ftp://127.0.0.1/a.csv"),
        dataset("dead", "http://127.0.0.1:1/a.csv"),
        dataset("metadata", "http://169.254.169.254/latest"),
    )
    tables = await lake.tables()
    assert await lake.rows("select a from moved") == [{"a": 1}]
    for name, reason in {
        "missing": "404",
        "short": "broke off",
        "large": "exceeds 1024 MiB",
        "away": "another host",
        "round": "redirects without end",
        "user": "must not carry a user name",
        "scheme": "http or https URL",
        "dead": "Connection refused",
        "metadata": "not a public address",
    }.items():
        assert tables[name]["status"] == "error", name
        assert reason in tables[name]["error"]["message"], (name, tables[name]["error"])
    assert "s3cret" not in str(tables)


async def test_a_private_address_is_not_asked_unless_allowed(lakes: Lakes, site: Site) -> None:
    site.files["/a.csv"] = b"a\n1\n"
    lake = await lakes.start(allowPrivate=False)
    await lake.configure(
        dataset("t", f"{site.url}/a.csv"),
        dataset("named", f"{site.url}/a.csv".replace("127.0.0.1", "localhost")),
    )
    tables = await lake.tables()
    assert all("not a public address" in t["error"]["message"] for t in tables.values())
    assert site.asked == []
