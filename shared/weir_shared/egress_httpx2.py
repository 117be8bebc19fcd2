"""The one way out for libraries that speak through httpx2: their requests go through the checked session."""

import ssl
from collections.abc import AsyncIterator

import aiohttp
import httpx2
from yarl import URL

from weir_shared.egress import check_url


class EgressTransport(httpx2.AsyncBaseTransport):
    """Sends each request by a session of `open_egress`; a body larger than allowed ends with ReadError.

    A stream of events has no end and no size; who reads it bounds its events and its time.
    """

    def __init__(self, egress: aiohttp.ClientSession, *, allow_private: bool, most_bytes: int) -> None:
        self._egress = egress
        self._allow_private = allow_private
        self._most_bytes = most_bytes

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises ForbiddenAddress and httpx2.TransportError."""
        url = str(request.url)
        check_url(url, allow_private=self._allow_private)
        limits = request.extensions.get("timeout", {})
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=limits.get("connect"), sock_read=limits.get("read")
        )
        # The body comes as it is, encoded or not: httpx2 decodes it by the same headers, after the size is counted.
        headers = [
            (name, value) for name, value in request.headers.multi_items() if name != "accept-encoding"
        ]
        try:
            answer = await self._egress.request(
                request.method,
                URL(url, encoded=True),
                data=await request.aread() or None,
                headers=[*headers, ("Accept-Encoding", "identity")],
                allow_redirects=False,
                timeout=timeout,
            )
        except (aiohttp.ClientError, TimeoutError, ssl.SSLError, OSError) as fault:
            raise httpx2.ConnectError(str(fault) or type(fault).__name__, request=request) from fault
        is_stream = answer.content_type == "text/event-stream"
        body = _Body(answer, None if is_stream else self._most_bytes, request)
        kept = [(name, value) for name, value in answer.headers.items() if name.lower() != "content-encoding"]
        return httpx2.Response(answer.status, headers=kept, stream=body, request=request)


class _Body(httpx2.AsyncByteStream):
    def __init__(
        self, answer: aiohttp.ClientResponse, most_bytes: int | None, request: httpx2.Request
    ) -> None:
        self._answer = answer
        self._most_bytes = most_bytes
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        try:
            async for chunk in self._answer.content.iter_any():
                size += len(chunk)
                if self._most_bytes is not None and size > self._most_bytes:
                    raise httpx2.ReadError(
                        f"the answer is larger than {self._most_bytes} bytes", request=self._request
                    )
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as fault:
            raise httpx2.ReadError(str(fault) or type(fault).__name__, request=self._request) from fault

    async def aclose(self) -> None:
        # Read to its end it goes back to the pool by itself; otherwise its connection is of no more use.
        self._answer.close()
