"""The family of everything that the platform refuses or fails at: a sentence for a person, a code for a machine.

A room defines its own errors beside what fails, as subclasses of these; `web.errors` renders them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec
from msgspec import Struct


class FieldError(Struct, frozen=True, kw_only=True):
    """One fault of a request: where, what, and its code."""

    path: str
    message: str
    code: str = "invalid"


def field_error_of(fault: msgspec.ValidationError) -> FieldError:
    """Where and what of a msgspec refusal, e.g. a missing `query` becomes `query: query is required`."""
    message, _, where = str(fault).partition(" - at `")
    path = where.rstrip("`").removeprefix("$").removeprefix(".data").removeprefix("data").lstrip(".")
    quoted = message.partition("`")[2].partition("`")[0]
    within = f"{path}." if path else ""
    if message.startswith("Object missing required field"):
        return FieldError(path=within + quoted, message=f"{quoted} is required", code="required")
    if message.startswith("Object contains unknown field"):
        return FieldError(
            path=within + quoted, message=f"{quoted} is not a known field", code="unknown_field"
        )
    return FieldError(path=path, message=message)


class WeirError(Exception):
    """A failure with an HTTP status.

    `errors` are the faults field by field; `details` are further members of the body; `headers` go out with it.
    """

    status: ClassVar[int] = 500
    code: str = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        errors: Sequence[FieldError] = (),
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        self.errors = tuple(errors)
        self.details = dict(details or {})
        self.headers = dict(headers or {})


class InvalidRequest(WeirError):
    status = 400
    code = "invalid_request"


class ValidationFailed(InvalidRequest):
    """A body whose fields are wrong; carries every fault that was found."""

    code = "validation_error"

    def __init__(self, errors: Sequence[FieldError], message: str = "Validation failed") -> None:
        super().__init__(message, errors=errors)


class Unauthorized(WeirError):
    status = 401
    code = "unauthorized"


class Forbidden(WeirError):
    status = 403
    code = "forbidden"


class NotFound(WeirError):
    status = 404
    code = "not_found"


class MethodNotAllowed(WeirError):
    status = 405
    code = "method_not_allowed"


class NotAcceptable(WeirError):
    status = 406
    code = "not_acceptable"


class Conflict(WeirError):
    status = 409
    code = "conflict"


class PayloadTooLarge(WeirError):
    status = 413
    code = "payload_too_large"


class UnsupportedMediaType(WeirError):
    status = 415
    code = "unsupported_media_type"


class TooManyRequests(WeirError):
    status = 429
    code = "rate_limited"


class BadGateway(WeirError):
    status = 502
    code = "bad_gateway"


class Unavailable(WeirError):
    status = 503
    code = "unavailable"


class DeadlineExceeded(WeirError):
    status = 504
    code = "timeout"
