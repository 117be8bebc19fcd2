"""/api/v1/knowledge-bases, and the older routes below /api/v1/agents/{name}/knowledge"""

from typing import Any

from litestar import Request, delete, get, patch, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from weir.agent_engine.knowledge import bases, files, searching
from weir.agent_engine.knowledge.form import FORM_BYTES, MAX_FILE_BYTES, read_form
from weir.agent_engine.studio import Studio
from weir.agent_engine.wire.knowledge import (
    BaseChange,
    BaseDetail,
    Done,
    FileDetail,
    Found,
    KnowledgeStatus,
    NewBase,
    Search,
)
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal
from weir_shared.errors import NotFound

READ = [requires_scope("agents:read")]
WRITE = [requires_scope("agents:write")]
# The reader of the form counts too, and tells a file's own limit.
MAX_BODY = MAX_FILE_BYTES + 2 * FORM_BYTES

_Studio = NamedDependency[Studio]
_Principal = NamedDependency[Principal]


@get("/knowledge-bases", guards=READ)
async def list_bases(studio: _Studio, principal: _Principal) -> list[BaseDetail]:
    """The tenant's knowledge bases, by name."""
    return await bases.list_bases(studio.database, principal.tenant_id)


@post("/knowledge-bases", guards=WRITE)
async def create_base(studio: _Studio, principal: _Principal, data: JSONBody[NewBase]) -> BaseDetail:
    """Makes a knowledge base, whose files are embedded by the named model."""
    return await bases.create_base(studio.database, principal.tenant_id, data)


@get("/knowledge-bases/{name:str}", guards=READ)
async def read_base(studio: _Studio, principal: _Principal, name: FromPath[str]) -> BaseDetail:
    """One knowledge base, by its name or its id."""
    return await bases.read_base(studio.database, principal.tenant_id, name)


@put("/knowledge-bases/{name:str}", guards=WRITE)
async def update_base(
    studio: _Studio, principal: _Principal, name: FromPath[str], data: JSONBody[BaseChange]
) -> BaseDetail:
    """Changes the fields that are sent; another embedding model has every file indexed anew."""
    return await bases.change_base(studio.database, principal.tenant_id, name, data)


@patch("/knowledge-bases/{name:str}", guards=WRITE)
async def patch_base(
    studio: _Studio, principal: _Principal, name: FromPath[str], data: JSONBody[BaseChange]
) -> BaseDetail:
    """The same as PUT."""
    return await bases.change_base(studio.database, principal.tenant_id, name, data)


@delete("/knowledge-bases/{name:str}", guards=WRITE, status_code=200)
async def delete_base(studio: _Studio, principal: _Principal, name: FromPath[str]) -> Done:
    """Deletes a knowledge base that no agent is linked to, with its files."""
    await bases.delete_base(studio.database, principal.tenant_id, name)
    return Done(status="deleted")


@post("/knowledge-bases/{name:str}/agents/{agent:str}", guards=WRITE, status_code=200)
async def link_agent(
    studio: _Studio, principal: _Principal, name: FromPath[str], agent: FromPath[str]
) -> Done:
    """Lets an agent look things up in the knowledge base."""
    await bases.link_agent(studio.database, principal.tenant_id, name, agent)
    return Done(status="linked")


@delete("/knowledge-bases/{name:str}/agents/{agent:str}", guards=WRITE, status_code=200)
async def unlink_agent(
    studio: _Studio, principal: _Principal, name: FromPath[str], agent: FromPath[str]
) -> Done:
    """Ends that."""
    await bases.unlink_agent(studio.database, principal.tenant_id, name, agent)
    return Done(status="unlinked")


@post("/knowledge-bases/{name:str}/search", guards=READ, status_code=200)
async def search_base(
    studio: _Studio, principal: _Principal, name: FromPath[str], data: JSONBody[Search]
) -> Found:
    """Finds passages as an agent would."""
    return await searching.search_base(studio, principal.tenant_id, name, data)


@get("/knowledge-bases/{name:str}/files", guards=READ)
async def list_files(studio: _Studio, principal: _Principal, name: FromPath[str]) -> list[FileDetail]:
    """The files of the knowledge base, oldest first."""
    return await files.list_files(studio.database, principal.tenant_id, name)


@post("/knowledge-bases/{name:str}/files", guards=WRITE, request_max_body_size=MAX_BODY)
async def upload_file(
    studio: _Studio, principal: _Principal, name: FromPath[str], request: Request[Any, Any, Any]
) -> FileDetail:
    """Takes a file (multipart part `file`, at most 50 MiB) to index; the same one again is the one there is."""
    uploaded = await read_form(request.headers.get("content-type", ""), request.stream())
    return await files.add_file(studio, principal.tenant_id, name, uploaded)


