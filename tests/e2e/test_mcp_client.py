"""How to use an MCP client, as its page says: every example is run against a started platform."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.e2e.examples import run_example
from tests.starting import ROOT, StartedPlatform

PAGE = (ROOT / "docs/howto/use-an-mcp-client.md").read_text()
BLOCKS = dict(re.findall(r"^```(python|sh|json)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))


@pytest.fixture
def token(admin: httpx.Client) -> Iterator[str]:
    minted = admin.post("/api/v1/auth/tokens", json={"name": "mcp", "scopes": ["chat", "lake:query"]})
    assert minted.status_code == 201, minted.text
    yield minted.json()["token"]
    admin.delete(f"/api/v1/auth/tokens/{minted.json()['id']}")


def test_the_official_client_lists_queries_and_asks(
    platform: StartedPlatform, token: str, tmp_path: Path
) -> None:
    said = run_example("python", BLOCKS["python"], platform.url, token, tmp_path)
    tools, rows, *answer = said.splitlines()
    for name in ("lake_tables", "lake_schema", "lake_sample", "lake_query", "ask_ask-the-lake"):
        assert f"'{name}'" in tools
    assert json.loads(rows) == {"columns": ["n"], "rows": [[336776]], "row_count": 1}
    assert "Frontier" in "\n".join(answer)


def test_by_hand_a_table_shows_its_rows(platform: StartedPlatform, token: str, tmp_path: Path) -> None:
    said = run_example("sh", BLOCKS["sh"], platform.url, token, tmp_path)
    [told] = [line.removeprefix("data: ") for line in said.splitlines() if line.startswith(("data: ", "{"))]
    result = json.loads(told)["result"]
    shown = json.loads(result["content"][0]["text"])
    assert not result.get("isError")
    assert len(shown["rows"]) == 5
    assert "origin" in shown["columns"]


def test_the_configuration_on_the_page_names_the_door() -> None:
    assert json.loads(BLOCKS["json"])["mcpServers"]["weir"]["url"].endswith("/mcp")
