"""The demo: a real data set, a scripted model that says it is one, an agent and a schema to ask it.

Added once to a database, on its first start; what its owner changes or deletes later stays changed or deleted. Only the
address of the scripted model is renewed, because its port is a new one at every start.
"""

import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from msgspec import Struct

from weir_shared.auth.keys import TICKET_KEY, load_or_create_key_pair
from weir_shared.auth.principal import DEFAULT_TENANT_ID, Principal
from weir_shared.auth.scopes import ADMIN
from weir_shared.auth.tickets import HEADER, Audience, TicketOffice
from weir_shared.db.migrate import ledger_birth
from weir_shared.settings import Settings

MODEL = "demo-scripted"
AGENT = "lake-analyst"
SCHEMA = "ask-the-lake"
FOLDER = "weir-demo"
MARK = "demo-added"
SECONDS = 30

DATASETS = {
    "flights": "Every flight that left New York City in 2013 (336,776 rows; U.S. Bureau of Transportation Statistics)",
    "airlines": "Names of the carriers in flights.carrier",
    "airports": "Names and places of the airports in flights.origin and flights.dest",
}
PROMPT = (
    "You answer questions about the caller's data. Look at the tables with lake_tables, query them with "
    "lake_query (SQL, read only), and say only what the results show."
)
OPERATOR = Principal(tenant_id=DEFAULT_TENANT_ID, subject="onebox", actor="system", scopes=frozenset({ADMIN}))


class DemoFailed(Exception):
    """The demo could not be added; the platform itself runs."""


class _Wanted(Struct, frozen=True, kw_only=True):
    audience: Audience
    path: str
    body: dict[str, Any]


async def add_demo(settings: Settings) -> None:
    """Adds the demo to the default tenant on the first start. Raises DemoFailed with the reason."""
    tickets = TicketOffice(load_or_create_key_pair(settings.keys_dir, TICKET_KEY))
    mark = settings.data_dir / MARK
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as session:
        rooms = _Rooms(session, tickets, settings)
        # The mark lies with the data; the database may be another one than at the last start.
        ledger = await ledger_birth(settings.database_url or "")
        added = mark.read_text().splitlines() if mark.exists() else []
        if ledger in added:
            await rooms.renew_model()
            return
        folder = _copy_data(settings.imports)
        for wanted in _wanted(folder, settings):
            await rooms.add(wanted)
    mark.write_text("".join(f"{birth}\n" for birth in [*added, ledger]))


def _copy_data(import_root: Path) -> Path:
    folder = import_root / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in DATASETS:
            target = folder / f"{name}.parquet"
            if not target.exists():
                with resources.as_file(_data() / target.name) as source:
                    shutil.copyfile(source, target)
    except OSError as fault:
        raise DemoFailed(f"the demo's data cannot be copied to {folder}: {fault.strerror}") from None
    return folder


def _data() -> Any:
    return resources.files("weir.onebox").joinpath("demo_data")


def _wanted(folder: Path, settings: Settings) -> list[_Wanted]:
    datasets = [
        _Wanted(
            audience="context-lake",
            path="/v1/context-lake/datasets",
            body={"name": name, "from": f"file:{(folder / name).resolve()}.parquet", "description": text},
        )
        for name, text in DATASETS.items()
    ]
    model = {
        "name": MODEL,
        "type": "openai_compatible",
        "model_name": MODEL,
        "base_url": _model_url(settings),
        "api_key": "none-needed",
    }
    agent = {
        "name": AGENT,
        "system": PROMPT,
        "model": MODEL,
        "tools": ["lake_tables", "lake_query"],
        "max_steps": 10,
    }
    schema = {
        "name": SCHEMA,
        "description": "Questions about the demo's flights",
        "entry_agent_id": AGENT,
        "chat_enabled": True,
    }
    engine: list[tuple[str, dict[str, Any]]] = [("models", model), ("agents", agent), ("schemas", schema)]
    return datasets + [
        _Wanted(audience="agent-engine", path=f"/api/v1/{noun}", body=body) for noun, body in engine
    ]


def _model_url(settings: Settings) -> str:
    return settings.demo_model_url + "/v1"


class _Rooms:
    """The two rooms, asked as the operator."""

    def __init__(self, session: aiohttp.ClientSession, tickets: TicketOffice, settings: Settings) -> None:
        self._session = session
        self._tickets = tickets
        self._settings = settings
        self._urls = {"context-lake": settings.lake_url, "agent-engine": settings.engine_url}

    async def add(self, wanted: _Wanted) -> None:
        status, text = await self._ask("POST", wanted.audience, wanted.path, wanted.body)
        if status not in (201, 409):
            raise DemoFailed(f"{wanted.path} answered {status}: {text[:300]}")

    async def renew_model(self) -> None:
        """Leaves alone a model that its owner has put in the script's place."""
        path = f"/api/v1/models/{MODEL}"
        status, text = await self._ask("GET", "agent-engine", path)
        if status == 200 and msgspec.json.decode(text)["model_name"] != MODEL:
            return
        status, text = await self._ask("PUT", "agent-engine", path, {"base_url": _model_url(self._settings)})
        if status not in (200, 404):
            raise DemoFailed(f"{path} answered {status}: {text[:300]}")

    async def _ask(
        self, method: str, audience: Audience, path: str, body: dict[str, Any] | None = None
    ) -> tuple[int, str]:
        headers = {HEADER: self._tickets.issue(OPERATOR, audience)}
        url = self._urls[audience] + path
        try:
            async with self._session.request(method, url, json=body, headers=headers) as response:
                return response.status, await response.text()
        except (aiohttp.ClientError, TimeoutError) as fault:
            raise DemoFailed(f"{path} could not be asked: {fault}") from None
