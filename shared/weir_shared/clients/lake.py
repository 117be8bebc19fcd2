"""The context lake, asked by another service with the caller's own authority."""

from typing import Any

import aiohttp
import msgspec
from msgspec import Struct

from weir_shared.auth.principal import Principal
from weir_shared.auth.tickets import HEADER, TicketOffice

PREFIX = "/v1/context-lake"
# Above the lake's own budget, so that the lake is the one that says why.
SLACK_SECONDS = 5


class LakeRefused(Exception):
    """The lake answered with an error; the message is its sentence."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Column(Struct, frozen=True):
    name: str
    type: str
    nullable: bool = True


class Answer(Struct, frozen=True, rename="camel"):
    """The answer to a query: rows as objects, and whether the row cap cut them."""

    rows: list[dict[str, Any]]
    schema: list[Column]
    row_count: int
    truncated: bool


class Table(Struct, frozen=True, kw_only=True):
    """A dataset or view that the caller may query; no columns when its source cannot be read."""

    name: str
    kind: str
    description: str | None = None
    columns: list[Column] | None = None
    error: str | None = None


class _Tables(Struct, frozen=True):
    tables: list[Table]


class _Refusal(Struct, frozen=True):
    error: str = "The lake could not answer"
    code: str = "unavailable"


class LakeClient:
    """Queries and table lists of the caller's own lake."""

    def __init__(self, base_url: str, session: aiohttp.ClientSession, office: TicketOffice) -> None:
        self._base_url = base_url + PREFIX
        self._session = session
        self._office = office

    async def sql(self, principal: Principal, query: str, *, max_rows: int, seconds: int) -> Answer:
        """Raises LakeRefused when the lake says no or does not answer within the seconds."""
        body = {"query": query, "maxRows": max_rows, "timeoutSeconds": seconds}
        content = await self._ask("POST", "/sql", principal, seconds, msgspec.json.encode(body))
        return msgspec.json.decode(content, type=Answer)

    async def tables(self, principal: Principal, *, seconds: int) -> list[Table]:
        """Every table the caller may query, with its columns. Raises LakeRefused."""
        content = await self._ask("GET", "/tables", principal, seconds, None)
        return msgspec.json.decode(content, type=_Tables).tables

    async def _ask(
        self, method: str, path: str, principal: Principal, seconds: int, body: bytes | None
    ) -> bytes:
        headers = {HEADER: self._office.issue(principal, "context-lake"), "content-type": "application/json"}
        limit = aiohttp.ClientTimeout(total=seconds + SLACK_SECONDS)
        try:
            async with self._session.request(
                method, self._base_url + path, data=body, headers=headers, timeout=limit
            ) as response:
                content = await response.read()
                status = response.status
        except (aiohttp.ClientError, TimeoutError):
            raise LakeRefused(503, "unavailable", "The lake cannot be reached; try again shortly") from None
        if status != 200:
            raise _refusal(status, content)
        return content


def _refusal(status: int, content: bytes) -> LakeRefused:
    try:
        refusal = msgspec.json.decode(content, type=_Refusal)
    except msgspec.MsgspecError:
        refusal = _Refusal()
    return LakeRefused(status, refusal.code, refusal.error)
