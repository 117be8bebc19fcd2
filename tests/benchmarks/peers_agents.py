"""Other agent servers under the same load: LangGraph's and Agno's, each in an environment of its own under `.bench/`."""

import asyncio
import json
import os
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from msgspec import Struct
from tests.benchmarks.load import Listener
from tests.benchmarks.model import TOKENS
from tests.benchmarks.peers import environment
from tests.benchmarks.report import Report
from tests.benchmarks.standing import JSON, Standing, fake_model
from tests.benchmarks.turns import CHAT, Load, furnish
from tests.serving import free_port

CLIENTS = 64
# The peers are slow: so many turns are enough to see it, and few enough to wait for.
TURNS = 256
ALONE = 20
START_SECONDS = 90
FORM = {"Content-Type": "application/x-www-form-urlencoded"}

AGNO = """
import os
from agno.agent import Agent
from agno.db.postgres import PostgresDb
from agno.models.openai import OpenAIChat
from agno.os import AgentOS

model = OpenAIChat(id="bench", base_url=os.environ["MODEL_URL"], api_key="none")
db = PostgresDb(db_url=os.environ["DATABASE_URL"])
agent = Agent(id="bench", name="bench", model=model, db=db, instructions="Talk.", telemetry=False)
app = AgentOS(agents=[agent], telemetry=False).get_app()
"""

LANGGRAPH = """
import os
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph

model = ChatOpenAI(model="bench", base_url=os.environ["MODEL_URL"], api_key="none", streaming=True)


async def talk(state: MessagesState):
    return {"messages": [await model.ainvoke(state["messages"])]}


graph = StateGraph(MessagesState).add_node("talk", talk).add_edge(START, "talk").add_edge("talk", END).compile()
"""


class Peer(Struct, frozen=True, kw_only=True):
    """A server, how a turn of a new session is asked for, and what its first text and its end look like."""

    name: str
    url: str
    path: Callable[[], str]
    headers: dict[str, str]
    body: bytes
    first: bytes
    end: bytes


async def agents(standing: Standing, report: Report) -> None:
    """The same turns of the same model: ours through the gateway with everything recorded, then theirs."""
    report.title(f"Turns of {TOKENS} tokens against other agent servers, {CLIENTS} clients, 2 cores for all")
    with fake_model() as model_url:
        furnish(standing, model_url)
        ours = Peer(
            name="Weir (gateway, Postgres)",
            url=standing.platform.url,
            path=lambda: CHAT.path,
            headers=standing.headers,
            body=CHAT.body,
            first=b"event: message_delta",
            end=b"event: message\n",
        )
        mine = await _measure(ours, report)
        for peer in (agno(model_url, standing.environment["WEIR_DATABASE_URL"]), langgraph(model_url)):
            try:
                with peer as their:
                    theirs = await _measure(their, report)
            except (RuntimeError, subprocess.SubprocessError, OSError) as fault:
                report.add("a peer was not measured", str(fault)[:80])
                continue
            ratio = mine.rate / theirs.rate
            report.add(f"our turns/s ÷ those of {their.name}", f"{ratio:.1f} ×", "≥ 5 ×", reached=ratio >= 5)
            first = theirs.first(0.5) / mine.first(0.5)
            report.add(f"first token with {CLIENTS} clients, {their.name} ÷ ours", f"{first:.1f} ×")


async def _measure(peer: Peer, report: Report) -> Load:
    await _load(peer, clients=4, turns=8)
    alone = await _load(peer, clients=1, turns=ALONE)
    many = await _load(peer, clients=CLIENTS, turns=TURNS)
    report.add(f"{peer.name}: turns/s", f"{many.rate:.0f}")
    report.add(f"{peer.name}: first token, 1 client (p50)", f"{alone.first(0.5) * 1000:.1f} ms")
    spread = f"{many.first(0.5) * 1000:.0f} / {many.first(0.99) * 1000:.0f} ms"
    report.add(f"{peer.name}: first token, {CLIENTS} clients (p50 / p99)", spread)
    if many.failures:
        report.add(f"{peer.name}: turns that failed", str(many.failures))
    return many


