"""Event streams of turns that use secrets: as they run, to whoever comes back, and of a task's session."""

import asyncio
from typing import Any

import httpx
from tests.fakes.model_server import Call, FakeModels, Reply, say

API = "/api/v1"


async def streams_of(
    client: httpx.AsyncClient, models: FakeModels, key: str, tools: list[str]
) -> dict[str, bytes]:
    """What each stream of events sent while `tools` were called by a model that is asked with `key`."""
    calling = Reply(text=("Calling.",), calls=tuple(Call(tool) for tool in tools), delay=0.3)
    brain = models.brain(*[calling, say("Called.")] * 4)
    name = f"streaming-{brain.name}"
    model = {
        "type": "openai_compatible",
        "model_name": brain.name,
        "base_url": models.base_url,
        "api_key": key,
    }
    await _made(client, "models", {"name": name} | model)
    await _made(client, "agents", {"name": name, "model": name, "tools": tools})
    await _made(client, "schemas", {"name": name, "entry_agent_id": name, "chat_enabled": True})
    async with client.stream("POST", f"{API}/schemas/{name}/chat", json={"message": "go"}) as chat:
        session = chat.headers["x-session-id"]
        followed, told = await asyncio.gather(_events(client, session), chat.aread())
    completion = {"model": name, "stream": True, "messages": [{"role": "user", "content": "go"}]}
    completed = await client.post("/v1/chat/completions", json=completion)
    task = await _made(client, "tasks", {"agent": name, "title": "go"})
    while (seen := await _task(client, task["id"]))["status"] not in ("completed", "failed"):
        await asyncio.sleep(0.1)
    return {
        "stream of a turn": told,
        "stream of its session": followed,
        "stream of its session again": await _events(client, session),
        "stream of a completion": completed.content,
        "stream of a task's session": await _events(client, seen["session_id"]),
    }


async def _events(client: httpx.AsyncClient, session: str) -> bytes:
    answer = await client.get(f"{API}/sessions/{session}/events", headers={"Last-Event-ID": "0"})
    assert answer.status_code == 200, answer.text
    return answer.content


async def _made(client: httpx.AsyncClient, noun: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await client.post(f"{API}/{noun}", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def _task(client: httpx.AsyncClient, id: str) -> dict[str, Any]:
    return (await client.get(f"{API}/tasks/{id}")).json()
