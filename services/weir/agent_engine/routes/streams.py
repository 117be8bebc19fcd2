"""Event streams over HTTP: our own bytes, unbuffered by whatever stands between."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIResponse, OpenAPIType, Operation, Schema
from litestar.response import Stream

HEADERS = {"Cache-Control": "no-cache", "Connection": "keep-alive", "X-Accel-Buffering": "no"}
EVENT_STREAM = "text/event-stream"
# How a stream stands in the API document.
STREAMED = ResponseSpec(
    data_container=str,
    media_type=EVENT_STREAM,
    description="The turn's events, `done` last",
    generate_examples=False,
)


@dataclass
class StreamedOperation(Operation):
    """An operation whose answer has two forms in the document: the stream, and the whole of `stream: false`."""

    def __post_init__(self) -> None:
        answer = (self.responses or {}).get("200")
        if isinstance(answer, OpenAPIResponse) and answer.content is not None:
            streamed = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING))
            answer.content = {EVENT_STREAM: streamed, **answer.content}


def event_stream(events: AsyncIterator[bytes], session_id: str) -> Stream:
    return Stream(events, media_type=EVENT_STREAM, headers=HEADERS | {"X-Session-Id": session_id})
