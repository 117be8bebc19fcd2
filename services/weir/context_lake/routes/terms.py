"""What every changing route of the catalogue takes besides its body, and how its answer leaves."""

import hashlib
import re
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from typing import Annotated, Any

import msgspec
from litestar import Request, Response
from litestar.di import NamedDependency, Provide
from litestar.params import HeaderParameter, QueryParameter
from msgspec.structs import replace

from weir.context_lake.changing import Reply, Retry, Terms, Written, etag_of
from weir.context_lake.config import refusal_of
from weir_shared.errors import FieldError, ValidationFailed

MAX_KEY = 128
_ETAG = re.compile(r'"v(\d{1,10})"')

IfMatch = Annotated[
    str | None,
    HeaderParameter(name="If-Match", description='Only if the lake is at this version, e.g. "v12"'),
]
RetryKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key", description="The same request again has the same answer, for a day"
    ),
]
ValidateOnly = Annotated[bool, QueryParameter(name="validateOnly", description="Check it and keep nothing")]
Probed = Annotated[
    bool, QueryParameter(name="probe", description="Open the dataset's source first; its columns are told")
]
Limit = Annotated[int | None, QueryParameter(ge=1, le=1000, description="How many at most")]
Cursor = Annotated[str | None, QueryParameter(description="`nextCursor` of the page before")]


async def provide_terms(
    request: Request[Any, Any, Any],
    if_match: IfMatch = None,
    retry_key: RetryKey = None,
    validate_only: ValidateOnly = False,
) -> Terms:
    """Raises ValidationFailed."""
    return Terms(
        versions=versions_in(if_match),
        validate_only=validate_only,
        retry=None if retry_key is None else await _retry(request, retry_key),
    )


async def provide_probing_terms(terms: NamedDependency[Terms], probe: Probed = False) -> Terms:
    """The terms of a change that may look at a source first."""
    return replace(terms, probe=probe)


@asynccontextmanager
async def faults_in_body_order(
    request: Request[Any, Any, Any], fields: Collection[str]
) -> AsyncGenerator[None, None]:
    """Tells the faults of a body of one item in the order of its fields; a field that is missing comes first.

    A parameter goes by its bare name and stands where `params` does.
    """
    try:
        yield
    except ValidationFailed as failed:
        sent = list(msgspec.json.decode(await request.body(), type=dict[str, msgspec.Raw]))

        def rank(error: FieldError) -> int:
            root = error.path.partition(".")[0]
            if root in sent:
                return sent.index(root)
            if root in fields or not root:
                return -1
            return sent.index("params") if "params" in sent else len(sent)

        raise refusal_of(sorted(failed.errors, key=rank)) from None


def reply_of(body: Any, written: Written, *, status: int = 200, location: str | None = None) -> Reply:
    """The answer to a change; one that was only tried is 200."""
    headers = {"etag": etag_of(written.version)}
    if location is not None and written.is_kept:
        headers["location"] = location
    return Reply(status=status if written.is_kept else 200, body=msgspec.json.encode(body), headers=headers)


def sent(reply: Reply) -> Response[Any]:
    return Response(
        reply.body, status_code=reply.status, headers=reply.headers, media_type="application/json"
    )


def shown(body: Any, version: int) -> Response[Any]:
    """Something read, with the version it was read at."""
    return Response(body, headers={"etag": etag_of(version)})


def versions_in(if_match: str | None) -> frozenset[int] | None:
    """The versions that an `If-Match` allows; None: any."""
    if if_match is None or if_match.strip() == "*":
        return None
    # What is no tag of ours matches no version.
    tags = [_ETAG.fullmatch(tag.strip()) for tag in if_match.split(",")]
    return frozenset(int(tag[1]) for tag in tags if tag)


def check_key(key: str) -> None:
    """Raises ValidationFailed."""
    if not 1 <= len(key) <= MAX_KEY:
        message = f"Idempotency-Key must be 1 to {MAX_KEY} characters"
        raise ValidationFailed([FieldError(path="Idempotency-Key", message=message)])


async def _retry(request: Request[Any, Any, Any], key: str) -> Retry:
    check_key(key)
    # The gateway's two prefixes of one path end in the same one here.
    line = f"{request.method} {request.url.path}?{request.url.query}\n".encode()
    return Retry(key, hashlib.sha256(line + await request.body()).digest())


TERMS = {"terms": Provide(provide_terms)}
PROBING_TERMS = {"probing_terms": Provide(provide_probing_terms)}
