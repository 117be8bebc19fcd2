"""How `POST /sql` stands in the API document: its body is read by hand, its answer is the runtime's."""

from dataclasses import dataclass
from typing import Any

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from msgspec import Struct

from weir.context_lake.sql import DEFAULT_ROWS, MAX_ROWS, MAX_SECONDS


class Column(Struct, frozen=True):
    name: str
    type: str
    nullable: bool


class Rows(Struct, frozen=True):
    """Rows as objects, their columns, and whether `maxRows` cut them."""

    rows: list[dict[str, Any]]
    schema: list[Column]
    rowCount: int
    truncated: bool
    durationMs: float
    coldStart: bool


RESPONSES = {200: ResponseSpec(data_container=Rows, description="The rows", generate_examples=False)}

_QUERY = Schema(
    type=OpenAPIType.OBJECT,
    required=["query"],
    properties={
        "query": Schema(type=OpenAPIType.STRING, description="One SQL query; `sql` is another name of it"),
        "parameters": Schema(description="A list for $1, $2, …, or an object for $name"),
        "maxRows": Schema(
            type=OpenAPIType.INTEGER,
            minimum=1,
            description=f"At most so many rows. JSON: {DEFAULT_ROWS} unless told, up to {MAX_ROWS}; "
            "a text table: up to 10000; NDJSON, CSV and Arrow have every row unless told",
        ),
        "timeoutSeconds": Schema(
            type=OpenAPIType.NUMBER, minimum=1, maximum=MAX_SECONDS, default=MAX_SECONDS
        ),
    },
    additional_properties=False,
)


@dataclass
class QueryOperation(Operation):
    """The operation with its body."""

    def __post_init__(self) -> None:
        self.request_body = RequestBody(
            required=True,
            content={
                "application/json": OpenAPIMediaType(schema=_QUERY),
                "text/plain": OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING)),
            },
        )
