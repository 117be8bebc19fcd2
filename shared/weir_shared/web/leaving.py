"""Work for a caller who may leave: it ends with him."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")
Receive = Callable[[], Awaitable[Any]]


class CallerLeft(Exception):
    """Nobody waits for the answer any more."""


async def unless_gone(running: Awaitable[T], receive: Receive) -> T:
    """The result of the work; it is cancelled when the caller leaves. The request's body has been read before.

    Raises CallerLeft.
    """
    work = asyncio.ensure_future(running)
    leaving = asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise CallerLeft
    finally:
        leaving.cancel()
        if not work.done():
            work.cancel()
            await asyncio.wait({work})
    return work.result()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
