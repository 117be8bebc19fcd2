"""Whether the ledger can keep vectors: it needs pgvector, which not every Postgres has."""

from weakref import WeakSet

from weir.agent_engine.tables import knowledge
from weir_shared.db.pool import Database
from weir_shared.errors import Unavailable

_ready: WeakSet[Database] = WeakSet()


class NoVectors(Unavailable):
    code = "pgvector_missing"

    def __init__(self) -> None:
        super().__init__(
            "Knowledge needs the extension pgvector 0.8 or newer in the platform's database: install it on the "
            "Postgres server and run `create extension vector`; nothing has to be restarted"
        )


async def require_vectors(database: Database) -> None:
    """Raises NoVectors. What is missing is made as soon as it can be."""
    if database in _ready:
        return
    async with database.any_tenant() as connection:
        if not await knowledge.make_vectors_any(connection):
            raise NoVectors
    _ready.add(database)
