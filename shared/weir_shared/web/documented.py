"""What the API document says of every route besides its own answer: who may ask, and how a refusal looks."""

from collections.abc import Mapping
from typing import Literal

from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import (
    Components,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    PathItem,
    Reference,
    Schema,
)
from litestar.routes import HTTPRoute

from weir_shared.auth.guards import is_open_to_all, scopes_of

Dialect = Literal["engine", "lake", "openai"]

# As the gateway, which joins the documents of the services, defines them.
SCHEMES = ("bearer", "apiKey")


def describe_refusals(app: Litestar, dialect: Dialect, others: Mapping[str, Dialect]) -> None:
    """Puts credentials, scopes and the error body of the dialect into the app's API document.

    `others` are the dialects of paths that begin otherwise than the rest.
    """
    document = app.openapi_schema
    document.components = document.components or Components()
    schemas = {name: _error_schema(name) for name in (dialect, *others.values())}
    document.components.schemas = {**(document.components.schemas or {}), **dict(schemas.values())}
    for route in app.routes:
        spoken = next((other for prefix, other in others.items() if route.path.startswith(prefix)), dialect)
        error = Reference(ref=f"#/components/schemas/{schemas[spoken][0]}")
        item = (document.paths or {}).get(route.path_format)
        if isinstance(route, HTTPRoute) and isinstance(item, PathItem):
            for handler in route.route_handlers:
                for operation in _operations(item, handler):
                    _describe(operation, handler, error, has_name="{" in route.path_format)


def _operations(item: PathItem, handler: HTTPRouteHandler) -> list[Operation]:
    found = (getattr(item, method.lower(), None) for method in handler.http_methods if method != "OPTIONS")
    return [operation for operation in found if operation is not None]


def _describe(operation: Operation, handler: HTTPRouteHandler, error: Reference, *, has_name: bool) -> None:
    refusals = {"400": "The request is wrong; the sentence says where"}
    if is_open_to_all(handler):
        operation.security = []
    else:
        scopes = list((scopes_of(handler) or ())[:1])
        operation.security = [{scheme: scopes} for scheme in SCHEMES]
        refusals["401"] = "No credential, or one that is not valid"
        if scopes:
            refusals["403"] = f"The credential lacks the scope `{scopes[0]}`"
    if has_name:
        refusals["404"] = "The tenant has nothing of that name"
    refusals["default"] = "Any other refusal or failure"
    responses = operation.responses = dict(operation.responses or {})
    for status, description in refusals.items():
        body = {"application/json": OpenAPIMediaType(schema=error)}
        responses[status] = OpenAPIResponse(description=description, content=body)


def _error_schema(dialect: Dialect) -> tuple[str, Schema]:
    text = Schema(type=OpenAPIType.STRING)
    fault = {"path": text, "message": text}
    if dialect == "openai":
        return "OpenAIError", Schema(
            type=OpenAPIType.OBJECT, required=["error"], properties={"error": _openai_error()}
        )
    if dialect == "engine":
        return "EngineError", Schema(
            type=OpenAPIType.OBJECT,
            required=["error", "message"],
            properties={
                "error": Schema(type=OpenAPIType.STRING, description="The code, for a machine"),
                "message": Schema(type=OpenAPIType.STRING, description="The sentence, for a person"),
                "errors": _list_of(fault),
            },
        )
    return "LakeError", Schema(
        type=OpenAPIType.OBJECT,
        required=["error", "code", "requestId"],
        properties={
            "error": Schema(type=OpenAPIType.STRING, description="The sentence, for a person"),
            "code": Schema(type=OpenAPIType.STRING, description="The code, for a machine"),
            "errors": _list_of({**fault, "code": text}),
            "requestId": text,
        },
    )


def _openai_error() -> Schema:
    text, unless = Schema(type=OpenAPIType.STRING), [OpenAPIType.STRING, OpenAPIType.NULL]
    return Schema(
        type=OpenAPIType.OBJECT,
        required=["message", "type", "param", "code"],
        properties={
            "message": Schema(type=OpenAPIType.STRING, description="The sentence, for a person"),
            "type": text,
            "param": Schema(type=unless, description="The first field that is wrong"),
            "code": Schema(type=OpenAPIType.STRING, description="The code, for a machine"),
        },
    )


def _list_of(properties: dict[str, Schema]) -> Schema:
    item = Schema(
        type=OpenAPIType.OBJECT,
        required=list(properties),
        properties={**properties},
    )
    return Schema(type=OpenAPIType.ARRAY, items=item, description="The faults, field by field")
