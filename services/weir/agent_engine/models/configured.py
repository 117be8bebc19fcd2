"""The models that a tenant has configured: create, read, merge, delete; which one is the default."""

from difflib import get_close_matches

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from weir.agent_engine.models.base import ModelAccess, ModelClient, ModelRefused
from weir.agent_engine.models.embeddings import Embeddings
from weir.agent_engine.models.providers import PROVIDERS, base_of, provider_type
from weir.agent_engine.models.verify import unreachable, verify_embedder, verify_model
from weir.agent_engine.naming import Faults, check_name, invalid, missing, reference, unknown
from weir.agent_engine.tables import knowledge, models
from weir.agent_engine.tables.models import ModelRow
from weir.agent_engine.wire.models import ModelChange, ModelDetail, NewModel, Verification
from weir_shared.clock import now, rfc3339
from weir_shared.db.pool import Connection, Database, ForeignKeyViolation, UniqueViolation, Unit
from weir_shared.egress import ForbiddenAddress, check_url
from weir_shared.errors import Conflict, InvalidRequest
from weir_shared.sealing import Vault

KINDS = ("chat", "embedding")


class NoEmbedder(InvalidRequest):
    """No model to embed with is named, and none is meant without a name."""


class Models:
    """The models of all tenants, as their administrators see them."""

    def __init__(self, database: Database, vault: Vault, *, allow_private: bool) -> None:
        self._database = database
        self._vault = vault
        self._allow_private = allow_private

    def within(self, unit: Unit) -> "Models":
        """The same, with everything that is done in one unit of work."""
        return Models(unit, self._vault, allow_private=self._allow_private)

    async def list(self, tenant_id: str, kind: str | None = None) -> list[ModelDetail]:
        async with self._database.tenant(tenant_id) as connection:
            return [_detail(row) for row in await models.every(connection, tenant_id, kind)]

    async def read(self, tenant_id: str, name: str) -> ModelDetail:
        async with self._database.tenant(tenant_id) as connection:
            return _detail(await find_model(connection, tenant_id, name))

    async def create(self, tenant_id: str, new: NewModel) -> ModelDetail:
        faults = Faults()
        with faults.gathered():
            check_name(new.name)
        self._check(new, faults)
        faults.raise_any()
        async with self._database.tenant(tenant_id) as connection:
            id = await models.next_id(connection)
        row = ModelRow(
            id=id,
            name=new.name,
            type=_type(new.type),
            kind=_kind(new.kind),
            model_name=new.model_name,
            base_url=new.base_url or None,
            api_key_sealed=await self._sealed(tenant_id, id, new.api_key),
            api_version=new.api_version or None,
            embedding_dim=new.embedding_dim,
            is_default=bool(new.is_default),
            created_at=now(),
            updated_at=now(),
        )
        _check_whole(row)
        return _detail(await self._add(tenant_id, row))

    async def change(self, tenant_id: str, name: str, change: ModelChange) -> ModelDetail:
        faults = Faults()
        self._check(change, faults)
        faults.raise_any()
        async with self._database.tenant(tenant_id) as connection:
            found = await find_model(connection, tenant_id, name)
        key = await self._sealed(tenant_id, found.id, change.api_key or None)
        async with self._database.tenant(tenant_id) as connection:
            if change.is_default is True:
                await models.lock_every(connection, tenant_id)
            row = _merged(await find_model(connection, tenant_id, name), change, key)
            if row.kind != found.kind and (users := await models.agents_using(connection, tenant_id, row.id)):
                raise Conflict(f"{_agents(users)} this model, and an agent needs a chat model")
            if row.is_default:
                await models.clear_default(connection, tenant_id, row.kind)
            await models.change(connection, tenant_id, row)
            return _detail(row)

    async def delete(self, tenant_id: str, name: str) -> None:
        try:
            async with self._database.tenant(tenant_id) as connection:
                row = await find_model(connection, tenant_id, name)
                if users := await models.agents_using(connection, tenant_id, row.id):
                    raise Conflict(f"{_agents(users)} this model; give them another one first")
                if bases := await knowledge.bases_using(connection, tenant_id, row.id):
                    shown = ", ".join(bases[:5]) + ("…" if len(bases) > 5 else "")
                    raise Conflict(
                        f"Knowledge bases are embedded by this model ({shown}); give them another one first"
                    )
                await models.remove(connection, tenant_id, row.id)
        except ForeignKeyViolation:
            raise Conflict("An agent or a knowledge base has begun to use this model") from None

    async def access(self, tenant_id: str, row: ModelRow) -> ModelAccess:
        """How to ask the model, its key in the clear. Raises ModelRefused for an address that is out of bounds."""
        key = None
        if row.api_key_sealed is not None:
            key = await self._vault.open(tenant_id, _identity(row.id), row.api_key_sealed)
        base_url = base_of(row.type, row.base_url)
        if not base_url:
            raise ModelRefused(f"A model of the type {row.type} needs its address; enter it")
        try:
            # The rules may have become stricter since the address was accepted.
            check_url(base_url, allow_private=self._allow_private)
        except ForbiddenAddress as fault:
            raise ModelRefused(str(fault)) from None
        return ModelAccess(
            type=row.type,
            model_name=row.model_name,
            base_url=base_url,
            api_key=key,
            api_version=row.api_version,
        )

    async def find_embedder(self, tenant_id: str, name: str | None) -> ModelRow:
        """The embedding model of that name; without one the default of its kind, or the only one.

        Raises NotFound, InvalidRequest.
        """
        async with self._database.tenant(tenant_id) as connection:
            if name is not None:
                return _embedder(await find_model(connection, tenant_id, name))
            if (row := await models.default(connection, tenant_id, "embedding")) is not None:
                return row
            rows = await models.every(connection, tenant_id, "embedding")
        if not rows:
            raise NoEmbedder("There is no model of the kind embedding; configure one first")
        if len(rows) > 1:
            shown = ", ".join(row.name for row in rows[:5])
            raise NoEmbedder(
                f"There are several embedding models ({shown}); name one, or make one the default"
            )
        return rows[0]

    async def verify(
        self, tenant_id: str, name: str, client: ModelClient, embeddings: Embeddings
    ) -> Verification:
        async with self._database.tenant(tenant_id) as connection:
            row = await find_model(connection, tenant_id, name)
        try:
            access = await self.access(tenant_id, row)
        except ModelRefused as refusal:
            return unreachable(row.type, row.model_name, str(refusal))
        if row.kind == "embedding":
            return await verify_embedder(embeddings, access, row.embedding_dim)
        return await verify_model(client, access)

    async def _add(self, tenant_id: str, row: ModelRow) -> ModelRow:
        for _ in range(5):
            try:
                return await self._add_once(tenant_id, row)
            except UniqueViolation as fault:
                # Several first models at once: another one is the default, and the next look sees it.
                if getattr(fault, "constraint_name", None) != "models_default":
                    break
        raise Conflict(f"There is a model named '{row.name}' already")

    async def _add_once(self, tenant_id: str, row: ModelRow) -> ModelRow:
        async with self._database.tenant(tenant_id) as connection:
            if row.is_default:
                await models.lock_every(connection, tenant_id)
            # The first chat model is the default until another one is named; each kind has its own.
            if row.kind == "chat" and await models.default(connection, tenant_id, "chat") is None:
                row = replace(row, is_default=True)
            elif row.is_default:
                await models.clear_default(connection, tenant_id, row.kind)
            await models.add(connection, tenant_id, row)
        return row

    async def _sealed(self, tenant_id: str, id: int, key: str | UnsetType | None) -> bytes | None:
        return await self._vault.seal(tenant_id, _identity(id), key) if key else None

    def _check(self, fields: NewModel | ModelChange, faults: Faults) -> None:
        with faults.gathered():
            if fields.type is not UNSET:
                _type(fields.type)
        with faults.gathered():
            if fields.kind is not UNSET:
                _kind(fields.kind)
        with faults.gathered():
            if fields.model_name is not UNSET and not _is_word(fields.model_name):
                raise invalid("model_name", "the provider's name for the model, without spaces around it")
        with faults.gathered():
            self._check_address(fields.base_url)
        with faults.gathered():
            if fields.api_key and not _fits_a_header(fields.api_key):
                raise invalid("api_key", "a key is printable ASCII without line breaks")

    def _check_address(self, base_url: str | UnsetType | None) -> None:
        if not base_url:
            return
        try:
            check_url(base_url, allow_private=self._allow_private)
        except ForbiddenAddress as fault:
            raise invalid("base_url", str(fault)) from None


