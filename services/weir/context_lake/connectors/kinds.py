"""What a parameter's text may be, kind by kind, in the words that a message has for it."""

import json
import re
from collections.abc import Callable
from typing import Any, Literal
from urllib.parse import urlsplit

Kind = Literal[
    "text",
    "choice",
    "switch",
    "count",
    "character",
    "url",
    "duration",
    "wait",
    "port",
    "host",
    "certificate",
    "service_account",
    "headers",
]

SWITCH_WORDS = {"true": True, "enabled": True, "false": False, "disabled": False}
KEY_PARTS = ("client_email", "private_key", "private_key_id")
_DURATION = re.compile(r"(?:\d+(?:ms|s|m|h|d|w))+")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
_HEADER = re.compile(r"\s*[A-Za-z0-9-]+\s*:[^\r\n]*")
_MAX_DIGITS = 9


def wish_of(kind: Kind, value: str, choices: tuple[str, ...]) -> str:
    """What a value should be in words, or '' when it is that."""
    if kind == "choice":
        return "" if value in choices else f"one of {', '.join(choices)}"
    fits, words = _KINDS[kind]
    return "" if fits(value) else words


def is_on(value: str | None) -> bool:
    return SWITCH_WORDS.get((value or "").lower(), False)


def service_account_key(text: str) -> dict[str, str] | None:
    """What is needed of a Google service account's key, and nothing else: a key may name a server."""
    try:
        key: Any = json.loads(text)
        return {part: str(key[part]) for part in KEY_PARTS}
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _is_number(value: str, most: int) -> bool:
    return value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS and 0 < int(value) <= most


def _is_url(value: str) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def _is_certificate(value: str) -> bool:
    return value.lstrip().startswith("-----BEGIN CERTIFICATE-----") and "-----END CERTIFICATE-----" in value


def _are_headers(value: str) -> bool:
    pairs = [pair for pair in re.split("[,;]", value) if pair.strip()]
    return bool(pairs) and all(_HEADER.fullmatch(pair) for pair in pairs)


_KINDS: dict[str, tuple[Callable[[str], bool], str]] = {
    "text": (bool, "a text that is not empty"),
    "switch": (lambda value: value.lower() in SWITCH_WORDS, "true or false"),
    "count": (lambda value: _is_number(value, 10**_MAX_DIGITS), "a whole number of at least 1"),
    "character": (lambda value: len(value) == 1, "one character"),
    "url": (_is_url, "a URL that begins with http:// or https://"),
    "duration": (lambda value: bool(_DURATION.fullmatch(value)), "a duration such as 30s or 1h30m"),
    "wait": (
        lambda value: _is_number(value, 3600) or bool(_DURATION.fullmatch(value)),
        "a number of seconds or a duration such as 500ms",
    ),
    "port": (lambda value: _is_number(value, 65535), "a port from 1 to 65535"),
    "host": (lambda value: bool(_HOST.fullmatch(value)), "one host's name or address, without a port"),
    "certificate": (_is_certificate, "the text of a PEM certificate"),
    "service_account": (
        lambda value: service_account_key(value) is not None,
        f"the JSON text of a service account's key, with {', '.join(KEY_PARTS)}",
    ),
    "headers": (_are_headers, "name: value pairs, separated by commas or semicolons"),
}
