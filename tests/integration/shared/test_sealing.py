"""Secrets at rest: they open for their own tenant, row and key, and for nothing else."""

from pathlib import Path

import pytest

from weir_shared.db.pool import Database
from weir_shared.sealing import KeyEncryptionKeys, SealError, Vault, load_or_create_keys


@pytest.fixture
def keys(tmp_path: Path) -> KeyEncryptionKeys:
    return load_or_create_keys(tmp_path / "kek")


async def test_a_secret_opens_again_also_after_a_restart(database: Database, keys, tenant_id: str) -> None:
    sealed = await Vault(database, keys).seal(tenant_id, "models|1|api_key", "sk-canary-ü")
    assert b"canary" not in sealed
    assert await Vault(database, keys).open(tenant_id, "models|1|api_key", sealed) == "sk-canary-ü"


async def test_a_secret_moved_to_another_row_does_not_open(database: Database, keys, tenant_id: str) -> None:
    vault = Vault(database, keys)
    sealed = await vault.seal(tenant_id, "models|1|api_key", "x")
    with pytest.raises(SealError):
        await vault.open(tenant_id, "models|2|api_key", sealed)


async def test_a_secret_moved_to_another_tenant_does_not_open(
    database: Database, keys, tenant_id: str
) -> None:
    vault = Vault(database, keys)
    sealed = await vault.seal(tenant_id, "models|1|api_key", "x")
    with pytest.raises(SealError):
        await vault.open("00000000-0000-0000-0000-000000000001", "models|1|api_key", sealed)


async def test_without_its_key_encryption_key_nothing_opens(
    database: Database, keys, tenant_id: str, tmp_path: Path
) -> None:
    sealed = await Vault(database, keys).seal(tenant_id, "a", "x")
    stranger = load_or_create_keys(tmp_path / "other")
    with pytest.raises(SealError):
        await Vault(database, stranger).open(tenant_id, "a", sealed)


def test_keys_are_made_once_and_for_their_owner_only(tmp_path: Path) -> None:
    first = load_or_create_keys(tmp_path / "kek")
    assert load_or_create_keys(tmp_path / "kek") == first
    assert (tmp_path / "kek" / "0001.kek").stat().st_mode & 0o777 == 0o600


def test_the_newest_key_seals(tmp_path: Path) -> None:
    load_or_create_keys(tmp_path)
    (tmp_path / "0002.kek").write_text("ab" * 32)
    assert load_or_create_keys(tmp_path).newest == "0002"


@pytest.mark.parametrize("content", ["", "zz" * 32, "ab" * 31])
def test_a_damaged_key_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "0001.kek").write_text(content)
    with pytest.raises(SealError, match=r"0001\.kek"):
        load_or_create_keys(tmp_path)
