"""The registry on the wire: known models and their providers."""

from msgspec import Struct


class ListedModel(Struct, frozen=True, kw_only=True):
    """A known model. `tier` 1 leads others, 2 works for them, 3 does small things; prices are USD per million tokens."""

    id: str
    display_name: str
    provider: str
    tier: int
    context_window: int
    max_output: int
    supports_tools: bool
    supports_vision: bool
    pricing_input: float
    pricing_output: float
    description: str
    recommended_for: list[str]


class ListedProvider(Struct, frozen=True, kw_only=True):
    """A provider; `auth_type` is `api_key` or `none`, `website` a host."""

    id: str
    display_name: str
    auth_type: str
    website: str
