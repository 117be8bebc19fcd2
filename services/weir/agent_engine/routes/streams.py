"""Event streams over HTTP: our own bytes, unbuffered by whatever stands between."""

from collections.abc import AsyncIterator

from litestar.response import Stream

HEADERS = {"Cache-Control": "no-cache", "Connection": "keep-alive", "X-Accel-Buffering": "no"}
EVENT_STREAM = "text/event-stream"


def event_stream(events: AsyncIterator[bytes], session_id: str) -> Stream:
    return Stream(events, media_type=EVENT_STREAM, headers=HEADERS | {"X-Session-Id": session_id})
