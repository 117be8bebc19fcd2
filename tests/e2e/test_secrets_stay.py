"""A secret in every field that takes one, and then everything that the platform says, writes and keeps: it is nowhere."""

import base64
import uuid
from collections.abc import Iterator

import asyncpg
import httpx
import psutil
import pytest
import yaml
from tests.e2e.streams import streams_of
from tests.e2e.tenants import LAKE, NOWHERE, Belongings, operations, session_of
from tests.fakes.model_server import serve_fake_models
from tests.promises import Promise
from tests.starting import StartedPlatform

from weir.onebox import cluster


def forms(secret: str) -> Iterator[str]:
    """The text, as hex and as Base64 at each of its three offsets."""
    raw = secret.encode()
    yield secret
    yield raw.hex()
    yield raw.hex().upper()
    for shift in range(3):
        # What stands before and after changes the signs at both ends.
        text = base64.b64encode(b"x" * shift + raw).decode().rstrip("=")
        yield text[4 if shift else 0 : -2]


class Planted(Belongings):
    """A tenant's things, and what else takes a secret."""

    def __init__(self, admin: httpx.Client, canary: str) -> None:
        super().__init__(admin, canary)
        tools = {
            "shop": {
                "type": "http",
                "url": NOWHERE,
                "auth": {"type": "bearer", "token": self.secret("bearer")},
            },
            "stock": {"type": "http", "url": NOWHERE, "headers": {"X-Key": self.secret("header")}},
            "basic": {
                "type": "http",
                "url": NOWHERE,
                "auth": {"type": "basic", "username": "u", "token": self.secret("password")},
            },
        }
        imported = {
            "models": [
                {
                    "name": f"{self.name}-i",
                    "type": "openai_compatible",
                    "model_name": "m",
                    "base_url": NOWHERE,
                    "api_key": self.secret("imported"),
                }
            ],
            "mcp_servers": {
                f"{self.name}-i": {
                    "type": "http",
                    "url": NOWHERE,
                    "env_vars": {"K": self.secret("imported-mcp")},
                }
            },
            "tools": tools,
        }
        headers = {"content-type": "application/x-yaml"}
        sent = admin.post("/api/v1/config/import", content=yaml.safe_dump(imported), headers=headers)
        assert sent.status_code == 200, sent.text
        wire = {"pg_host": "127.0.0.1", "pg_port": "9", "pg_db": "d", "pg_user": "u", "pg_sslmode": "disable"}
        postgres = {"from": "postgres:public.orders", "params": wire | {"pg_pass": self.secret("postgres")}}
        self.made(f"{LAKE}/datasets", {"name": f"{self.mark}_pg"} | postgres)
        web = {"file_format": "csv", "http_username": "u", "http_password": self.secret("http")}
        web_source = {"from": "http://127.0.0.1:9/a.csv", "params": web}
        self.made(f"{LAKE}/datasets", {"name": f"{self.mark}_web"} | web_source)

    def provoke(self) -> list[httpx.Response]:
        """Uses the secrets, fails with them, and sends them where they do not belong."""
        admin, name = self.admin, self.name
        answers = [
            admin.post(f"/api/v1/models/{name}/verify"),
            admin.post(f"/api/v1/mcp-servers/{name}/refresh"),
            admin.post(f"/api/v1/schemas/{name}/chat", json={"message": "hello"}),
            admin.post(f"/api/v1/models/{name}-nothing", json={"api_key": self.secret("lost")}),
            admin.post("/api/v1/models", json={"name": 7, "api_key": self.secret("wrong")}),
            admin.post("/api/v1/models", content='{"api_key": "' + self.secret("cut")),
            admin.put(f"/api/v1/models/{name}", json={"api_key": [self.secret("list")]}),
            admin.patch(f"/api/v1/mcp-servers/{name}", json={"env_vars": {"A": {"b": self.secret("deep")}}}),
            admin.post("/api/v1/triggers", json={"type": "webhook", "secret": self.secret("unfinished")}),
            admin.post(
                f"{LAKE}/datasets", json={"name": "x", "from": f"postgres://u:{self.secret('url')}@h/d"}
            ),
            admin.post("/api/v1/config/import", content="models: [{api_key: " + self.secret("yaml")),
            admin.get("/api/v1/agents", headers={"Authorization": "Bearer " + self.secret("credential")}),
            admin.get("/api/v1/agents", headers={"API_KEY": self.secret("key")}),
            admin.post(f"{LAKE}/sql", json={"query": f"select * from {self.mark}"}),
        ]
        for dataset in ("s3", "pg", "web"):
            answers.append(admin.post(f"{LAKE}/sql", json={"query": f"select * from {self.mark}_{dataset}"}))
            answers.append(admin.post(f"{LAKE}/datasets/{self.mark}_{dataset}/refresh"))
        return answers


