"""The ten types of models: their wire protocol, where they are by default, and their quirks."""

from typing import Literal

from msgspec import Struct

from weir.agent_engine.models.base import ProviderNotBuilt

Protocol = Literal["openai_chat", "anthropic_messages", "azure_chat", "gemini"]


class Provider(Struct, frozen=True, kw_only=True):
    """One type of models.

    `knows_tools`: every model of the provider calls tools, so that verifying need not try.
    """

    protocol: Protocol
    base_url: str | None
    path: str = "/chat/completions"
    knows_tools: bool = False
    key: str | None = None
    """What is sent as the key when the tenant gave none."""


PROVIDERS: dict[str, Provider] = {
    "ollama": Provider(protocol="openai_chat", base_url="http://localhost:11434", key="ollama"),
    "openai_compatible": Provider(protocol="openai_chat", base_url="https://api.openai.com/v1"),
    "anthropic": Provider(
        protocol="anthropic_messages", base_url="https://api.anthropic.com/v1", knows_tools=True
    ),
    "azure_openai": Provider(protocol="azure_chat", base_url=None, knows_tools=True),
    "google": Provider(
        protocol="gemini", base_url="https://generativelanguage.googleapis.com/v1beta", knows_tools=True
    ),
    "openrouter": Provider(protocol="openai_chat", base_url="https://openrouter.ai/api/v1"),
    "deepseek": Provider(protocol="openai_chat", base_url="https://api.deepseek.com/v1"),
    "mistral": Provider(protocol="openai_chat", base_url="https://api.mistral.ai/v1", knows_tools=True),
    "xai": Provider(protocol="openai_chat", base_url="https://api.x.ai/v1"),
    "zai": Provider(protocol="openai_chat", base_url="https://api.z.ai/api/paas/v4"),
}
_SPELLINGS = {"openai": "openai_compatible", "azure": "azure_openai", "gemini": "google"}


def provider_type(text: str) -> str | None:
    """The type that a text means (`openai-compatible` is `openai_compatible`), or None."""
    name = text.strip().lower().replace("-", "_")
    name = _SPELLINGS.get(name, name)
    return name if name in PROVIDERS else None


def chat_url(type: str, base_url: str | None) -> str:
    """Where chat completions are asked for. Raises ProviderNotBuilt for the other protocols."""
    provider = PROVIDERS[type]
    if provider.protocol != "openai_chat":
        raise ProviderNotBuilt(f"Models of the type {type} are not available in this version of the platform")
    return api_root(type, base_url) + provider.path


def api_root(type: str, base_url: str | None) -> str:
    """The provider's API without a path; an Ollama server's is under `/v1`, however its address was given."""
    base = (base_url or PROVIDERS[type].base_url or "").rstrip("/")
    if type != "ollama":
        return base
    base = base.removesuffix("/api")
    return base if base.endswith("/v1") else f"{base}/v1"
