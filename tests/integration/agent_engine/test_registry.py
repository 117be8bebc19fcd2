"""The registry of known models: public, with filters that combine and refuse what makes no sense."""

import pytest
from tests.integration.agent_engine.conftest import Caller, World

from weir_shared.auth.principal import ANONYMOUS
from weir_shared.auth.tickets import HEADER


async def test_nobody_needs_a_credential(world: World) -> None:
    caller = world.caller("00000000-0000-0000-0000-000000000000")
    caller.http.headers[HEADER] = world._office.issue(ANONYMOUS, "agent-engine")
    models = await caller.ask(200, "GET", "/models/registry")
    assert [model["tier"] for model in models] == sorted(model["tier"] for model in models)
    assert models[0].keys() == {
        "id", "display_name", "provider", "tier", "context_window", "max_output", "supports_tools",
        "supports_vision", "pricing_input", "pricing_output", "description", "recommended_for",
    }  # fmt: skip
    providers = await caller.ask(200, "GET", "/models/registry/providers")
    assert len(providers) == 11
    assert {model["provider"] for model in models} <= {provider["id"] for provider in providers}
    assert [p["id"] for p in providers if p["auth_type"] == "none"] == ["ollama"]
    assert (await caller.call("GET", "/models")).status_code == 401
    await caller.http.aclose()


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("provider=anthropic", 3),
        ("provider=Anthropic&tier=1", 2),
        ("tier=3", 1),
        ("supports_tools=false", 1),
        ("supports_tools=true&tier=3", 0),
        ("provider=nobody", 0),
        ("", 14),
    ],
)
async def test_filters_combine(admin: Caller, query: str, count: int) -> None:
    assert len(await admin.ask(200, "GET", f"/models/registry?{query}")) == count


@pytest.mark.parametrize(
    "query", ["tier=4", "tier=x", "tier=", "tier=1.0", "supports_tools=maybe", "tier=-1"]
)
async def test_a_filter_that_makes_no_sense_is_an_invalid_request(admin: Caller, query: str) -> None:
    refused = await admin.ask(400, "GET", f"/models/registry?{query}")
    assert refused["errors"][0]["path"] == query.partition("=")[0]
