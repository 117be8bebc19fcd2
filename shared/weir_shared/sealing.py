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

from weir_shared.db.pool import Connection, Database
from weir_shared.telemetry.metrics import gauge

KEY_BYTES = 32
SUFFIX = ".kek"
KEK_REFERENCES = gauge(
    "secrets_kek_refs", "Data keys of tenants by the key-encryption key that wraps them", "kek"
)
REWRAP_BATCH = 500


class SealError(Exception):
    """A secret that cannot be opened: its key is missing, or it is not what it claims to be."""


class KeyEncryptionKeys(Struct, frozen=True):
    """The loaded keys by id, the id of the one that seals (the newest), and where they were read."""

    keys: dict[str, bytes]
    newest: str
    directory: Path | None = None


def load_or_create_keys(directory: Path) -> KeyEncryptionKeys:
    """Every `<id>.kek` of the directory (32 bytes as hex, 0600), sorted by id; makes the first one if there is none."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not list(directory.glob(f"*{SUFFIX}")):
        _create_key(directory / f"0001{SUFFIX}")
    return load_keys(directory)


def load_keys(directory: Path) -> KeyEncryptionKeys:
    """Raises SealError when a file does not hold a key."""
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
    return KeyEncryptionKeys(keys, max(keys), directory)


class Rotation(Struct, frozen=True):
    """What a rotation has done."""

    newest: str
    rewrapped: int


async def rotate_keys(database: Database, directory: Path) -> Rotation:
    """Makes a new key-encryption key and wraps every tenant's data key with it; the secrets stay as they are.

    The older keys stay in their directory: `drop_keys` takes away those that nothing needs any more. A rotation
    that was interrupted is finished by the next one. Raises SealError.
    """
    before = load_or_create_keys(directory)
    _create_key(directory / f"{_next_id(before.newest)}{SUFFIX}")
    rewrapped = 0
    # Read anew for every batch: another rotation may have gone further meanwhile.
    while batch := await _rewrap_some_any(database, load_keys(directory)):
        rewrapped += batch
    return Rotation(load_keys(directory).newest, rewrapped)


async def count_any_references(connection: Connection) -> dict[str, int]:
    """How many tenants' data keys each key-encryption key wraps, by its id."""
    rows = await connection.fetch("select kek_id, count(*) as tenants from tenant_keys group by 1")
    return {row["kek_id"]: row["tenants"] for row in rows}


async def drop_keys(database: Database, directory: Path) -> tuple[list[str], list[str]]:
    """Sets aside every older key that no data key refers to, as `<id>.kek.dropped`; the ids that went, and
    the ids that are still needed and stay."""
    keys = load_keys(directory)
    async with database.any_tenant() as connection:
        rows = await connection.fetch("select distinct kek_id from tenant_keys")
    needed = {row["kek_id"] for row in rows}
    older = [key for key in keys.keys if key != keys.newest]
    dropped = [key for key in older if key not in needed]
    for key in dropped:
        path = directory / f"{key}{SUFFIX}"
        path.rename(path.with_name(f"{path.name}.dropped"))
    return dropped, [key for key in older if key in needed]


async def _rewrap_some_any(database: Database, keys: KeyEncryptionKeys) -> int:
    """One batch of data keys that an older key wraps; each changes only if nobody else has changed it."""
    async with database.any_tenant() as connection:
        rows = await connection.fetch(
            "select tenant_id, kek_id, wrapped from tenant_keys where kek_id <> $1 limit $2 for update",
            keys.newest,
            REWRAP_BATCH,
        )
        fresh = [
            (row["tenant_id"], keys.newest, _wrap(keys, row["tenant_id"], _unwrap(keys, **dict(row))))
            for row in rows
        ]
        await connection.executemany(
            "update tenant_keys set kek_id = $2, wrapped = $3 where tenant_id = $1", fresh
        )
    return len(rows)


def _next_id(newest: str) -> str:
    """An id that sorts after the newest one."""
    following = str(int(newest) + 1).zfill(len(newest)) if newest.isascii() and newest.isdigit() else ""
    return following if following > newest else f"{newest}-2"


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
                _wrap(self._keys, tenant_id, fresh),
            )
            row = await connection.fetchrow(
                "select kek_id, wrapped from tenant_keys where tenant_id = $1", tenant_id
            )
        assert row is not None
        return _unwrap(self._keys_for(row["kek_id"]), tenant_id, row["kek_id"], row["wrapped"])

    def _keys_for(self, kek_id: str) -> KeyEncryptionKeys:
        """The loaded keys; read again when a rotation has made one since."""
        if kek_id not in self._keys.keys and self._keys.directory is not None:
            self._keys = load_keys(self._keys.directory)
        return self._keys


def _wrap(keys: KeyEncryptionKeys, tenant_id: str, data_key: bytes) -> bytes:
    return bytes(Aead(keys.keys[keys.newest]).encrypt(data_key, tenant_id.encode()))


def _unwrap(keys: KeyEncryptionKeys, tenant_id: str, kek_id: str, wrapped: bytes) -> bytes:
    key = keys.keys.get(kek_id)
    if key is None:
        raise SealError(f"the key-encryption key {kek_id} is not loaded; restore {kek_id}{SUFFIX}")
    try:
        return Aead(key).decrypt(wrapped, tenant_id.encode())
    except CryptoError:
        raise SealError(f"the key-encryption key {kek_id} is not the one that sealed this data key") from None


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
