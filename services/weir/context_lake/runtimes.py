"""Talking to a tenant's runtime: HTTP over its unix socket, one kept client a runtime."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
from msgspec import Struct

from weir.context_lake.tables.lake_vms import Vm
from weir_shared.sealing import Vault
from weir_shared.web.read_ahead import LITTLE_BYTES, ReadAhead

BASE = "http://runtime"
# Large, because the answer passes in the pieces that are read.
READ_BUFFER_BYTES = 1024 * 1024
MAX_REFUSAL_BYTES = 256 * 1024
KEPT = 1024
KEEPALIVE_SECONDS = 60


class RuntimeGone(Exception):
    """The runtime cannot be reached, or went away before the first byte of its answer."""


class RuntimeRefused(Exception):
    """The runtime answered with an error; `body` is what it said."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(str(body.get("error", "")))
        self.status = status
        self.body = body

    @property
    def code(self) -> str:
        return str(self.body.get("code", ""))


class RuntimeAddress(Struct, frozen=True, kw_only=True):
    tenant_id: str
    epoch: int
    endpoint: str
    secret: str


class RuntimeClient:
    """One runtime's client; it closes when it is retired and its last answer has been read."""

    def __init__(self, address: RuntimeAddress, ahead: ReadAhead) -> None:
        self.epoch = address.epoch
        self._ahead = ahead
        self._users = 0
        self._is_retired = False
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(
                path=address.endpoint, limit=0, keepalive_timeout=KEEPALIVE_SECONDS
            ),
            headers={"x-weir-runtime-secret": address.secret, "content-type": "application/json"},
            skip_auto_headers={"User-Agent", "Accept", "Accept-Encoding"},
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    @asynccontextmanager
    async def request(
        self, method: str, path: str, body: bytes | None = None, *, seconds: float | None = None
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """An answer that has begun. Raises RuntimeGone, RuntimeRefused; leaving early ends the work there.

        `seconds` is the budget that the runtime is told; whoever waits keeps the time himself.
        """
        headers = {"x-weir-deadline-ms": str(max(1, round(seconds * 1000)))} if seconds is not None else None
        self._users += 1
        try:
            with self._ahead.begin() as is_ample:
                read_ahead = READ_BUFFER_BYTES if is_ample else LITTLE_BYTES
                response = await self._begin(method, path, body, headers, read_ahead)
                try:
                    yield response
                finally:
                    # A whole answer has given its connection back by itself; any other one is cut.
                    response.close()
        finally:
            self._users -= 1
            if self._is_retired and self._users == 0:
                await self._session.close()

    async def ask(self, method: str, path: str, body: Any = None, *, seconds: float) -> Any:
        """A whole JSON answer within so many seconds. Raises RuntimeGone, RuntimeRefused, TimeoutError."""
        content = None if body is None else msgspec.json.encode(body)
        async with asyncio.timeout(seconds), self.request(method, path, content, seconds=seconds) as response:
            try:
                return msgspec.json.decode(await response.read())
            except (aiohttp.ClientError, msgspec.DecodeError):
                raise RuntimeGone("the runtime broke off") from None

    async def retire(self) -> None:
        self._is_retired = True
        if self._users == 0:
            await self._session.close()

    async def _begin(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str] | None, read_ahead: int
    ) -> aiohttp.ClientResponse:
        try:
            response = await self._session.request(
                method, BASE + path, data=body, headers=headers, read_bufsize=read_ahead
            )
        except (aiohttp.ClientError, OSError) as fault:
            raise RuntimeGone(type(fault).__name__) from None
        if response.status != 200:
            raise await _refusal(response)
        return response


class Runtimes:
    """The clients of this process, by tenant; a newer epoch retires the older one's."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._ahead = ReadAhead()
        self._clients: OrderedDict[str, RuntimeClient] = OrderedDict()

    async def client_of(self, vm: Vm) -> RuntimeClient:
        """The client of a runtime that has an endpoint and a secret."""
        known = self._clients.get(vm.tenant_id)
        if known is not None and known.epoch == vm.epoch:
            self._clients.move_to_end(vm.tenant_id)
            return known
        assert vm.endpoint is not None and vm.secret is not None, "a runtime that runs has been placed"
        secret = await self._vault.open(vm.tenant_id, secret_identity(vm.epoch), vm.secret)
        return await self.open(
            RuntimeAddress(tenant_id=vm.tenant_id, epoch=vm.epoch, endpoint=vm.endpoint, secret=secret)
        )

    async def open(self, address: RuntimeAddress) -> RuntimeClient:
        known = self._clients.get(address.tenant_id)
        if known is not None and known.epoch >= address.epoch:
            return known
        client = self._clients[address.tenant_id] = RuntimeClient(address, self._ahead)
        self._clients.move_to_end(address.tenant_id)
        if known is not None:
            await known.retire()
        while len(self._clients) > KEPT:
            await self._clients.popitem(last=False)[1].retire()
        return client

    async def close(self) -> None:
        for client in self._clients.values():
            await client.retire()
        self._clients.clear()


def secret_identity(epoch: int) -> str:
    """What a runtime's secret is sealed as."""
    return f"lake_vms|{epoch}|secret"


async def _refusal(response: aiohttp.ClientResponse) -> Exception:
    try:
        content = await response.content.read(MAX_REFUSAL_BYTES)
        body = msgspec.json.decode(content, type=dict[str, Any])
    except (aiohttp.ClientError, OSError):
        return RuntimeGone("the runtime broke off")
    except msgspec.DecodeError:
        body = {}
    finally:
        response.release()
    if response.status in (401, 503):
        # Stopping, not configured yet, or not the runtime that the row tells of: as good as gone.
        return RuntimeGone(str(body.get("code", "")))
    return RuntimeRefused(response.status, body)
