"""From the headers of a request to the caller: which credential, whose, and is it still good."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from weir.gateway.tables import api_tokens, tenants
from weir.gateway.tokens import hash_token
from weir_shared.auth.jwt import InvalidToken, principal_of, verify_session
from weir_shared.auth.principal import Principal
from weir_shared.db.pool import Database
from weir_shared.errors import Unauthorized
from weir_shared.queue.doorbell import Doorbell

API_TOKEN_PREFIXES = ("bb_", "rbk_")
KEY_HEADERS = (b"api_key", b"api-key", b"x-api-key")
CREDENTIAL_HEADERS = frozenset({b"authorization", *KEY_HEADERS})
MAX_CREDENTIAL_BYTES = 8192
# How long a revoked token may still pass at another replica whose notice was lost.
TOKEN_CACHE_SECONDS = 5
SESSION_CACHE_SECONDS = 60
CACHED = 4096
STAMP_SECONDS = 10
REVOCATIONS = "tokens"

log = structlog.get_logger(__name__)


class MissingCredential(Unauthorized):
    code = "missing_api_key"

    def __init__(self) -> None:
        super().__init__("A credential is required: Authorization: Bearer <token>, or the API_KEY header")


class InvalidCredential(Unauthorized):
    code = "invalid_api_key"

    def __init__(self, message: str = "Invalid or expired API token") -> None:
        super().__init__(message)


def read_credential(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The one credential of a request. Raises when there is none, or two that differ."""
    found: set[str] = set()
    for name, value in headers:
        if name in KEY_HEADERS:
            found.add(_api_key(value))
        elif name == b"authorization":
            found.add(_bearer(value))
    if not found:
        raise MissingCredential
    if len(found) > 1:
        raise InvalidCredential("The request carries two different credentials")
    return found.pop()


class CredentialDesk:
    """Recognises callers, and remembers those it has just seen."""

    def __init__(self, database: Database, doorbell: Doorbell, session_key: Ed25519PublicKey) -> None:
        self._database = database
        self._doorbell = doorbell
        self._session_key = session_key
        self._seen: OrderedDict[str, tuple[float, Principal]] = OrderedDict()
        self._tenants: set[str] = set()
        self._used: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []

    async def recognise(self, credential: str) -> Principal:
        """The caller whose credential this is. Raises InvalidCredential, always with the same sentence."""
        seen = self._seen.get(credential)
        if seen and seen[0] > time.monotonic():
            return seen[1]
        if credential.startswith(API_TOKEN_PREFIXES):
            principal, seconds = await self._holder(credential), float(TOKEN_CACHE_SECONDS)
        else:
            principal, seconds = await self._session(credential)
        self._seen[credential] = (time.monotonic() + seconds, principal)
        while len(self._seen) > CACHED:
            self._seen.popitem(last=False)
        return principal

    def tenant_of(self, credential: str) -> str | None:
        """Whose credential this was when it was last seen; nothing is checked, and it may be good no more."""
        seen = self._seen.get(credential)
        return seen[1].tenant_id if seen else None

    async def forget_all(self) -> None:
        """After a revocation: nobody is known any more, here and at the other replicas."""
        self._seen.clear()
        await self._doorbell.notify(REVOCATIONS)

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._follow_revocations()),
            asyncio.create_task(self._stamp_uses()),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _holder(self, token: str) -> Principal:
        async with self._database.any_tenant() as connection:
            holder = await api_tokens.find_any_holder(connection, hash_token(token))
        if holder is None:
            raise InvalidCredential
        self._used.add(holder.id)
        return Principal(
            tenant_id=holder.tenant_id, subject=holder.name, actor="api_token", scopes=holder.scopes
        )

    async def _session(self, token: str) -> tuple[Principal, float]:
        try:
            claims = verify_session(token, self._session_key)
            principal = principal_of(claims)
        except InvalidToken as fault:
            log.info("session refused", reason=str(fault), length=len(token))
            raise InvalidCredential from None
        if principal.tenant_id not in self._tenants:
            async with self._database.any_tenant() as connection:
                await tenants.provision_any_tenant(connection, principal.tenant_id)
            self._tenants.add(principal.tenant_id)
        # Whole numbers: an issuer may write an end that no float holds.
        return principal, min(int(claims["exp"]) - int(time.time()), SESSION_CACHE_SECONDS)

    async def _follow_revocations(self) -> None:
        while True:
            async with self._doorbell.awaiting(REVOCATIONS) as revoked:
                await revoked.wait()
                self._seen.clear()

    async def _stamp_uses(self) -> None:
        """Writes when tokens were last used, together and a little late: it is no part of a request."""
        while True:
            await asyncio.sleep(STAMP_SECONDS)
            used, self._used = self._used, set()
            if not used:
                continue
            try:
                async with self._database.any_tenant() as connection:
                    await api_tokens.stamp_any_use(connection, sorted(used))
            except Exception:  # noqa: BLE001  (the loop outlives a database that is away)
                log.warning("uses of tokens not stamped", tokens=len(used))


def _api_key(value: bytes) -> str:
    key = _text(value)
    if not key.startswith(API_TOKEN_PREFIXES):
        raise InvalidCredential
    return key


def _bearer(value: bytes) -> str:
    scheme, _, credential = _text(value).partition(" ")
    if scheme.lower() != "bearer" or not credential.strip():
        raise InvalidCredential
    return credential.strip()


def _text(value: bytes) -> str:
    # Before anything parses it: a bearer of megabytes costs half a second to refuse.
    if len(value) > MAX_CREDENTIAL_BYTES:
        raise InvalidCredential
    try:
        return value.decode("ascii").strip()
    except UnicodeDecodeError:
        raise InvalidCredential from None
