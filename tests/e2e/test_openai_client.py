"""How to use an OpenAI client, as its page says: every example is run against a started platform."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from tests.e2e.examples import run_example
from tests.starting import ROOT, StartedPlatform

PAGE = (ROOT / "docs/howto/use-an-openai-client.md").read_text()
BLOCKS = re.findall(r"^```(python|sh)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
SIGN = "[demo-scripted]"


@pytest.fixture
def token(admin: httpx.Client) -> Iterator[str]:
    """A token that may chat and ask the lake, since an agent asks it as its caller."""
    minted = admin.post("/api/v1/auth/tokens", json={"name": "openai", "scopes": ["chat", "lake:query"]})
    assert minted.status_code == 201, minted.text
    yield minted.json()["token"]
    admin.delete(f"/api/v1/auth/tokens/{minted.json()['id']}")


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_an_example_of_the_page_does_what_it_says(
    platform: StartedPlatform, token: str, tmp_path: Path, number: int
) -> None:
    language, code = BLOCKS[number]
    said = run_example(language, code, platform.url, token, tmp_path)
    assert ("ask-the-lake" if "/models" in code else SIGN) in said


def test_the_page_has_examples_of_each_kind() -> None:
    assert [language for language, _ in BLOCKS] == ["sh", "python", "python", "python", "sh"]


def test_an_agent_asks_the_lake_as_the_client_who_holds_the_token(
    platform: StartedPlatform, token: str
) -> None:
    with openai.OpenAI(base_url=f"{platform.url}/v1", api_key=token) as client:
        messages = [{"role": "user", "content": "What is the average departure delay by carrier?"}]
        whole = client.chat.completions.create(model="ask-the-lake", messages=messages)
        chunks = list(client.chat.completions.create(model="ask-the-lake", messages=messages, stream=True))
    content = whole.choices[0].message.content
    assert "Frontier" in content
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == content
    assert whole.usage.total_tokens > 0


def test_the_document_tells_how_these_paths_refuse(platform: StartedPlatform, admin: httpx.Client) -> None:
    document = httpx.get(f"{platform.url}/schema/openapi.json", timeout=30).json()
    asked = document["paths"]["/v1/chat/completions"]["post"]
    assert set(asked["responses"]["200"]["content"]) == {"text/event-stream", "application/json"}
    error = asked["responses"]["400"]["content"]["application/json"]["schema"]
    assert error == {"$ref": "#/components/schemas/OpenAIError"}
    schema = document["components"]["schemas"]["OpenAIError"]["properties"]["error"]
    refused = admin.post("/v1/chat/completions", json={"model": "x", "messages": []})
    assert set(refused.json()["error"]) == set(schema["properties"]) == set(schema["required"])
