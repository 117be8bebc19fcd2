"""The kept rows of one relation on disk: a directory a generation, complete or not there at all.

`<cache>/accelerated/<name>/gen-<n>/` holds the files of generation n and its manifest. It is written as
`gen-<…>.partial`, flushed, and renamed: what has its final name is whole. The newest whole generation of the
right definition is the one that counts; the one before it stays as a spare.
"""

import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from weir.lake_runtime.faults import Fault

FOLDER = "accelerated"
MANIFEST = "manifest.json"
# So much of a disk is left to what else lives on it.
FREE_BYTES = 256 * 1024 * 1024
# As long as a replaced process may take over its last answers.
ENDING_SECONDS = 200.0
_WHOLE = re.compile(r"gen-(\d{1,12})")


class NoRoom(Fault):
    status, code = 400, "no_room"


class Generation(Struct, frozen=True, kw_only=True):
    """What is known of one load."""

    number: int
    fingerprint: str
    """Of the definition that it was loaded by."""
    row_count: int
    byte_count: int
    schema: str
    """An Arrow schema as an IPC message, in base64."""
    loaded_at: str
    files: dict[str, int] = {}
    """Names and sizes."""


class Shelf:
    """The generations of one relation. Files are touched by one refresh at a time."""

    def __init__(self, cache: Path, name: str) -> None:
        self.path = cache / FOLDER / _folder_of(name)
        self._found = frozenset(self._numbers())
        self._since = time.monotonic()

    def directory(self, number: int) -> Path:
        return self.path / f"gen-{number}"

    def newest(self, fingerprint: str) -> Generation | None:
        """The newest generation of this definition whose files are there as they were written."""
        for number in sorted(self._numbers(), reverse=True):
            generation = self._read(number)
            if generation is not None and generation.fingerprint == fingerprint:
                return generation
        return None

    def begin(self) -> Path:
        """An empty directory to write the next generation in, this process's own."""
        partial = self.path / f"gen-{secrets.token_hex(4)}.partial"
        partial.mkdir(parents=True)
        return partial

    def commit(self, partial: Path, generation: Generation) -> Generation:
        """Flush everything, then give the directory its name: a crash leaves either all of it or nothing.

        Its number is the next one that is free: a process that was replaced may still be ending a load.
        """
        for file in generation.files:
            _flush(partial / file)
        number = max(self._numbers(), default=0)
        while True:
            number += 1
            numbered = msgspec.structs.replace(generation, number=number)
            manifest = partial / MANIFEST
            manifest.write_bytes(msgspec.json.encode(numbered))
            _flush(manifest)
            _flush(partial)
            try:
                partial.rename(self.directory(number))
            except OSError:
                if self.directory(number).exists():
                    continue
                raise
            _flush(self.path)
            return numbered

    def drop_before(self, number: int) -> None:
        """Drop older generations; those of an earlier process only when its last answers have ended."""
        is_young = time.monotonic() - self._since < ENDING_SECONDS
        for old in self._numbers():
            if old < number and not (is_young and old in self._found):
                shutil.rmtree(self.directory(old), ignore_errors=True)

    def _numbers(self) -> list[int]:
        if not self.path.is_dir():
            return []
        return [int(match[1]) for entry in self.path.iterdir() if (match := _WHOLE.fullmatch(entry.name))]

    def _read(self, number: int) -> Generation | None:
        directory = self.directory(number)
        try:
            generation = msgspec.json.decode((directory / MANIFEST).read_bytes(), type=Generation)
            sizes = {file: (directory / file).stat().st_size for file in generation.files}
        except (OSError, msgspec.DecodeError):
            return None
        return generation if sizes == generation.files else None


class Shelves:
    """The shelves of one runtime, and the room that they share."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._shelves: dict[str, Shelf] = {}

    def of(self, name: str) -> Shelf:
        """One object a name, so that two versions of a configuration do not write one number."""
        key = name.lower()
        if key not in self._shelves:
            self._shelves[key] = Shelf(self._cache, name)
        return self._shelves[key]

    def clear_away(self) -> None:
        """At a runtime's birth: loads that a killed one left unfinished are nobody's."""
        for partial in (self._cache / FOLDER).glob("*/gen-*.partial"):
            shutil.rmtree(partial, ignore_errors=True)

    def keep_only(self, names: Iterable[str]) -> None:
        """Drop what relations have left that there are no more."""
        kept = {_folder_of(name) for name in names}
        root = self._cache / FOLDER
        for folder in root.iterdir() if root.is_dir() else ():
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)
                self._shelves = {k: s for k, s in self._shelves.items() if s.path != folder}

    def require_room(self, most_bytes: int) -> None:
        """Raises NoRoom when the kept rows take more than they may, or when the disk is nearly full."""
        root = self._cache / FOLDER
        if bytes_under(root) > most_bytes:
            raise NoRoom(f"The kept rows of the lake would take more than {most_bytes} bytes.")
        if shutil.disk_usage(root if root.exists() else self._cache).free < FREE_BYTES:
            raise NoRoom("The disk for kept rows is nearly full.")


def bytes_under(root: Path) -> int:
    """What files take, one that has several names once."""
    seen: dict[tuple[int, int], int] = {}
    for folder, _, files in os.walk(root):
        for name in files:
            try:
                found = (Path(folder) / name).stat()
            except OSError:
                continue  # dropped meanwhile
            seen[found.st_dev, found.st_ino] = found.st_size
    return sum(seen.values())


def mark_of(content: object) -> str:
    """What two definitions that load the same rows have in common."""
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()[:32]


def _folder_of(name: str) -> str:
    # Names differ in more than their letters' case, and are made of letters, digits, `_` and `.`.
    lowered = name.lower()
    if re.fullmatch(r"[a-z0-9_.]{1,200}", lowered) and not lowered.startswith("."):
        return lowered
    return "_" + hashlib.sha256(lowered.encode()).hexdigest()[:40]


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
