"""A runtime's errors as the lake's own: same status, same code, and the field they belong to."""

from typing import Any

from weir.context_lake.runtimes import RuntimeRefused
from weir_shared.errors import (
    BadGateway,
    DeadlineExceeded,
    FieldError,
    Forbidden,
    InvalidRequest,
    NotFound,
    Unavailable,
    WeirError,
)

_FAMILY: dict[int, type[WeirError]] = {
    400: InvalidRequest,
    403: Forbidden,
    404: NotFound,
    502: BadGateway,
    503: Unavailable,
    504: DeadlineExceeded,
}
# Faults of a part of the request; a client shows them there.
_PATHS = {
    "sql_error": "query",
    "statement_not_allowed": "query",
    "resource_exhausted": "query",
    "engine_error": "query",
    "parameters_mismatch": "parameters",
}
_DETAILS = ("position", "dataset", "phase")


class RuntimeLost(Unavailable):
    """The runtime ended twice under one query; most likely the query is what ends it."""

    code = "vm_error"

    def __init__(self) -> None:
        super().__init__("The lake's runtime ended while it worked on this query")


def error_of(refusal: RuntimeRefused) -> WeirError:
    """The error that the caller is told."""
    status, code = refusal.status, refusal.code or "sql_error"
    if status not in _FAMILY:
        # The engine tripped over this statement; asking again changes nothing, another statement does.
        status, code = 400, "engine_error"
    message = str(refusal) or "The query failed"
    errors = [FieldError(path=_PATHS[code], message=message, code=code)] if code in _PATHS else []
    details: dict[str, Any] = {name: refusal.body[name] for name in _DETAILS if name in refusal.body}
    return _FAMILY[status](message, code=code, errors=errors, details=details)
