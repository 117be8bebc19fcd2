"""Ed25519 key pairs in files: made once, private part readable by its owner only."""

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from msgspec import Struct

JWT_KEY = "jwt_ed25519"
TICKET_KEY = "ticket_ed25519"
SEED_BYTES = 32


class UnusableKey(Exception):
    """A key file that is missing or does not hold an Ed25519 key; the message names the file."""


class KeyPair(Struct, frozen=True):
    private: Ed25519PrivateKey
    public: Ed25519PublicKey


def load_or_create_key_pair(directory: Path, name: str) -> KeyPair:
    """The pair kept as `<name>.priv` (hex of seed and public key, 0600) and `<name>.pub` (hex, 0644).

    Safe against two first starts at once: whoever links the finished private file wins, the other reads it.
    """
    private_path = directory / f"{name}.priv"
    if not private_path.exists():
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        _create_private_file(private_path)
    private = _read_private(private_path)
    _write_public_file(directory / f"{name}.pub", private.public_key())
    return KeyPair(private, private.public_key())


def load_public_key(path: Path) -> Ed25519PublicKey:
    """A public key from one line of hex or from PEM."""
    try:
        content = path.read_bytes().strip()
    except OSError as fault:
        raise UnusableKey(f"The public key {path} cannot be read: {fault.strerror}") from None
    try:
        if content.startswith(b"-----BEGIN"):
            key = load_pem_public_key(content)
        else:
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(content.decode("ascii")))
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableKey(f"{path} holds no Ed25519 public key (one line of hex, or PEM)") from None
    if not isinstance(key, Ed25519PublicKey):
        raise UnusableKey(f"{path} holds a public key of another kind than Ed25519")
    return key


def _create_private_file(path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    content = key.private_bytes_raw() + key.public_key().public_bytes_raw()
    # Written aside and linked, so that a reader never sees a half-written key.
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content.hex() + "\n")
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _read_private(path: Path) -> Ed25519PrivateKey:
    try:
        content = bytes.fromhex(path.read_text().strip())
        return Ed25519PrivateKey.from_private_bytes(content[:SEED_BYTES])
    except OSError as fault:
        raise UnusableKey(f"The private key {path} cannot be read: {fault.strerror}") from None
    except ValueError:
        raise UnusableKey(
            f"{path} holds no Ed25519 private key; restore it, or remove it to make a new one"
        ) from None


def _write_public_file(path: Path, key: Ed25519PublicKey) -> None:
    text = key.public_bytes_raw().hex() + "\n"
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
        path.chmod(0o644)
