"""Indexing a file in the worker: read, cut, embed, publish. A claim says who is at it; a lost one ends the work."""

import asyncio

import structlog

from weir.agent_engine.embedding import spent_on
from weir.agent_engine.knowledge import extraction
from weir.agent_engine.knowledge.files import ring
from weir.agent_engine.knowledge.vectors import NoVectors, require_vectors
from weir.agent_engine.models.base import ModelAccess, ModelError
from weir.agent_engine.naming import missing
from weir.agent_engine.studio import Studio
from weir.agent_engine.tables import knowledge, models, passages, usage
from weir.agent_engine.tables.models import ModelRow
from weir.agent_engine.tables.passages import LEASE_SECONDS, MAX_ATTEMPTS, Claimed
from weir_shared.clock import now
from weir_shared.ids import new_id

BATCH = 50
RING_AT_ONCE = 20
# After so many passages a search must not be planned by what the tables were before.
MANY = 200
# Longer than any file may take; the claim says whether somebody is at it.
JOB_SECONDS = 86_400

log = structlog.get_logger(__name__)


class ClaimLost(Exception):
    """Somebody else indexes the file now, or it is gone."""


async def index(studio: Studio, tenant_id: str, file_id: str) -> None:
    """Indexes a file that waits; nothing when somebody is at it already."""
    async with studio.reading:
        await require_vectors(studio.database)
        async with studio.database.any_tenant() as connection:
            file = await passages.claim_any(connection, tenant_id, file_id, new_id())
        if file is None:
            return
        try:
            await _work(studio, file)
        except ClaimLost:
            log.info("a file is indexed by somebody else, or gone", file=file_id)


async def ring_waiting_any(studio: Studio) -> None:
    """Rings for files whose ring was lost, or whose worker died."""
    try:
        await require_vectors(studio.database)
    except NoVectors:
        return
    async with studio.database.any_tenant() as connection:
        due = await passages.due_any(connection, RING_AT_ONCE)
    for tenant_id, file_id in due:
        await ring(studio, tenant_id, file_id)


async def _work(studio: Studio, file: Claimed) -> None:
    if file.attempts > MAX_ATTEMPTS:
        await _fail(studio, file, f"Indexing broke off {MAX_ATTEMPTS} times; reindex the file to try again")
        return
    progress = _Progress(studio, file)
    holding = asyncio.create_task(progress.keep())
    working = asyncio.create_task(_index(studio, file, progress))
    try:
        await asyncio.wait([holding, working], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClaimLost
        await working
    except ModelError as fault:
        await _fail(studio, file, f"The embedding model failed: {fault}")
    finally:
        for task in (holding, working):
            task.cancel()
        await asyncio.gather(holding, working, return_exceptions=True)


class _Progress:
    def __init__(self, studio: Studio, file: Claimed) -> None:
        self._studio = studio
        self._file = file
        self.chunks = 0
        self.done = 0

    async def keep(self) -> None:
        """Ends when the claim is lost."""
        while True:
            await asyncio.sleep(LEASE_SECONDS / 4)
            async with self._studio.database.tenant(self._file.tenant_id) as connection:
                if not await passages.hold(connection, self._file, self.chunks, self.done):
                    return


async def _index(studio: Studio, file: Claimed, progress: _Progress) -> None:
    async with studio.database.tenant(file.tenant_id) as connection:
        await passages.clear_unfinished(connection, file)
        content = await knowledge.content_of(connection, file.tenant_id, file.id)
    extracted = await extraction.extract(file.type, content)
    if extracted.error is not None:
        await _fail(studio, file, extracted.error)
        return
    chunks = extracted.chunks
    progress.chunks = len(chunks)
    row, access = await _embedder(studio, file)
    dimension = row.embedding_dim
    for start in range(0, len(chunks), BATCH):
        batch = chunks[start : start + BATCH]
        embedded = await studio.embeddings.embed(access, batch, dimension=dimension)
        if dimension is None or start == 0:
            dimension = embedded.dimension
            async with studio.database.any_tenant() as connection:
                await passages.make_index_any(connection, dimension)
        numbers = embedded.vectors
        vectors = [numbers[at : at + dimension].tolist() for at in range(0, len(numbers), dimension)]
        async with studio.database.tenant(file.tenant_id, waits_for_disk=False) as connection:
            await usage.add(connection, file.tenant_id, [spent_on(row.name, embedded)])
        async with studio.database.tenant(file.tenant_id) as connection:
            if not await passages.hold(connection, file, len(chunks), start + len(batch)):
                raise ClaimLost
            await passages.add(connection, file, start, batch, vectors)
        progress.done = start + len(batch)
    if len(chunks) >= MANY:
        async with studio.database.any_tenant() as connection:
            await passages.take_stock_any(connection)
    async with studio.database.tenant(file.tenant_id) as connection:
        if not await passages.publish(connection, file, len(chunks), now()):
            raise ClaimLost


async def _embedder(studio: Studio, file: Claimed) -> tuple[ModelRow, ModelAccess]:
    async with studio.database.tenant(file.tenant_id) as connection:
        row = await models.find(connection, file.tenant_id, str(file.embedding_model_id))
    if row is None:
        raise missing("model", str(file.embedding_model_id))
    return row, await studio.models.access(file.tenant_id, row)


async def _fail(studio: Studio, file: Claimed, message: str) -> None:
    async with studio.database.tenant(file.tenant_id) as connection:
        await passages.clear_unfinished(connection, file)
        await passages.fail(connection, file, message[:1000])
