"""A reload: there is nothing to load, since each request reads what is configured; it is counted and said."""

from weir.agent_engine.tables import agents, models
from weir.agent_engine.wire.portable import Reloaded
from weir_shared.db.pool import Database


async def reload(database: Database, tenant_id: str) -> Reloaded:
    async with database.tenant(tenant_id) as connection:
        count = await agents.count(connection, tenant_id)
        known = await models.every(connection, tenant_id)
    return Reloaded(agents_loaded=count, agents_count=count, models_loaded=len(known))