async def find_model(connection: Connection, tenant_id: str, name: str) -> ModelRow:
    """Raises NotFound."""
    text, _ = reference(name, "model")
    row = await models.find(connection, tenant_id, text)
    if row is None:
        raise missing("model", name)
    return row


async def embedder_named(connection: Connection, tenant_id: str, path: str, named: str | int) -> ModelRow:
    """The embedding model that a body refers to at this place. Raises ValidationFailed."""
    row = await models.find(connection, tenant_id, str(named))
    if row is None:
        raise unknown(path, "model", str(named), await models.names(connection, tenant_id))
    if row.kind != "embedding":
        raise invalid(path, f"the model '{row.name}' is of the kind {row.kind}; embedding is needed")
    return row


def _embedder(row: ModelRow) -> ModelRow:
    if row.kind != "embedding":
        raise InvalidRequest(
            f"The model '{row.name}' is one to chat with; embedding takes a model of the kind embedding"
        )
    return row


def _merged(row: ModelRow, change: ModelChange, key: bytes | None) -> ModelRow:
    if change.name is not UNSET and change.name != row.name:
        raise Conflict("The name of a model cannot change")
    if change.is_default is False and row.is_default:
        raise invalid("is_default", "make another model the default instead")
    kept = {
        field: getattr(change, field)
        for field in ("model_name", "base_url", "api_version", "embedding_dim", "is_default")
        if getattr(change, field) is not UNSET
    }
    kept["type"] = row.type if change.type is UNSET else _type(change.type)
    kept["kind"] = row.kind if change.kind is UNSET else _kind(change.kind)
    kept["base_url"] = kept.get("base_url", row.base_url) or None
    if row.is_default and kept["kind"] != row.kind:
        raise invalid(
            "kind", f"it is the default of the kind {row.kind}; make another model the default first"
        )
    # An empty key keeps the one there is; null takes it away.
    sealed = None if change.api_key is None else key or row.api_key_sealed
    merged = replace(row, **kept, api_key_sealed=sealed, updated_at=now())
    _check_whole(merged)
    return merged


