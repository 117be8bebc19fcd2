"""The ten types of models: their wire protocol, where they are by default, and their quirks."""

import re
from typing import Literal
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

from msgspec import Struct

from weir.agent_engine.models.base import ModelRefused

Protocol = Literal["openai_chat", "anthropic_messages", "gemini"]
Echo = Literal["reasoning_content", "reasoning_details"]

AZURE_API_VERSION = "2024-10-21"


class Provider(Struct, frozen=True, kw_only=True):
    """One type of models.

    `knows_tools`: every model of the provider calls tools, so that verifying need not try.
    `needs_key`: the provider answers nobody without a key of theirs.
    `key`: what is sent as the key when the tenant gave none.
    `tells_usage`: it counts tokens unasked and refuses the option that asks for it.
    `echo`: the field in which it wants its reasoning back with the results of its tool calls.
    `call_id_size`: its tool calls' ids have exactly that many letters and digits.
    """

    protocol: Protocol = "openai_chat"
    base_url: str | None
    knows_tools: bool = False
    needs_key: bool = True
    key: str | None = None
    tells_usage: bool = False
    echo: Echo | None = None
    call_id_size: int | None = None


PROVIDERS: dict[str, Provider] = {
    "ollama": Provider(base_url="http://localhost:11434", key="ollama", needs_key=False),
    "openai_compatible": Provider(base_url="https://api.openai.com/v1", needs_key=False),
    "anthropic": Provider(
        protocol="anthropic_messages", base_url="https://api.anthropic.com/v1", knows_tools=True
    ),
    "azure_openai": Provider(base_url=None, knows_tools=True),
    "google": Provider(
        protocol="gemini", base_url="https://generativelanguage.googleapis.com/v1beta", knows_tools=True
    ),
    "openrouter": Provider(base_url="https://openrouter.ai/api/v1", echo="reasoning_details"),
    "deepseek": Provider(base_url="https://api.deepseek.com/v1", echo="reasoning_content"),
    "mistral": Provider(
        base_url="https://api.mistral.ai/v1", knows_tools=True, tells_usage=True, call_id_size=9
    ),
    "xai": Provider(base_url="https://api.x.ai/v1"),
    "zai": Provider(base_url="https://api.z.ai/api/paas/v4", echo="reasoning_content"),
}
# Those whose protocol has embeddings, and whose vectors this platform reads.
EMBEDDERS = ("openai_compatible", "ollama", "openrouter", "mistral", "azure_openai", "google")
_SPELLINGS = {"openai": "openai_compatible", "azure": "azure_openai", "gemini": "google"}
_VERSION = re.compile(r"/v\d+[a-z0-9]*$")


def provider_type(text: str) -> str | None:
    """The type that a text means (`openai-compatible` is `openai_compatible`), or None."""
    name = text.strip().lower().replace("-", "_")
    name = _SPELLINGS.get(name, name)
    return name if name in PROVIDERS else None


def base_of(type: str, base_url: str | None) -> str:
    """The address as the tenant gave it, or the provider's own; empty for Azure, where everybody has another."""
    return base_url or PROVIDERS[type].base_url or ""


def openai_url(type: str, base_url: str | None, path: str = "/chat/completions") -> str:
    """Where a model of the chat-completions protocol is asked.

    An Ollama server speaks it under `/v1`, however its address was given.
    """
    base = base_of(type, base_url)
    if type != "ollama":
        return _under(base, path)
    root = _root(base)
    if root.endswith("/api"):
        base, root = base.rstrip("/").removesuffix("/api"), root.removesuffix("/api")
    return _under(base, path if root.endswith("/v1") else f"/v1{path}")


def azure_url(
    base_url: str, model_name: str, api_version: str | None, path: str = "/chat/completions"
) -> str:
    """Where a deployment on Azure is asked.

    The address may already lead to the deployment, or to the newer interface, which is like OpenAI's.
    """
    root = _root(base_url)
    if root.endswith("/openai/v1"):
        return _under(base_url, path, f"api-version={quote(api_version)}" if api_version else "")
    version = f"api-version={quote(api_version or AZURE_API_VERSION)}"
    if "/openai/deployments/" in root:
        return _under(base_url, path, version)
    opening = "" if root.endswith("/openai") else "/openai"
    return _under(base_url, f"{opening}/deployments/{quote(model_name, safe='')}{path}", version)


def anthropic_url(base_url: str | None) -> str:
    """Where messages are asked for; an address may be given with `/v1` or, as the official clients take it, without."""
    base = base_of("anthropic", base_url)
    return _under(base, "/messages" if _root(base).endswith("/v1") else "/v1/messages")


def gemini_url(base_url: str | None, model_name: str, verb: str, query: str = "") -> str:
    """Where a Gemini model is asked; an address without a version means `/v1beta`."""
    base = base_of("google", base_url)
    version = "" if _VERSION.search(_root(base)) else "/v1beta"
    kind, _, name = model_name.rpartition("/")
    kind = kind if kind in ("models", "tunedModels") else "models"
    return _under(base, f"{version}/{kind}/{quote(name, safe='')}:{verb}", query)


def _under(base: str, path: str, query: str = "") -> str:
    """A path under an address, whose own query stays."""
    parts = _split(base)
    queries = "&".join(part for part in (parts.query, query) if part)
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") + path, queries, ""))


def _root(base: str) -> str:
    return _split(base).path.rstrip("/")


def _split(base: str) -> SplitResult:
    try:
        return urlsplit(base)
    except ValueError:
        raise ModelRefused("The model's address is not well formed") from None