@get("/knowledge-bases/{name:str}/files/{file_id:str}", guards=READ)
async def read_file(
    studio: _Studio, principal: _Principal, name: FromPath[str], file_id: FromPath[str]
) -> FileDetail:
    """One file, and how far its indexing is."""
    return await files.read_file(studio.database, principal.tenant_id, name, file_id)


@delete("/knowledge-bases/{name:str}/files/{file_id:str}", guards=WRITE, status_code=200)
async def delete_file(
    studio: _Studio, principal: _Principal, name: FromPath[str], file_id: FromPath[str]
) -> Done:
    """Deletes a file and all that was made of it."""
    await files.delete_file(studio.database, principal.tenant_id, name, file_id)
    return Done(status="deleted")


@post("/knowledge-bases/{name:str}/files/{file_id:str}/reindex", guards=WRITE, status_code=202)
async def reindex_file(
    studio: _Studio, principal: _Principal, name: FromPath[str], file_id: FromPath[str]
) -> Done:
    """Indexes a file anew; until that is done, searches find what they found before."""
    await files.reindex_file(studio, principal.tenant_id, name, file_id)
    return Done(status="reindex_started")


@get("/agents/{name:str}/knowledge/status", guards=READ)
async def agent_status(studio: _Studio, principal: _Principal, name: FromPath[str]) -> KnowledgeStatus:
    """How far the agent's first knowledge base is."""
    base = await bases.base_of_agent(studio.database, principal.tenant_id, name)
    found = await files.list_files(studio.database, principal.tenant_id, base) if base else []
    indexed = sum(file.status == "ready" for file in found)
    at_it = any(file.status in ("uploading", "indexing") for file in found)
    return KnowledgeStatus(
        agent_name=name,
        total_files=len(found),
        indexed_files=indexed,
        status="indexing" if at_it else "ready" if indexed else "empty",
    )


@get("/agents/{name:str}/knowledge/files", guards=READ)
async def agent_files(studio: _Studio, principal: _Principal, name: FromPath[str]) -> list[FileDetail]:
    """The files of the agent's first knowledge base."""
    base = await _base_of(studio, principal, name)
    return await files.list_files(studio.database, principal.tenant_id, base)


@post("/agents/{name:str}/knowledge/files", guards=WRITE, request_max_body_size=MAX_BODY)
async def upload_agent_file(
    studio: _Studio, principal: _Principal, name: FromPath[str], request: Request[Any, Any, Any]
) -> FileDetail:
    """Takes a file into the agent's first knowledge base."""
    base = await _base_of(studio, principal, name)
    uploaded = await read_form(request.headers.get("content-type", ""), request.stream())
    return await files.add_file(studio, principal.tenant_id, base, uploaded)


@post("/agents/{name:str}/knowledge/reindex", guards=WRITE, status_code=202)
async def reindex_agent(studio: _Studio, principal: _Principal, name: FromPath[str]) -> Done:
    """Indexes every file of the agent's first knowledge base anew."""
    await files.reindex_every(studio, principal.tenant_id, await _base_of(studio, principal, name))
    return Done(status="reindex_started")


@delete("/agents/{name:str}/knowledge/files/{file_id:str}", guards=WRITE, status_code=200)
async def delete_agent_file(
    studio: _Studio, principal: _Principal, name: FromPath[str], file_id: FromPath[str]
) -> Done:
    """Deletes a file of the agent's first knowledge base."""
    base = await _base_of(studio, principal, name)
    await files.delete_file(studio.database, principal.tenant_id, base, file_id)
    return Done(status="deleted")


@post("/agents/{name:str}/knowledge/files/{file_id:str}/reindex", guards=WRITE, status_code=202)
async def reindex_agent_file(
    studio: _Studio, principal: _Principal, name: FromPath[str], file_id: FromPath[str]
) -> Done:
    """Indexes a file of the agent's first knowledge base anew."""
    base = await _base_of(studio, principal, name)
    await files.reindex_file(studio, principal.tenant_id, base, file_id)
    return Done(status="reindex_started")


async def _base_of(studio: Studio, principal: Principal, agent: str) -> str:
    base = await bases.base_of_agent(studio.database, principal.tenant_id, agent)
    if base is None:
        raise NotFound(f"No knowledge base is linked to the agent '{agent[:100]}'; link one first")
    return base


ROUTES = [
    list_bases,
    create_base,
    read_base,
    update_base,
    patch_base,
    delete_base,
    link_agent,
    unlink_agent,
    search_base,
    list_files,
    read_file,
    delete_file,
    reindex_file,
    agent_status,
    agent_files,
    reindex_agent,
    delete_agent_file,
    reindex_agent_file,
]
# They read their bodies themselves, as these come.
UPLOADS = [upload_file, upload_agent_file]
