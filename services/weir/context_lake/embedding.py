"""Having a runtime's texts embedded by its tenant's model: who asks is known by the runtime's own secret."""

from hmac import compare_digest

from msgspec import Struct

from weir.context_lake.runtimes import secret_identity
from weir.context_lake.tables import lake_vms
from weir_shared.auth.principal import Principal
from weir_shared.clients.engine import EngineClient, EngineRefused, Vectors, WantedEmbeddings
from weir_shared.db.pool import Database
from weir_shared.errors import BadGateway, InvalidRequest, Unauthorized
from weir_shared.ids import parse_uuid
from weir_shared.sealing import Vault

SUBJECT = "context-lake"


class RuntimeIdentity(Struct, frozen=True):
    """Which runtime asks, as it says itself."""

    tenant_id: str
    epoch: str
    secret: str


class EmbeddingRefused(InvalidRequest):
    """There is no model as it was asked for; the engine's sentence says which there are."""

    code = "no_embedding_model"


class EmbeddingFailed(BadGateway):
    """The engine, or the tenant's model behind it, did not answer."""

    code = "embedding_error"


class EmbeddingDesk(Struct, frozen=True):
    database: Database
    vault: Vault
    engine: EngineClient

    async def embed(self, runtime: RuntimeIdentity, wanted: WantedEmbeddings) -> Vectors:
        """Raises Unauthorized, EmbeddingRefused, EmbeddingFailed."""
        tenant_id = await self._proven_tenant(runtime)
        # The platform's own errand for this tenant: it opens nothing but what a ticket of the tenant opens.
        principal = Principal(tenant_id=tenant_id, subject=SUBJECT, actor="system", scopes=frozenset())
        try:
            return await self.engine.embed(principal, wanted)
        except EngineRefused as refusal:
            if refusal.status in (400, 404):
                raise EmbeddingRefused(str(refusal)) from None
            raise EmbeddingFailed(str(refusal), code=refusal.code) from None

    async def _proven_tenant(self, runtime: RuntimeIdentity) -> str:
        """The tenant whose living runtime has this secret. Raises Unauthorized."""
        tenant_id = parse_uuid(runtime.tenant_id)
        if tenant_id is None:
            raise Unauthorized("This route is for the lakes' runtimes")
        async with self.database.tenant(tenant_id) as connection:
            vm = await lake_vms.read_vm(connection, tenant_id)
        if vm.secret is None or str(vm.epoch) != runtime.epoch:
            raise Unauthorized("This route is for the lakes' runtimes")
        secret = await self.vault.open(tenant_id, secret_identity(vm.epoch), vm.secret)
        if not compare_digest(secret.encode(), runtime.secret.encode()):
            raise Unauthorized("This route is for the lakes' runtimes")
        return tenant_id
