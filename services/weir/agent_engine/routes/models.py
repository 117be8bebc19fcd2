"""/api/v1/models"""

from litestar import delete, get, patch, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from weir.agent_engine.studio import Studio
from weir.agent_engine.wire.models import ModelChange, ModelDetail, NewModel, Verification
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal

READ = [requires_scope("models:read")]
WRITE = [requires_scope("models:write")]


@get("/models", guards=READ)
async def list_models(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], kind: FromQuery[str | None] = None
) -> list[ModelDetail]:
    """The tenant's models, by name."""
    return await studio.models.list(principal.tenant_id, kind)


@post("/models", guards=WRITE)
async def create_model(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], data: JSONBody[NewModel]
) -> ModelDetail:
    """Configures a model; the first chat model becomes the default."""
    return await studio.models.create(principal.tenant_id, data)


@get("/models/{name:str}", guards=READ)
async def read_model(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], name: FromPath[str]
) -> ModelDetail:
    """One model, by its name or its id."""
    return await studio.models.read(principal.tenant_id, name)


@put("/models/{name:str}", guards=WRITE)
async def update_model(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    name: FromPath[str],
    data: JSONBody[ModelChange],
) -> ModelDetail:
    """Changes the fields that are sent; an empty API key keeps the one there is."""
    return await studio.models.change(principal.tenant_id, name, data)


@patch("/models/{name:str}", guards=WRITE)
async def patch_model(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    name: FromPath[str],
    data: JSONBody[ModelChange],
) -> ModelDetail:
    """The same as PUT."""
    return await studio.models.change(principal.tenant_id, name, data)


@delete("/models/{name:str}", guards=WRITE)
async def delete_model(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], name: FromPath[str]
) -> None:
    """Deletes a model that no agent uses."""
    await studio.models.delete(principal.tenant_id, name)


@post("/models/{name:str}/verify", guards=WRITE, status_code=200)
async def verify(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], name: FromPath[str]
) -> Verification:
    """Asks the model whether it answers and whether it calls tools; one of the kind embedding embeds a word."""
    return await studio.models.verify(principal.tenant_id, name, studio.client, studio.embeddings)


ROUTES = [list_models, create_model, read_model, update_model, patch_model, delete_model, verify]