async def rows_of_every_table(platform: StartedPlatform) -> dict[str, list[str]]:
    """Everything in the database as text; `bytea` is in hex, as a dump writes it."""
    port = _port_of(platform)
    password = cluster.read_password(platform.data_dir / "postgres")
    connection = await asyncpg.connect(f"postgresql://weir:{password}@127.0.0.1:{port}/weir")
    try:
        tables = await connection.fetch(
            "select format('%I.%I', schemaname, tablename) as name from pg_tables "
            "where schemaname not in ('pg_catalog', 'information_schema')"
        )
        return {
            table["name"]: [
                row["text"]
                for row in await connection.fetch(f"select t::text as text from {table['name']} t")
            ]
            for table in tables
        }
    finally:
        await connection.close()


def _port_of(platform: StartedPlatform) -> int:
    return int((platform.data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[3])


def environments(platform: StartedPlatform) -> dict[str, bytes]:
    """What the platform's processes, runtimes included, were started with."""
    leading = psutil.Process(platform.process.pid)
    found = dict[str, bytes]()
    for process in (leading, *leading.children(recursive=True)):
        try:
            told = [*process.cmdline(), *(f"{name}={value}" for name, value in process.environ().items())]
        except psutil.NoSuchProcess:
            continue
        found[f"process {process.pid}"] = "\n".join(told).encode()
    return found


def files(platform: StartedPlatform) -> dict[str, bytes]:
    """The log and everything in the data directory: what the database has written too, its write-ahead log included."""
    found = {str(platform.log): platform.log.read_bytes()}
    for path in platform.data_dir.rglob("*"):
        if path.is_file() and not path.is_socket():
            try:
                found[str(path)] = path.read_bytes()
            except FileNotFoundError:
                continue
    return found


@pytest.mark.promise("P13")
async def test_a_secret_that_was_planted_is_found_nowhere(
    platform: StartedPlatform, promise: Promise
) -> None:
    canary = f"canary{uuid.uuid4().hex}"
    with platform.client(**session_of(platform, str(uuid.uuid4()))) as admin:
        planted = Planted(admin, canary)
        answers = planted.provoke()
        document = admin.get("/schema/openapi.json").json()
        for method, template, _ in operations(document):
            if method == "get" and not template.endswith("/events"):
                for path in planted.paths(template):
                    answers.append(admin.get(path))
        answers += [
            admin.get("/metrics"),
            admin.get("/api/v1/audit?per_page=200"),
            admin.get(f"{LAKE}/config", headers={"Accept": "application/yaml"}),
            admin.get("/api/v1/config/export"),
        ]
        async with (
            serve_fake_models() as models,
            httpx.AsyncClient(base_url=platform.url, headers=admin.headers, timeout=60) as client,
        ):
            streams = await streams_of(
                client, models, planted.secret("streaming"), ["shop", "stock", "basic"]
            )
        tables = await rows_of_every_table(platform)
    assert len([answer for answer in answers if answer.status_code == 200]) > 60
    places = {
        f"{answer.request.method} {answer.request.url} ({n})": _told(answer)
        for n, answer in enumerate(answers)
    }
    places |= {f"table {name}": "\n".join(rows).encode() for name, rows in tables.items()}
    # The turns were told, and so was how the calls of their tools went.
    assert [name for name, told in streams.items() if b"Called." not in told] == []
    assert [name for name, told in streams.items() if b"shop" not in told] == ["stream of a completion"]
    places |= streams
    kept, processes = files(platform), environments(platform)
    places |= kept | processes
    # The search sees what is there: what is no secret is found in answers, in the database and on the disk.
    seen = [place for place, content in places.items() if planted.content.encode() in content]
    assert {place.partition(" ")[0] for place in seen} >= {"GET", "table"}
    assert any(place.startswith(str(platform.data_dir)) for place in seen)
    wanted = [form.encode() for form in forms(canary)]
    assert [place for place, content in places.items() if any(form in content for form in wanted)] == []
    # A token and a webhook's address are shown once, when they are made.
    for once in (planted.token, planted.lake_hook):
        wanted = [form.encode() for form in forms(once)]
        leaks = [place for place, content in places.items() if any(form in content for form in wanted)]
        assert leaks == [], once[:8]
    assert len(tables) > 35
    assert len(processes) >= 6
    promise.held(
        f"{len(planted.secrets)} secrets planted, searched as text, hex and Base64: {len(answers)} answers, {len(streams)} streams of events, "
        f"{len(tables)} tables, {len(kept)} files, {len(processes)} processes' environments: 0 hits"
    )


def _told(answer: httpx.Response) -> bytes:
    return answer.content + str(answer.headers).encode()
