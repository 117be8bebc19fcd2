"""The built-in catalogue of known models and their providers, which anybody may read; its facts are in `catalogue.json`."""

from functools import cache
from importlib.resources import files

import msgspec
from msgspec import Struct

from weir.agent_engine.wire.registry import ListedModel, ListedProvider
from weir_shared.errors import FieldError, ValidationFailed

TIERS = ("1", "2", "3")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class Catalogue(Struct, frozen=True, kw_only=True):
    """`as_of` is the month in which the facts were gathered: prices and sizes change."""

    as_of: str
    providers: list[ListedProvider]
    models: list[ListedModel]


@cache
def catalogue() -> Catalogue:
    """What is known, by tier and then by provider."""
    content = files("weir.agent_engine.models").joinpath("catalogue.json").read_bytes()
    return msgspec.json.decode(content, type=Catalogue)


def known_models(provider: str | None, tier: str | None, supports_tools: str | None) -> list[ListedModel]:
    """The models that fit every filter that is given. Raises ValidationFailed for one that makes no sense."""
    if tier is not None and tier not in TIERS:
        raise _bad("tier", "a tier is 1, 2 or 3")
    tools = None if supports_tools is None else _BOOLEANS.get(supports_tools.lower())
    if supports_tools is not None and tools is None:
        raise _bad("supports_tools", "it is true or false")
    wanted = provider and provider.strip().lower().replace("-", "_")
    return [
        model
        for model in catalogue().models
        if (not wanted or model.provider == wanted)
        and (tier is None or model.tier == int(tier))
        and (tools is None or model.supports_tools == tools)
    ]


def longest_answer(model_name: str) -> int | None:
    """The most tokens that a known model writes in one answer."""
    return next((model.max_output for model in catalogue().models if model.id == model_name), None)


def first_model(type: str) -> str | None:
    """The model that is meant when somebody names a provider and no model."""
    provider = "openai" if type == "openai_compatible" else type
    return next((model.id for model in catalogue().models if model.provider == provider), None)


def _bad(path: str, message: str) -> ValidationFailed:
    return ValidationFailed([FieldError(path=path, message=message)], f"{path}: {message}")
