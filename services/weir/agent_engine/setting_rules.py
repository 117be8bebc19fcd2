"""Which settings the platform reads, and what each must look like; any other key is the tenant's own."""

import re
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlsplit

import msgspec

from weir.agent_engine.models.providers import PROVIDERS, provider_type
from weir.agent_engine.naming import invalid
from weir_shared.rate_limits import BadRule, rules_of

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
MAX_VALUE_BYTES = 65_536
OWN_KEY = "byok."
RATE_LIMITS = "rate_limits"


def checked_key(key: str) -> str:
    """The key as it is kept: a provider's in its own spelling. Raises ValidationFailed."""
    if not KEY.fullmatch(key):
        raise invalid("key", "a key is 1 to 200 letters, digits, dots, hyphens and underscores")
    named = key.removeprefix(OWN_KEY)
    if named == key or named in ("enabled", "allowed_providers") or named.startswith("allow_"):
        return key
    found = provider_type(named)
    if found is None:
        near = get_close_matches(named, PROVIDERS, n=1)
        hint = f"did you mean '{OWN_KEY}{near[0]}'?" if near else f"the providers are {', '.join(PROVIDERS)}"
        raise invalid("key", f"there is no provider '{named[:100]}'; {hint}")
    return OWN_KEY + found


def check_value(key: str, value: Any) -> None:
    """Raises ValidationFailed for a value that the platform could not use. Null is as good as never set."""
    if len(msgspec.json.encode(value)) > MAX_VALUE_BYTES:
        raise invalid("value", f"at most {MAX_VALUE_BYTES} bytes")
    if value is None:
        return
    if key == f"{OWN_KEY}allowed_providers":
        _check_providers(value)
    elif key.startswith(OWN_KEY) and not isinstance(value, bool):
        raise invalid("value", f"{key} is true or false")
    elif key == "widget_embed_origins":
        _check_origins(value)
    elif key == RATE_LIMITS:
        _check_rules(value)


def _check_providers(value: Any) -> None:
    for position, name in enumerate(_texts(value)):
        if provider_type(name) is None:
            raise invalid(
                f"value.{position}", f"there is no provider '{name[:100]}'; they are {', '.join(PROVIDERS)}"
            )


def _check_rules(value: Any) -> None:
    try:
        rules_of(value)
    except BadRule as fault:
        raise invalid(f"value.{fault.path}".rstrip("."), str(fault)) from None


def _check_origins(value: Any) -> None:
    for position, origin in enumerate(_texts(value)):
        if not _is_origin(origin):
            raise invalid(f"value.{position}", "an origin looks like https://shop.example.com:8443")


def _texts(value: Any) -> list[str]:
    try:
        return msgspec.convert(value, list[str])
    except msgspec.ValidationError:
        raise invalid("value", "it is a list of texts") from None


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        # Reading the port is what finds a wrong one.
        named = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
    # What follows stands in a header among others, separated by spaces and semicolons.
    plain = re.fullmatch(r"[A-Za-z0-9.:/*\[\]-]+", text) is not None
    return (
        plain and named and parts.scheme in ("http", "https") and text == f"{parts.scheme}://{parts.netloc}"
    )
