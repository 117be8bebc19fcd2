"""What a provider means when it refuses or fails: its status, its body and its headers as one of our errors."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec
from msgspec import Struct

from weir.agent_engine.models.base import (
    ModelError,
    ModelMissing,
    ModelOverloaded,
    ModelRateLimited,
    ModelRefused,
    ModelUnauthorized,
    ModelUnavailable,
    ModelUnpaid,
    PromptTooLong,
)
from weir_shared.telemetry.logs import REDACTED, scrub

MAX_TOLD_CHARACTERS = 300

# What providers call a failure that arrives within a stream, where there is no status.
_STATUS_OF: dict[str, int] = {
    "api_error": 500,
    "authentication_error": 401,
    "billing_error": 402,
    "deadline_exceeded": 504,
    "internal": 500,
    "invalid_argument": 400,
    "invalid_request_error": 400,
    "not_found": 404,
    "not_found_error": 404,
    "overloaded_error": 529,
    "permission_denied": 403,
    "permission_error": 403,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "request_too_large": 413,
    "resource_exhausted": 429,
    "server_error": 500,
    "timeout_error": 504,
    "unauthenticated": 401,
    "unavailable": 503,
}
_TOO_LONG = re.compile(
    r"context.length|context_window|context window|maximum context|prompt is too long|too many (input )?tokens"
    r"|input token count|reduce the length|input is too long|exceeds the (model's )?(maximum|limit).{0,40}tokens",
    re.IGNORECASE,
)
_UNPAID = re.compile(
    r"insufficient[ _]quota|insufficient balance|credit balance|out of credits|billing_error", re.IGNORECASE
)
_WITHHELD = re.compile(r"content_filter|content_policy|content management policy|\bsafety\b", re.IGNORECASE)
_BAD_KEY = re.compile(r"api[ _]key[ _](not[ _]valid|invalid)|invalid[ _]api[ _]key", re.IGNORECASE)
_SECONDS = re.compile(r"(\d{1,6}(?:\.\d+)?)s")


class Told(Struct, frozen=True):
    """What a provider said of a failure: its sentence, the names it gives it, and a pause in seconds."""

    message: str = ""
    names: str = ""
    status: int | None = None
    pause: float | None = None


def told_in(body: bytes) -> Told:
    """The sentence of an error body, whichever of the providers' forms it has; nothing for what has none."""
    try:
        return told_of(msgspec.json.decode(body))
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return Told()


def told_of(body: Any) -> Told:
    """The same of a body that was read already."""
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        return Told(message=body) if isinstance(body, str) else Told()
    inner: Any = body.get("error", body)
    if isinstance(inner, str):
        return Told(message=inner)
    if not isinstance(inner, dict):
        return Told()
    message = inner.get("message") or inner.get("detail") or body.get("message") or ""
    names = [inner.get(key) for key in ("type", "code", "status", "reason")]
    known = [str(name) for name in names if isinstance(name, str | int)]
    return Told(
        message=message if isinstance(message, str) else msgspec.json.encode(message).decode(),
        names=" ".join(known),
        status=next((status for name in known if (status := _status(name))), None),
        pause=_retry_delay(inner.get("details")),
    )


def pause_of(headers: Mapping[str, str], told: Told) -> float | None:
    """The seconds that a provider asks to wait, in any of the forms in which it may; None when it asks for none."""
    try:
        if milliseconds := headers.get("retry-after-ms"):
            return max(0.0, float(milliseconds) / 1000)
        if text := headers.get("retry-after"):
            return max(0.0, float(text) if text.strip()[:1].isdigit() and "," not in text else _until(text))
    except (ValueError, OverflowError):
        return told.pause
    return told.pause


def error_of(status: int, told: Told, key: str | None = None) -> ModelError:  # noqa: PLR0911, PLR0912
    """The error of a status and what was said with it; a key that the provider repeats is taken out."""
    said = f"{told.names} {told.message}"
    reason = shown(told.message, key)
    if status < 500 and _TOO_LONG.search(said):
        return PromptTooLong("The conversation is longer than the model's context")
    match status:
        case 402:
            return _unpaid()
        case 401 | 403:
            return ModelUnauthorized("The model's provider refused the API key")
        case 400 if _BAD_KEY.search(said):
            return ModelUnauthorized("The model's provider refused the API key")
        case 404:
            return ModelMissing("The model's provider does not know this model, or nothing is at its address")
        case 413:
            return PromptTooLong("The conversation is larger than the model's provider takes")
        case 429 if _UNPAID.search(said):
            return _unpaid()
        case 429:
            return ModelRateLimited("The model's provider limits how often it may be asked; try again later")
        case 408 | 504:
            return ModelUnavailable("The model's provider did not answer in time")
        case 503 | 529:
            return ModelOverloaded("The model's provider is overloaded; try again later")
        case _ if status < 400:
            return ModelRefused("The model's address leads elsewhere; enter the address it leads to")
        case _ if status < 500 and _UNPAID.search(said):
            return _unpaid()
        case _ if status < 500 and _WITHHELD.search(said):
            return ModelRefused("The model's provider withheld the answer")
        case _ if status < 500:
            return ModelRefused(
                f"The model's provider refused the request (status {status})"
                + (f": {reason}" if reason else "")
            )
        case _:
            return ModelUnavailable(f"The model's provider failed (status {status})")


def error_in_stream(told: Told, key: str | None = None) -> ModelError:
    """The error that a provider reports after its answer has begun."""
    if told.status is not None:
        return error_of(told.status, told, key)
    if _TOO_LONG.search(told.message):
        return error_of(400, told, key)
    return ModelUnavailable("The model's provider reported an error in the middle of its answer")


def shown(text: str, key: str | None = None) -> str:
    """A provider's words as they may be logged and told: one line, not long, and without credentials."""
    if key and len(key) >= 4:
        text = text.replace(key, REDACTED)
    # Known looks first: what is cut in the middle looks like nothing.
    line = " ".join(scrub(text[: 16 * MAX_TOLD_CHARACTERS]).split())
    return "".join(sign for sign in line if sign.isprintable())[:MAX_TOLD_CHARACTERS]


def _unpaid() -> ModelUnpaid:
    return ModelUnpaid("The account at the model's provider has no credit left")


def _status(name: str) -> int | None:
    if name.isascii() and name.isdecimal() and len(name) == 3:
        return int(name)
    return _STATUS_OF.get(name.lower())


def _retry_delay(details: Any) -> float | None:
    """The pause in the details of Google's errors: `{"retryDelay": "34s"}`."""
    for detail in details if isinstance(details, list) else []:
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str) and (found := _SECONDS.fullmatch(delay)):
            return float(found[1])
    return None


def _until(date: str) -> float:
    return (parsedate_to_datetime(date).astimezone(UTC) - datetime.now(UTC)).total_seconds()
