"""One failure, three dialects: the engine's error body, the lake's, and the one that OpenAI's clients read.

Engine: `{"error": code, "message": sentence}`. Lake: `{"error": sentence, "code": code, "errors": […], "requestId"}`.
OpenAI: `{"error": {"message", "type", "param", "code"}}`.
Litestar's own refusals are translated into the platform's family first, so that every dialect covers them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import (
    HTTPException,
    InternalServerException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)
from litestar.status_codes import HTTP_413_REQUEST_ENTITY_TOO_LARGE

from weir_shared.errors import (
    FieldError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
    ValidationFailed,
    WeirError,
    field_error_of,
)
from weir_shared.sealing import SealError

Renderer = Callable[[WeirError, str], dict[str, Any]]

log = structlog.get_logger(__name__)

# The engine's reference names one code for each of these, whatever the finer reason.
ENGINE_CODES = {
    400: "invalid_request",
    401: "unauthorized",
    404: "not_found",
    409: "conflict",
    429: "rate_limited",
}
# Litestar's words for a caller that left while its body was read.
_LEFT = "client disconnected prematurely"
CHALLENGE = 'Bearer realm="weir"'
OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
OPENAI_CODES = {429: "rate_limit_exceeded"}


class InvalidJson(InvalidRequest):
    code = "invalid_json"


class BodyBrokenOff(InvalidRequest):
    """Nobody is there to read this any more; it is no failure of ours, and the log need not cry."""

    code = "body_broken_off"

    def __init__(self) -> None:
        super().__init__("The connection was closed before the body was whole")


class SecretsUnavailable(Unavailable):
    """The operator's matter: the log has the key's name, the caller gets this."""

    code = "secrets_unavailable"

    def __init__(self) -> None:
        super().__init__(
            "The secrets of this tenant cannot be opened with the keys that are loaded; the operator finds the "
            "reason in the log"
        )


def render_engine_error(error: WeirError, request_id: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "error": ENGINE_CODES.get(error.status, error.code),
        "message": _with_faults(error),
    }
    if error.errors:
        body["errors"] = [{"path": item.path, "message": item.message} for item in error.errors]
    return body | error.details


def render_lake_error(error: WeirError, request_id: str) -> dict[str, Any]:
    body: dict[str, Any] = {"error": error.message, "code": error.code}
    if error.errors:
        body["errors"] = [msgspec.structs.asdict(item) for item in error.errors]
    return body | error.details | {"requestId": request_id}


def render_openai_error(error: WeirError, request_id: str) -> dict[str, Any]:
    """`type` goes by the status, `param` is the place of the first fault."""
    fallback = "server_error" if error.status >= 500 else "invalid_request_error"
    told = {
        "message": _with_faults(error),
        "type": OPENAI_TYPES.get(error.status, fallback),
        "param": error.errors[0].path or None if error.errors else None,
        "code": OPENAI_CODES.get(error.status, error.code),
    }
    return {"error": told} | error.details


def error_headers(error: WeirError) -> dict[str, str]:
    challenge = {"WWW-Authenticate": CHALLENGE} if isinstance(error, Unauthorized) else {}
    return challenge | error.headers


def error_handler(
    render: Renderer, dialects: Mapping[str, Renderer] | None = None
) -> Callable[[Request[Any, Any, Any], Exception], Response[Any]]:
    """The handler of every exception that leaves a route of a service.

    `dialects` are the renderers of paths that begin otherwise than the rest.
    """

    def handle(request: Request[Any, Any, Any], fault: Exception) -> Response[Any]:
        error = translate(fault)
        if error.status == 500 or isinstance(error, SecretsUnavailable):
            log.exception("request failed", path=request.url.path, exc_info=fault)
        path = request.scope["path"]
        spoken = next(
            (other for prefix, other in (dialects or {}).items() if path.startswith(prefix)), render
        )
        body = spoken(error, request.headers.get("x-request-id", ""))
        return Response(
            body, status_code=error.status, headers=error_headers(error), media_type="application/json"
        )

    return handle


def translate(fault: Exception) -> WeirError:  # noqa: PLR0911
    """Any exception as one of ours; what nobody foresaw becomes a 500 that tells nothing."""
    match fault:
        case WeirError():
            return fault
        case ValidationException():
            return ValidationFailed([_field_error(fault)])
        case NotFoundException():
            return NotFound("There is nothing at this path")
        case MethodNotAllowedException():
            allowed = (fault.headers or {}).get("allow", "")
            return MethodNotAllowed("This path does not take that method", headers={"Allow": allowed})
        case SealError():
            return SecretsUnavailable()
        case RecursionError():
            return InvalidJson("The JSON is nested too deeply")
        case UnicodeDecodeError():
            return InvalidJson("The body is not valid UTF-8")
        case HTTPException() if fault.status_code == HTTP_413_REQUEST_ENTITY_TOO_LARGE:
            return PayloadTooLarge("The body is larger than this route accepts")
        case HTTPException() if fault.status_code == 415:
            return UnsupportedMediaType(fault.detail)
        case HTTPException() if fault.status_code < 500:
            # The parser's words alone ("Input data was truncated") do not say what was wrong with.
            return InvalidJson(
                f"The body is not valid JSON: {fault.detail.removeprefix('JSON is malformed: ')}"
            )
        case InternalServerException() if fault.detail == _LEFT:
            return BodyBrokenOff()
        case _:
            return WeirError("The platform failed at this request; it is logged under the request's id")


def _with_faults(error: WeirError) -> str:
    """The error's sentence, with those of its faults where it does not hold them."""
    if all(item.message in error.message for item in error.errors):
        return error.message
    faults = "; ".join(f"{item.path}: {item.message}" if item.path else item.message for item in error.errors)
    return f"{error.message}: {faults}"


def _field_error(fault: ValidationException) -> FieldError:
    cause = fault.__cause__
    if isinstance(cause, msgspec.ValidationError):
        error = field_error_of(cause)
        if (error.path, error.code) == ("data", "required"):
            return FieldError(path="", message="A JSON body is required", code="required")
        return error
    return FieldError(path="", message=fault.detail)
