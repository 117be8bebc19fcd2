"""One JSON object a line, redacted before anything else happens to it."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import msgspec
import structlog
from structlog.typing import Processor

MAX_TEXT = 4096
REDACTED = "[redacted]"

_SECRET_NAME = re.compile(
    r"(authorization|api[_-]?key|secret|password|passwd|token|ticket|credential|private[_-]?key|cookie|_pass$)",
    re.IGNORECASE,
)
# Names that look secret and are not: counts of a model's tokens.
_COUNT_NAME = re.compile(r"(_tokens|tokens_|_count)$|^tokens$", re.IGNORECASE)
_SECRET_VALUE = re.compile(
    r"\b(?:bb|rbk)_[0-9a-f]{16,}"
    r"|\bAKIA[0-9A-Z]{12,}"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]+)?"
    r"|\bsk-[\w-]{16,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)


def configure_logs(service: str, level: str = "info") -> None:
    """Sends this process's logs, and those of its libraries, to standard error as JSON lines."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.format_exc_info,
        redact,
    ]
    numeric = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, _render],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[_drop_meta, redact, _render]
        )
    )
    logging.basicConfig(handlers=[handler], level=max(numeric, logging.WARNING), force=True)


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hides what is secret by its name or by its looks, and cuts what is too long."""
    for name, value in event.items():
        event[name] = _clean(name, value)
    return event


def scrub(text: str) -> str:
    """The text without credentials that are known by their looks."""
    return _SECRET_VALUE.sub(REDACTED, text)


def _clean(name: str, value: Any) -> Any:
    if _SECRET_NAME.search(name) and not _COUNT_NAME.search(name):
        return REDACTED
    if isinstance(value, str):
        return scrub(value[:MAX_TEXT])
    if isinstance(value, dict):
        return {str(key): _clean(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean("", item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return scrub(str(value)[:MAX_TEXT])


def _render(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    # A lone surrogate cannot be UTF-8; it is written as an escape.
    try:
        return msgspec.json.encode(event).decode()
    except UnicodeEncodeError:
        safe = {key: str(value).encode("utf-8", "backslashreplace").decode() for key, value in event.items()}
        return msgspec.json.encode(safe).decode()


def _drop_meta(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event.pop("_record", None)
    event.pop("_from_structlog", None)
    return event
