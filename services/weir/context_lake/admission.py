"""How many queries of one tenant this process works on at once, and how many may wait for their turn."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from weir.context_lake import measures
from weir_shared.errors import TooManyRequests

RUNNING = 10
QUEUED = 50


class TooManyQueries(TooManyRequests):
    code = "too_many_queries"

    def __init__(self) -> None:
        super().__init__(
            f"The lake already works on {RUNNING} queries and {QUEUED} wait; try again shortly",
            headers={"Retry-After": "1"},
        )


class _Desk:
    """One tenant's places."""

    def __init__(self) -> None:
        self.places = asyncio.Semaphore(RUNNING)
        self.present = 0


class Admission:
    """Lets queries in, first come, first served."""

    def __init__(self) -> None:
        self._desks: dict[str, _Desk] = {}

    @asynccontextmanager
    async def place(self, tenant_id: str) -> AsyncGenerator[None, None]:
        """A place for one query, waited for. Raises TooManyQueries when too many wait already."""
        desk = self._desks.setdefault(tenant_id, _Desk())
        if desk.present >= RUNNING + QUEUED:
            measures.SQL_REJECTED.labels("too_many_queries").inc()
            raise TooManyQueries
        desk.present += 1
        try:
            with measures.SQL_QUEUED.track_inprogress():
                await desk.places.acquire()
            try:
                with measures.SQL_RUNNING.track_inprogress():
                    yield
            finally:
                desk.places.release()
        finally:
            desk.present -= 1
            if desk.present == 0:
                del self._desks[tenant_id]
