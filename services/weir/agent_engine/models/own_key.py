"""A caller's own model for one request: which provider, with whose key; checked, used and forgotten.

Nothing of it is written down, and a turn that it answers has it in memory only.
"""

from collections.abc import Mapping

from msgspec import Struct

from weir.agent_engine.models.base import ModelAccess
from weir.agent_engine.models.catalogue import first_model
from weir.agent_engine.models.providers import PROVIDERS, base_of, provider_type
from weir.agent_engine.tables import settings
from weir.agent_engine.tables.models import ModelRow
from weir_shared.db.pool import Connection
from weir_shared.egress import ForbiddenAddress, check_url
from weir_shared.errors import Forbidden, InvalidRequest

PROVIDER, API_KEY = "X-Model-Provider", "X-Model-API-Key"
NAME, BASE_URL = "X-Model-Name", "X-Model-Base-URL"
HEADERS = (PROVIDER, API_KEY, NAME, BASE_URL)
# What clients of older engines say instead.
OLD_NAMES = {
    PROVIDER: "X-BYOK-Provider",
    API_KEY: "X-BYOK-API-Key",
    NAME: "X-BYOK-Model",
    BASE_URL: "X-BYOK-Base-URL",
}
MAX_CHARACTERS = {PROVIDER: 100, API_KEY: 8192, NAME: 200, BASE_URL: 2000}


class OwnModel(Struct, frozen=True, kw_only=True):
    """What the headers of a request say; `type` is one of the providers."""

    type: str
    api_key: str | None
    model_name: str | None
    base_url: str | None

    def __repr__(self) -> str:
        return f"OwnModel(type={self.type!r})"


def own_model_in(headers: Mapping[str, str]) -> OwnModel | None:
    """The model that a request brings, or None when it brings none. Raises InvalidRequest."""
    given = {name: headers.get(name, headers.get(OLD_NAMES[name])) for name in HEADERS}
    if all(value is None for value in given.values()):
        return None
    for name, value in given.items():
        if value is not None and not (len(value) <= MAX_CHARACTERS[name] and _is_plain(value)):
            raise InvalidRequest(f"{name}: printable ASCII of at most {MAX_CHARACTERS[name]} characters")
    kind = provider_type(given[PROVIDER] or "")
    if kind is None:
        raise InvalidRequest(f"{PROVIDER}: one of {', '.join(PROVIDERS)} is required")
    return OwnModel(
        type=kind,
        api_key=(given[API_KEY] or "").strip() or None,
        model_name=(given[NAME] or "").strip() or None,
        base_url=(given[BASE_URL] or "").strip() or None,
    )


async def own_access(
    connection: Connection, tenant_id: str, own: OwnModel, configured: ModelRow | None, *, allow_private: bool
) -> ModelAccess:
    """How to ask a caller's own model, if the tenant lets its callers bring one.

    Without a name it is the configured model's, when that is the same provider's, else the provider's first
    in the catalogue. Raises Forbidden and InvalidRequest.
    """
    if await settings.value(connection, tenant_id, f"byok.{own.type}") is not True:
        raise Forbidden(f"Models with one's own key are not enabled for {own.type}")
    if own.api_key is None:
        raise InvalidRequest(f"{API_KEY}: a key is required beside {PROVIDER}")
    base_url = base_of(own.type, own.base_url)
    if not base_url:
        raise InvalidRequest(f"{BASE_URL}: an address is required for {own.type}")
    try:
        check_url(base_url, allow_private=allow_private)
    except ForbiddenAddress as fault:
        raise InvalidRequest(f"{BASE_URL}: {fault}") from None
    same = configured is not None and configured.type == own.type
    name = own.model_name or (configured.model_name if same and configured else first_model(own.type))
    if name is None:
        raise InvalidRequest(f"{NAME}: a model is required for {own.type}")
    return ModelAccess(type=own.type, model_name=name, base_url=base_url, api_key=own.api_key)


def _is_plain(text: str) -> bool:
    return text.isascii() and (not text or text.isprintable())
