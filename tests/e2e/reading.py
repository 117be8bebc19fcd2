"""Reading a chat's stream as a client would."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import httpx


@dataclass(frozen=True)
class Event:
    name: str
    data: dict


def events(response: httpx.Response) -> Iterator[Event]:
    """The events of a stream, comments left out."""
    name = ""
    for line in response.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield Event(name, json.loads(line.removeprefix("data: ")))


def chat(client: httpx.Client, message: str, session_id: str | None = None) -> list[Event]:
    """A whole turn with the demo's schema."""
    body = {"message": message} | ({"session_id": session_id} if session_id else {})
    with client.stream("POST", "/api/v1/schemas/ask-the-lake/chat", json=body) as response:
        assert response.status_code == 200, response.read()
        return list(events(response))
