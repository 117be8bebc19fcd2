"""Settings: any JSON under any key, but what the platform itself reads has to make sense."""

from typing import Any

import pytest
from tests.integration.agent_engine.conftest import Caller

LIMIT: dict[str, Any] = {"name": "by-org", "key_header": "X-Org", "tiers": {"free": {"requests": 1}}}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("byok.anthropic", True),
        ("byok.enabled", False),
        ("byok.allow_openai", True),
        ("byok.allowed_providers", ["google", "openai-compatible"]),
        ("widget_embed_origins", ["https://shop.example.com", "http://localhost:3000"]),
        ("rate_limits", [{"name": "by-org", "key_header": "X-Org-ID", "tiers": {"free": {"requests": 1}}}]),
        ("rate_limits", {"by-org": {"key_header": "X-Org", "tiers": {"all": {"unlimited": True}}}}),
        ("discount.rules", {"gold": 10, "nested": [None, 1.5, "é"]}),
        ("anything", None),
        ("anything", "text"),
    ],
)
async def test_a_setting_is_read_as_it_was_put(admin: Caller, key: str, value: Any) -> None:
    put = await admin.ask(200, "PUT", f"/settings/{key}", {"value": value, "description": "ignored"})
    assert (put["key"], put["value"]) == (key, value)
    assert await admin.ask(200, "GET", f"/settings/{key}") == put
    assert await admin.ask(200, "GET", "/settings") == [put]


@pytest.mark.parametrize(
    ("key", "value", "path", "hint"),
    [
        ("byok.antropic", True, "key", "did you mean 'byok.anthropic'"),
        ("byok.", True, "key", "the providers are"),
        ("byok.anthropic", "yes", "value", "true or false"),
        ("byok.anthropic", 1, "value", "true or false"),
        ("byok.enabled", [], "value", "true or false"),
        ("byok.allowed_providers", ["google", "abacus"], "value.1", "no provider 'abacus'"),
        ("byok.allowed_providers", "google", "value", "list of texts"),
        ("widget_embed_origins", ["https://a.example; script-src *"], "value.0", "an origin looks like"),
        ("widget_embed_origins", ["https://a.example/path"], "value.0", "an origin looks like"),
        ("widget_embed_origins", ["https://a.example:99999"], "value.0", "an origin looks like"),
        ("rate_limits", 5, "value", "list of rules"),
        ("rate_limits", ["x"], "value.0", "Expected `object`"),
        ("rate_limits", {"by-org": {}}, "value.0", "key_header"),
        ("rate_limits", [LIMIT | {"key_header": "X Org"}], "value.0.key_header", "regex"),
        ("rate_limits", [LIMIT | {"default_tier": "gold"}], "value.0.default_tier", "no tier 'gold'"),
        ("rate_limits", [LIMIT, LIMIT], "value.1.name", "two rules"),
        ("rate_limits", [LIMIT | {"tiers": {"a": {"window": "1 day"}}}], "value.0.tiers.a.window", "1h, 30m"),
        ("rate_limits", [LIMIT | {"tiers": {"a": {"requests": -1}}}], "value.0.tiers[...].requests", ">= 0"),
        ("with%20space", 1, "key", "a key is"),
        ("x" * 201, 1, "key", "a key is"),
        ("large", "x" * 70_000, "value", "at most 65536 bytes"),
    ],
)
async def test_a_setting_that_the_platform_could_not_use_is_refused(
    admin: Caller, key: str, value: Any, path: str, hint: str
) -> None:
    refusal = await admin.ask(400, "PUT", f"/settings/{key}", {"value": value})
    [error] = refusal["errors"]
    assert error["path"] == path
    assert hint in error["message"]
    assert await admin.ask(200, "GET", "/settings") == []


async def test_a_provider_has_one_setting_however_it_is_spelt(admin: Caller) -> None:
    for key in ("byok.openai-compatible", "byok.openai", "byok.openai_compatible"):
        put = await admin.ask(200, "PUT", f"/settings/{key}", {"value": True})
        assert put["key"] == "byok.openai_compatible"
        assert (await admin.ask(200, "GET", f"/settings/{key}"))["value"] is True
    assert len(await admin.ask(200, "GET", "/settings")) == 1
