"""The agent engine, asked by another service to embed a tenant's texts with the tenant's own model."""

import aiohttp
import msgspec
from msgspec import Struct

from weir_shared.auth.principal import Principal
from weir_shared.auth.tickets import HEADER, TicketOffice

EMBEDDINGS_PATH = "/internal/embeddings"
MODEL_HEADER = "x-weir-model"
DIMENSION_HEADER = "x-weir-dimension"
FLOAT32_BYTES = 4
# Above the engine's own budget, so that the engine is the one that says why.
SECONDS = 70.0


class WantedEmbeddings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Texts to embed, none of them empty; without a model the tenant's default one is meant."""

    texts: list[str]
    model: str | None = None


class Vectors(Struct, frozen=True):
    """float32, little-endian, one vector after the other in the order of the texts."""

    model: str
    dimension: int
    content: bytes


class EngineRefused(Exception):
    """The engine answered with an error; the message is its sentence."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class _Refusal(Struct, frozen=True):
    error: str = "unavailable"
    message: str = "The agent engine could not answer"


class EngineClient:
    def __init__(self, base_url: str, session: aiohttp.ClientSession, office: TicketOffice) -> None:
        self._base_url = base_url
        self._session = session
        self._office = office

    async def embed(self, principal: Principal, wanted: WantedEmbeddings) -> Vectors:
        """Raises EngineRefused when the engine says no or does not answer."""
        headers = {
            HEADER: self._office.issue(principal, "agent-engine"),
            "content-type": "application/json",
        }
        try:
            async with self._session.post(
                self._base_url + EMBEDDINGS_PATH,
                data=msgspec.json.encode(wanted),
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=SECONDS),
            ) as response:
                content, told = await response.read(), response.headers
                status = response.status
        except (aiohttp.ClientError, TimeoutError):
            raise EngineRefused(
                503, "unavailable", "The agent engine cannot be reached; try again shortly"
            ) from None
        if status != 200:
            raise _refusal(status, content)
        dimension = int(told[DIMENSION_HEADER])
        if len(content) != FLOAT32_BYTES * dimension * len(wanted.texts):
            raise EngineRefused(502, "bad_gateway", "The agent engine broke off in the middle of its answer")
        return Vectors(told[MODEL_HEADER], dimension, content)


def _refusal(status: int, content: bytes) -> EngineRefused:
    try:
        refusal = msgspec.json.decode(content, type=_Refusal)
    except msgspec.MsgspecError:
        refusal = _Refusal()
    return EngineRefused(status, refusal.error, refusal.message)
