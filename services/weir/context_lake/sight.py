"""Which tables a caller's statement may name, looked up for every query and cheap for nearly all of them."""

from collections import OrderedDict

from weir.context_lake.document import Document
from weir.context_lake.permissions import visible_tables
from weir.context_lake.tables import lakes
from weir_shared.auth.principal import Principal
from weir_shared.db.pool import Database

REMEMBERED = 256


class Sight:
    """Remembers each lake's newest document, so that a query costs the look at one number."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._documents: OrderedDict[str, tuple[int, Document]] = OrderedDict()

    async def tables_of(self, principal: Principal) -> frozenset[str] | None:
        """The names that the caller may use; None is all of them, which an admin always may."""
        if principal.is_admin:
            return None
        return visible_tables(await self._document(principal.tenant_id), principal)

    async def _document(self, tenant_id: str) -> Document:
        known = self._documents.get(tenant_id)
        async with self._database.tenant(tenant_id) as connection:
            if known is not None and known[0] == await lakes.newest_version(connection, tenant_id):
                return known[1]
            lake = await lakes.read_lake(connection, tenant_id)
        self._documents[tenant_id] = (lake.version, lake.document)
        self._documents.move_to_end(tenant_id)
        while len(self._documents) > REMEMBERED:
            self._documents.popitem(last=False)
        return lake.document
