"""Secrets at rest: one data key a tenant, wrapped by a key-encryption key from a file.

XChaCha20-Poly1305 (libsodium's AEAD) with the secret's identity as associated data, so that a ciphertext
moved to another row or another tenant does not open.
"""

import os
from pathlib import Path

from msgspec import Struct
from nacl.exceptions import CryptoError
from nacl.secret import Aead
from nacl.utils import random as random_bytes

from weir_shared.db.pool import Database

KEY_BYTES = 32
SUFFIX = ".kek"


class SealError(Exception):
    """A secret that cannot be opened: its key is missing, or it is not what it claims to be."""


class KeyEncryptionKeys(Struct, frozen=True):
    """The loaded keys by id, and the id of the one that seals (the newest)."""

    keys: dict[str, bytes]
    newest: str


def load_or_create_keys(directory: Path) -> KeyEncryptionKeys:
    """Every `<id>.kek` of the directory (32 bytes as hex, 0600), sorted by id; makes the first one if there is none."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not list(directory.glob(f"*{SUFFIX}")):
        _create_key(directory / f"0001{SUFFIX}")
    keys: dict[str, bytes] = {}
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        try:
            key = bytes.fromhex(path.read_text().strip())
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            raise SealError(
                f"{path} does not hold a key of {KEY_BYTES} bytes as hex; restore it from its backup"
            )
        keys[path.stem] = key
    return KeyEncryptionKeys(keys, max(keys))


class Vault:
    """Seals and opens the secrets of tenants."""

    def __init__(self, database: Database, keys: KeyEncryptionKeys) -> None:
        self._database = database
        self._keys = keys
        self._data_keys: dict[str, Aead] = {}

    async def seal(self, tenant_id: str, identity: str, secret: str) -> bytes:
        """The ciphertext of a secret; `identity` says which secret it is, e.g. `models|3|api_key`."""
        box = await self._box(tenant_id)
        return bytes(box.encrypt(secret.encode(), _associated_data(tenant_id, identity)))

    async def open(self, tenant_id: str, identity: str, sealed: bytes) -> str:
        """The secret again. Raises SealError when it was sealed as another one or for another tenant."""
        box = await self._box(tenant_id)
        try:
            return box.decrypt(sealed, _associated_data(tenant_id, identity)).decode()
        except CryptoError:
            raise SealError(f"the secret {identity} does not open") from None

    async def _box(self, tenant_id: str) -> Aead:
        box = self._data_keys.get(tenant_id)
        if box is None:
            box = self._data_keys[tenant_id] = Aead(await self._data_key(tenant_id))
        return box

    async def _data_key(self, tenant_id: str) -> bytes:
        fresh = random_bytes(KEY_BYTES)
        async with self._database.tenant(tenant_id) as connection:
            # Two first uses at once: one row wins, and both read it.
            await connection.execute(
                """
                insert into tenant_keys (tenant_id, kek_id, wrapped) values ($1, $2, $3)
                on conflict (tenant_id) do nothing
                """,
                tenant_id,
                self._keys.newest,
                self._wrap(tenant_id, fresh),
            )
            row = await connection.fetchrow(
                "select kek_id, wrapped from tenant_keys where tenant_id = $1", tenant_id
            )
        assert row is not None
        return self._unwrap(tenant_id, row["kek_id"], row["wrapped"])

    def _wrap(self, tenant_id: str, data_key: bytes) -> bytes:
        return bytes(Aead(self._keys.keys[self._keys.newest]).encrypt(data_key, tenant_id.encode()))

    def _unwrap(self, tenant_id: str, kek_id: str, wrapped: bytes) -> bytes:
        key = self._keys.keys.get(kek_id)
        if key is None:
            raise SealError(f"the key-encryption key {kek_id} is not loaded; restore {kek_id}{SUFFIX}")
        try:
            return Aead(key).decrypt(wrapped, tenant_id.encode())
        except CryptoError:
            raise SealError(
                f"the key-encryption key {kek_id} is not the one that sealed this data key"
            ) from None


def _associated_data(tenant_id: str, identity: str) -> bytes:
    return f"{tenant_id}|{identity}|1".encode()


def _create_key(path: Path) -> None:
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(random_bytes(KEY_BYTES).hex() + "\n")
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
