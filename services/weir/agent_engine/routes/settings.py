"""/api/v1/settings"""

from litestar import get, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from weir.agent_engine import settings
from weir.agent_engine.studio import Studio
from weir.agent_engine.wire.settings import NewSetting, SettingDetail
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal

ADMIN = [requires_scope("admin")]


@get("/settings", guards=ADMIN)
async def list_settings(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal]
) -> list[SettingDetail]:
    """The tenant's settings, by key."""
    return await settings.list_settings(studio.database, principal.tenant_id)


@get("/settings/{key:str}", guards=ADMIN)
async def read_setting(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], key: FromPath[str]
) -> SettingDetail:
    """One setting."""
    return await settings.read_setting(studio.database, principal.tenant_id, key)


@put("/settings/{key:str}", guards=ADMIN)
async def put_setting(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    key: FromPath[str],
    data: JSONBody[NewSetting],
) -> SettingDetail:
    """Sets it, to any JSON; the next request sees it."""
    return await settings.put_setting(studio.database, studio.doorbell, principal.tenant_id, key, data.value)


ROUTES = [list_settings, read_setting, put_setting]
