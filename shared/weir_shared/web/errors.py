"""One failure, two dialects: the engine's error body and the lake's.

Engine: `{"error": code, "message": sentence}`. Lake: `{"error": sentence, "code": code, "errors": […], "requestId"}`.
Litestar's own refusals are translated into the platform's family first, so that both dialects cover them.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import (
    HTTPException,
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
    UnsupportedMediaType,
    ValidationFailed,
    WeirError,
    field_error_of,
)

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
CHALLENGE = 'Bearer realm="weir"'


class InvalidJson(InvalidRequest):
    code = "invalid_json"


def render_engine_error(error: WeirError, request_id: str) -> dict[str, Any]:
    body: dict[str, Any] = {"error": ENGINE_CODES.get(error.status, error.code), "message": error.message}
    if error.errors:
        body["errors"] = [{"path": item.path, "message": item.message} for item in error.errors]
    return body | error.details


def render_lake_error(error: WeirError, request_id: str) -> dict[str, Any]:
    body: dict[str, Any] = {"error": error.message, "code": error.code}
    if error.errors:
        body["errors"] = [msgspec.structs.asdict(item) for item in error.errors]
    return body | error.details | {"requestId": request_id}


def error_headers(error: WeirError) -> dict[str, str]:
    challenge = {"WWW-Authenticate": CHALLENGE} if isinstance(error, Unauthorized) else {}
    return challenge | error.headers


def error_handler(render: Renderer) -> Callable[[Request[Any, Any, Any], Exception], Response[Any]]:
    """The handler of every exception that leaves a route of a service."""

    def handle(request: Request[Any, Any, Any], fault: Exception) -> Response[Any]:
        error = translate(fault)
        if error.status == 500:
            log.exception("request failed", path=request.url.path, exc_info=fault)
        body = render(error, request.headers.get("x-request-id", ""))
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
        case RecursionError():
            return InvalidJson("The JSON is nested too deeply")
        case UnicodeDecodeError():
            return InvalidJson("The body is not valid UTF-8")
        case HTTPException() if fault.status_code == HTTP_413_REQUEST_ENTITY_TOO_LARGE:
            return PayloadTooLarge("The body is larger than this route accepts")
        case HTTPException() if fault.status_code == 415:
            return UnsupportedMediaType(fault.detail)
        case HTTPException() if fault.status_code < 500:
            return InvalidJson(fault.detail)
        case _:
            return WeirError("The platform failed at this request; it is logged under the request's id")


def _field_error(fault: ValidationException) -> FieldError:
    cause = fault.__cause__
    if isinstance(cause, msgspec.ValidationError):
        error = field_error_of(cause)
        if (error.path, error.code) == ("data", "required"):
            return FieldError(path="", message="A JSON body is required", code="required")
        return error
    return FieldError(path="", message=fault.detail)
