"""Documents of lakes, remembered by their version: a version never changes, and reading one anew costs the most."""

import time
from collections import OrderedDict

from weir.context_lake.document import Document
from weir.context_lake.tables import lakes
from weir.context_lake.tables.lakes import StoredLake
from weir_shared.db.pool import Connection

REMEMBERED = 256


class Documents:
    """Each lake's newest document, so that a look at a lake that has not changed costs a look at its number."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[int, Document]] = OrderedDict()
        self._seen: dict[str, float] = {}

    async def read_lake(self, connection: Connection, tenant_id: str) -> StoredLake:
        """The lake at its newest version; what it holds must not be written to."""
        known = self._known.get(tenant_id)
        if known is not None:
            newest = await lakes.newest_version(connection, tenant_id)
            if newest is not None and newest.version == known[0]:
                self._known.move_to_end(tenant_id)
                self._seen[tenant_id] = time.monotonic()
                return StoredLake(version=known[0], document=known[1], updated_at=newest.updated_at)
        lake = await lakes.read_lake(connection, tenant_id)
        if lake.version:
            self._known[tenant_id] = (lake.version, lake.document)
            self._seen[tenant_id] = time.monotonic()
            self._known.move_to_end(tenant_id)
        while len(self._known) > REMEMBERED:
            gone, _ = self._known.popitem(last=False)
            del self._seen[gone]
        return lake

    def recent(self, tenant_id: str, *, seconds: float) -> Document | None:
        """The document that was the newest so many seconds ago or less, without asking anybody."""
        known = self._known.get(tenant_id)
        if known is None or time.monotonic() - self._seen[tenant_id] > seconds:
            return None
        return known[1]
