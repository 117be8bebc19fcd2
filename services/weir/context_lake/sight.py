"""Which tables a caller's statement may name, looked up for every query and cheap for nearly all of them."""

from msgspec import Struct

from weir.context_lake.document import Document
from weir.context_lake.permissions import visible_tables
from weir.context_lake.remembered import Documents
from weir_shared.auth.principal import Principal
from weir_shared.db.pool import Database, DatabaseUnavailable

# How long what was last read may stand in for a database that cannot be reached.
OUTAGE_SECONDS = 60


class Sight(Struct, frozen=True):
    """Looks a caller's tables up in the lake's newest document."""

    database: Database
    documents: Documents

    async def tables_of(self, principal: Principal) -> frozenset[str] | None:
        """The names that the caller may use; None is all of them, which an admin always may."""
        if principal.is_admin:
            return None
        return visible_tables(await self._document(principal.tenant_id), principal)

    async def _document(self, tenant_id: str) -> Document:
        """The newest; while the database is away, the one that was seen within the last minute."""
        try:
            async with self.database.tenant(tenant_id) as connection:
                lake = await self.documents.read_lake(connection, tenant_id)
        except DatabaseUnavailable:
            document = self.documents.recent(tenant_id, seconds=OUTAGE_SECONDS)
            if document is None:
                raise
            return document
        return lake.document
