"""A first look at an uploaded file: what its first bytes say against what its name promises."""

import os
from pathlib import Path

from weir_shared.errors import InvalidRequest

LOOKED_AT = 64 * 1024
_PARQUET = b"PAR1"
_ENCRYPTED = b"PARE"
_OTHERS = (
    (b"\x1f\x8b", "compressed with gzip; unpack it first"),
    (b"PK\x03\x04", "a zip archive or a spreadsheet; unpack it, or save it as CSV"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; unpack it first"),
    (b"BZh", "compressed with bzip2; unpack it first"),
    (b"\xfd7zXZ", "compressed with xz; unpack it first"),
    (b"ARROW1", "an Arrow file, which is not imported; save it as Parquet"),
    (b"Obj\x01", "an Avro file, which is not imported; save it as Parquet"),
    (b"ORC", "an ORC file, which is not imported; save it as Parquet"),
    (b"%PDF", "a PDF"),
    (b"\xd0\xcf\x11\xe0", "a spreadsheet; save it as CSV"),
    (b"\xff\xfe", "text in UTF-16; save it as UTF-8"),
    (b"\xfe\xff", "text in UTF-16; save it as UTF-8"),
    (b"SQLite format 3", "a SQLite database"),
)


class UnreadableFile(InvalidRequest):
    code = "unreadable_file"


def look(path: Path, ending: str) -> dict[str, str]:
    """The parameters that the first bytes ask for. Raises UnreadableFile."""
    with path.open("rb") as file:
        head = file.read(LOOKED_AT)
        file.seek(-min(len(head), 4), os.SEEK_END)
        tail = file.read()
    if not head:
        raise UnreadableFile("The file is empty")
    if ending == "parquet":
        _require_parquet(head, tail)
        return {}
    return _look_at_text(head, ending)


def _require_parquet(head: bytes, tail: bytes) -> None:
    if head.startswith(_ENCRYPTED) or tail == _ENCRYPTED:
        raise UnreadableFile("The Parquet file is encrypted; the platform has no key for it")
    if not head.startswith(_PARQUET):
        raise UnreadableFile("The file is no Parquet file, although its name says so")
    if tail != _PARQUET:
        raise UnreadableFile("The Parquet file has been cut off: its end is missing")


def _look_at_text(head: bytes, ending: str) -> dict[str, str]:
    if head.startswith((_PARQUET, _ENCRYPTED)):
        raise UnreadableFile(f"The file is Parquet, although its name ends in .{ending}")
    for sign, meaning in _OTHERS:
        if head.startswith(sign):
            raise UnreadableFile(f"The file is {meaning}")
    if b"\0" in head:
        raise UnreadableFile("The file is not text: it holds NUL bytes")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text and len(head) < LOOKED_AT:
        raise UnreadableFile("The file is empty")
    if ending == "json" and text.startswith(b"["):
        return {"json_format": "array"}
    if ending in ("json", "jsonl", "ndjson") and not text.startswith(b"{"):
        wish = "objects, one a line" + (", or one array of them" if ending == "json" else "")
        raise UnreadableFile(f"A .{ending} file holds {wish}")
    return {}