def _check_whole(row: ModelRow) -> None:
    """What only fits together. Raises ValidationFailed."""
    if row.embedding_dim is not None and row.kind != "embedding":
        raise invalid("embedding_dim", "only a model of the kind embedding has one")


def _type(text: str) -> str:
    found = provider_type(text)
    if found is None:
        near = get_close_matches(text, PROVIDERS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"the types are {', '.join(PROVIDERS)}"
        raise invalid("type", f"unknown type '{text[:100]}'; {hint}")
    return found


def _kind(text: str) -> str:
    if text not in KINDS:
        raise invalid("kind", f"unknown kind '{text[:100]}'; the kinds are {', '.join(KINDS)}")
    return text


def _is_word(name: str) -> bool:
    return name.isprintable() and name == name.strip()


def _fits_a_header(key: str) -> bool:
    return key.isascii() and key.isprintable()


def _agents(names: "list[str]") -> str:
    shown = ", ".join(names[:5]) + ("…" if len(names) > 5 else "")
    return f"{len(names)} agent{'s' if len(names) != 1 else ''} ({shown}) use{'' if len(names) != 1 else 's'}"


def _identity(id: int) -> str:
    return f"models|{id}|api_key"


def _detail(row: ModelRow) -> ModelDetail:
    return ModelDetail(
        id=row.id,
        name=row.name,
        type=row.type,
        kind=row.kind,
        base_url=row.base_url,
        model_name=row.model_name,
        has_api_key=row.api_key_sealed is not None,
        api_version=row.api_version,
        embedding_dim=row.embedding_dim,
        is_default=row.is_default,
        created_at=rfc3339(row.created_at),
        updated_at=rfc3339(row.updated_at),
    )
