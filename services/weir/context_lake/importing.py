"""Making a dataset of a file that a tenant uploads: taken in, looked at, read once, kept, then written down."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from msgspec import UNSET, Struct
from msgspec.structs import replace

from weir.context_lake.changing import (
    Catalogue,
    ImportsFull,
    NameTaken,
    Reply,
    Terms,
    Written,
    edit_lake,
    find_answer,
    read_lake,
)
from weir.context_lake.checking import check_name
from weir.context_lake.config import Edit
from weir.context_lake.connectors.declared import Findings, Place
from weir.context_lake.connectors.imported import from_of, import_in
from weir.context_lake.document import Brought, Dataset, Document, WantedDataset
from weir.context_lake.permissions import viewer_of
from weir.context_lake.tables import lake_imports
from weir.context_lake.tables.lakes import StoredLake
from weir.context_lake.uploads.form import FileTooLarge, Form, FormReader
from weir.context_lake.uploads.inspecting import Found, Inspector
from weir.context_lake.uploads.looking import look
from weir.context_lake.uploads.naming import ending_of, name_of
from weir.context_lake.uploads.storage import Incoming, Uploads
from weir_shared.auth.principal import Principal
from weir_shared.errors import TooManyRequests, ValidationFailed

# Of one tenant in one process: what is on its way is not in the quota yet.
AT_ONCE = 4
# What a form may take besides its file.
FORM_BYTES = 64 * 1024

log = structlog.get_logger(__name__)


class TooManyUploads(TooManyRequests):
    code = "too_many_uploads"

    def __init__(self) -> None:
        super().__init__(
            f"At most {AT_ONCE} files are taken in at once; try again shortly", headers={"Retry-After": "5"}
        )


class Imported(Struct, frozen=True, kw_only=True):
    """A file that has become a dataset, or would."""

    dataset: Dataset
    found: Found
    size: int
    is_new: bool
    written: Written


Told = Callable[[Imported], Reply]


class ImportDesk:
    """What an import needs besides the catalogue."""

    def __init__(self, uploads: Uploads, inspector: Inspector, *, max_bytes: int) -> None:
        self.uploads = uploads
        self.inspector = inspector
        self.max_bytes = max_bytes
        self._running: Counter[str] = Counter()

    @asynccontextmanager
    async def place(self, tenant_id: str) -> AsyncGenerator[None, None]:
        """One of the tenant's few places. Raises TooManyUploads."""
        if self._running[tenant_id] >= AT_ONCE:
            raise TooManyUploads
        self._running[tenant_id] += 1
        try:
            yield
        finally:
            self._running[tenant_id] -= 1
            if not self._running[tenant_id]:
                del self._running[tenant_id]


@asynccontextmanager
async def received(
    desk: ImportDesk,
    catalogue: Catalogue,
    principal: Principal,
    *,
    boundary: str,
    announced: int | None,
    chunks: AsyncIterator[bytes],
) -> AsyncGenerator[Form, None]:
    """The upload as it has arrived; nothing is left of it behind the block unless a row speaks of it.

    `announced` is the size of the body, when the caller told it.
    Raises TooManyUploads, ImportsFull, FileTooLarge, BrokenForm, UnsupportedFile, ValidationFailed.
    """
    tenant_id = principal.tenant_id
    if announced is not None and announced > desk.max_bytes + FORM_BYTES:
        raise FileTooLarge(desk.max_bytes)
    async with desk.place(tenant_id):
        await _require_room(catalogue, tenant_id, announced or 0)
        reader = FormReader(
            boundary, open=lambda ending: desk.uploads.receive(tenant_id, ending), max_bytes=desk.max_bytes
        )
        try:
            yield await reader.read(chunks)
        finally:
            if reader.file is not None:
                # A caller who leaves cancels this too: what was begun here is ended all the same.
                await asyncio.shield(asyncio.create_task(_let_go(catalogue, tenant_id, reader.file)))


async def import_file(
    desk: ImportDesk, catalogue: Catalogue, principal: Principal, form: Form, terms: Terms, tell: Told
) -> Reply:
    """Raises UnreadableFile, NameTaken, ImportsFull, ValidationFailed, and as `revise`."""
    answered = await find_answer(catalogue, principal, terms)
    if answered is not None:
        return answered
    name = _name_of(form)
    # Before the file is read, which may take minutes; and again on the lake that is written.
    _require_free((await read_lake(catalogue, principal)).document, principal, name, form)
    ending = ending_of(form.file_name)
    params = await asyncio.to_thread(look, form.file.path, ending)
    format_ = "json" if ending in ("jsonl", "ndjson") else ending
    found = await desk.inspector.inspect(form.file.path, format_, params, form.file.size)
    if not terms.validate_only:
        await asyncio.to_thread(form.file.keep)
    brought = Brought(file=form.file.name, name=name, size=form.file.size, schema=found.schema)
    # Private unless its creator opens it: what one agent brings is not the others'.
    wanted = WantedDataset(
        from_=from_of(form.file.name), name=name, params=params | found.params, visibility="private"
    )
    is_new = True

    def edit(lake: StoredLake, edit: Edit) -> None:
        nonlocal is_new
        before = _require_free(lake.document, principal, name, form)
        is_new = before is None
        edit.bring_import(brought)
        if before is None:
            edit.add_dataset(wanted, Place())
        else:
            edit.replace_dataset(name, _as_before(wanted, before), Place())

    def told(written: Written) -> Reply:
        dataset = written.document.find_dataset(name)
        assert dataset is not None, "it has just been written"
        return tell(
            Imported(dataset=dataset, found=found, size=form.file.size, is_new=is_new, written=written)
        )

    return await edit_lake(catalogue, principal, edit, reason="file imported", terms=terms, tell=told)


def _name_of(form: Form) -> str:
    if form.name is None:
        return name_of(form.file_name)
    findings = Findings([], [])
    name = check_name(form.name, Place(), findings)
    if findings.errors:
        raise ValidationFailed(findings.errors)
    return name


def _require_free(document: Document, principal: Principal, name: str, form: Form) -> Dataset | None:
    """The import of that name, if it is to be replaced. Raises NameTaken for whatever else has the name."""
    before = document.find_dataset(name)
    if before is None and document.find_view(name) is None:
        return None
    if (
        before is None
        or not form.replace
        or import_in(before.from_) is None
        or not viewer_of(principal).sees(before)
    ):
        raise NameTaken(name)
    return before


def _as_before(wanted: WantedDataset, before: Dataset) -> WantedDataset:
    """The new file under what was said of the old one."""
    return replace(
        wanted,
        name=before.name,
        visibility=before.visibility,
        description=before.description,
        metadata=before.metadata or UNSET,
    )


async def _require_room(catalogue: Catalogue, tenant_id: str, size: int) -> None:
    """An early look; the one that counts is taken when the file is written down."""
    quota = catalogue.surroundings.imports_quota_bytes
    async with catalogue.database.tenant(tenant_id) as connection:
        if await lake_imports.total_bytes(connection, tenant_id) + max(size - FORM_BYTES, 1) > quota:
            raise ImportsFull(quota)


async def _let_go(catalogue: Catalogue, tenant_id: str, file: Incoming) -> None:
    """Removes the file, but never one that a row may speak of: then the sweep decides."""
    try:
        if file.path == file.kept_path:
            async with catalogue.database.tenant(tenant_id) as connection:
                if await lake_imports.living_imports(connection, tenant_id, [file.name]):
                    return
        await asyncio.to_thread(file.remove)
    finally:
        file.close()