async def _load(peer: Peer, *, clients: int, turns: int) -> Load:
    """Raises RuntimeError when no turn succeeded."""
    result, left = Load(), turns

    async def one_client() -> None:
        nonlocal left
        connection = Listener(peer.url)
        while left > 0:
            left -= 1
            started = time.perf_counter()
            try:
                first = await connection.until(peer.path(), peer.headers, peer.body, peer.first, end=peer.end)
            except (RuntimeError, OSError, EOFError):
                result.failures += 1
                await connection.close()
                continue
            result.firsts.append(first)
            result.totals.append(time.perf_counter() - started)
        await connection.close()

    started = time.perf_counter()
    await asyncio.gather(*(one_client() for _ in range(clients)))
    result.seconds = time.perf_counter() - started
    if not result.totals:
        raise RuntimeError(f"{peer.name}: no turn succeeded")
    return result


@contextmanager
def agno(model_url: str, database_url: str) -> Iterator[Peer]:
    """AgentOS with its sessions in Postgres: the platform's own server, in tables of Agno's."""
    programs = environment(
        "agno",
        "agno",
        "openai",
        "fastapi",
        "uvicorn",
        "sqlalchemy[asyncio]",
        "psycopg[binary]",
        "python-multipart",
    )
    url = database_url.replace("postgresql://", "postgresql+psycopg://").replace(
        "postgres://", "postgresql+psycopg://"
    )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "served.py").write_text(AGNO)
        port = free_port()
        command = [
            programs / "python",
            "-m",
            "uvicorn",
            "served:app",
            "--port",
            str(port),
            "--log-level",
            "error",
        ]
        told = {"MODEL_URL": f"{model_url}/v1", "DATABASE_URL": url, "AGNO_TELEMETRY": "false"}
        with _serving(command, folder, told, f"http://127.0.0.1:{port}", "/health"):
            yield Peer(
                name="Agno (Postgres)",
                url=f"http://127.0.0.1:{port}",
                path=lambda: "/agents/bench/runs",
                headers=FORM,
                body=b"message=hello&stream=true",
                first=b"RunContent",
                end=b"RunCompleted",
            )


@contextmanager
def langgraph(model_url: str) -> Iterator[Peer]:
    """LangGraph's development server, which keeps its threads in memory; with 64 turns at once, not its 1."""
    programs = environment("langgraph", "langgraph-cli[inmem]", "langchain-openai")
    body = {
        "assistant_id": "bench",
        "input": {"messages": [{"role": "user", "content": "hello"}]},
        "stream_mode": ["messages-tuple", "values"],
        "if_not_exists": "create",
    }
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "served.py").write_text(LANGGRAPH)
        described = {"dependencies": ["."], "graphs": {"bench": "./served.py:graph"}}
        (Path(folder) / "langgraph.json").write_text(json.dumps(described))
        port = free_port()
        options = ["--no-browser", "--no-reload", "--port", str(port), "--n-jobs-per-worker", str(CLIENTS)]
        told = {
            "MODEL_URL": f"{model_url}/v1",
            "LANGSMITH_TRACING": "false",
            "LANGGRAPH_CLI_NO_ANALYTICS": "1",
        }
        command = [programs / "langgraph", "dev", *options]
        with _serving(command, folder, told, f"http://127.0.0.1:{port}", "/ok"):
            yield Peer(
                name="LangGraph's server (memory)",
                url=f"http://127.0.0.1:{port}",
                path=lambda: f"/threads/{uuid.uuid4()}/runs/stream",
                headers=JSON,
                body=json.dumps(body).encode(),
                first=b"token0",
                end=b"token49",
            )


@contextmanager
def _serving(
    command: list[str | Path], folder: str, told: dict[str, str], url: str, health: str
) -> Iterator[None]:
    """The server until the end of the block. Raises RuntimeError, with its last words, when it does not come up."""
    with (Path(folder) / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(part) for part in command], cwd=folder, env=os.environ | told, stdout=log, stderr=log
        )
        try:
            until = time.monotonic() + START_SECONDS
            while not _is_up(url + health):
                if process.poll() is not None or time.monotonic() > until:
                    words = (Path(folder) / "log").read_text(errors="replace").strip()[-300:]
                    raise RuntimeError(f"{command[0]} does not come up: {words}")
                time.sleep(0.2)
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _is_up(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.TransportError:
        return False
