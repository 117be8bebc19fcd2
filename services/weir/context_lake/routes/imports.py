"""`/v1/context-lake/imports`: a file becomes a dataset."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from litestar import Request, Response, Router, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIFormat, OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema

from weir.context_lake import importing
from weir.context_lake.changing import Catalogue, Reply, Retry, Terms
from weir.context_lake.importing import ImportDesk, Imported
from weir.context_lake.routes.datasets import PATH as DATASETS
from weir.context_lake.routes.datasets import DatasetWritten, shown_dataset
from weir.context_lake.routes.terms import (
    IfMatch,
    RetryKey,
    ValidateOnly,
    check_key,
    reply_of,
    sent,
    versions_in,
)
from weir.context_lake.uploads.form import Form
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal
from weir_shared.errors import UnsupportedMediaType

PATH = "/v1/context-lake/imports"


class FileImported(DatasetWritten, frozen=True, kw_only=True):
    """The dataset that was made of the file, and what the file holds."""

    rowCount: int
    bytes: int


class CallerGone(Exception):
    """The caller left before the file had arrived."""


@dataclass
class ImportOperation(Operation):
    """The operation with its body, which is read by hand."""

    def __post_init__(self) -> None:
        text = Schema(type=OpenAPIType.STRING, description="The dataset's name; else made from the file's")
        switch = Schema(
            type=OpenAPIType.BOOLEAN, description="Whether an import of that name gives way", default=False
        )
        file = Schema(
            type=OpenAPIType.STRING,
            format=OpenAPIFormat.BINARY,
            description="A .csv, .tsv, .parquet, .json, .jsonl or .ndjson file",
        )
        form = Schema(
            type=OpenAPIType.OBJECT,
            required=["file"],
            properties={"file": file, "name": text, "replace": switch},
            additional_properties=False,
        )
        self.request_body = RequestBody(
            required=True, content={"multipart/form-data": OpenAPIMediaType(schema=form)}
        )


@post(
    "/",
    guards=[requires_scope("lake:write")],
    # The reader of the form counts the file's bytes: a limit here could not be the operator's.
    request_max_body_size=None,
    operation_class=ImportOperation,
    responses={
        201: ResponseSpec(data_container=FileImported, description="The dataset", generate_examples=False)
    },
)
async def import_file(
    request: Request[Any, Any, Any],
    principal: NamedDependency[Principal],
    catalogue: NamedDependency[Catalogue],
    import_desk: NamedDependency[ImportDesk],
    if_match: IfMatch = None,
    retry_key: RetryKey = None,
    validate_only: ValidateOnly = False,
) -> Response[Any]:
    """Takes a file in and makes a dataset of it at once: its columns are found, and it can be queried."""
    boundary = _boundary_of(request)
    versions = versions_in(if_match)
    if retry_key is not None:
        check_key(retry_key)
    try:
        async with importing.received(
            import_desk,
            catalogue,
            principal,
            boundary=boundary,
            announced=request.content_length,
            chunks=_chunks(request),
        ) as form:
            retry = Retry(retry_key, _hash_of(request, form)) if retry_key is not None else None
            terms = Terms(versions=versions, validate_only=validate_only, retry=retry)
            return sent(await importing.import_file(import_desk, catalogue, principal, form, terms, _tell))
    except CallerGone:
        return Response(None, status_code=499)  # to nobody; it only names the outcome in log and metrics


def _boundary_of(request: Request[Any, Any, Any]) -> str:
    kind, options = request.content_type
    boundary = options.get("boundary", "")
    if kind != "multipart/form-data" or not 1 <= len(boundary) <= 256 or not boundary.isascii():
        raise UnsupportedMediaType("An import is multipart/form-data with a part named file")
    return boundary


async def _chunks(request: Request[Any, Any, Any]) -> AsyncIterator[bytes]:
    """The body as it comes. Raises CallerGone."""
    while True:
        event: Any = await request.receive()
        if event["type"] == "http.disconnect":
            raise CallerGone
        if event.get("body"):
            yield event["body"]
        if not event.get("more_body", False):
            return


def _hash_of(request: Request[Any, Any, Any], form: Form) -> bytes:
    """What tells this request from another: not its bytes, since every sender makes a boundary of his own."""
    line = f"{request.method} {request.url.path}?{request.url.query}\n{form.file_name}\n{form.name}\n{form.replace}\n"
    return hashlib.sha256(line.encode() + form.file.digest).digest()


def _tell(imported: Imported) -> Reply:
    body = FileImported(
        ok=True,
        dataset=shown_dataset(imported.dataset),
        version=imported.written.version,
        warnings=imported.written.warnings,
        columns=imported.found.columns,
        rowCount=imported.found.rows,
        bytes=imported.size,
    )
    location = f"{DATASETS}/{imported.dataset.name}"
    return reply_of(body, imported.written, status=201 if imported.is_new else 200, location=location)


routes = Router(PATH, route_handlers=[import_file], tags=["context lake"])
