"""Rows as a table of plain text, for people at a terminal.

Its columns are as wide as their widest value, so it is laid out when the last row is known: short answers only.
"""

import io
from typing import Any

import msgspec
import pyarrow as pa
from arro3.io import write_ndjson

MAX_ROWS = 10_000
_MAX_CELL = 200
_lines = msgspec.json.Decoder(dict[str, msgspec.Raw])


class TextTable:
    """Collects rows, as their JSON says them, until they are laid out."""

    def __init__(self, names: list[str]) -> None:
        self._rows: list[list[str]] = [[_printable(name) for name in names]]

    def add(self, batch: pa.RecordBatch) -> None:
        sink = io.BytesIO()
        write_ndjson(batch, sink, explicit_nulls=True)
        self._rows += [[_cell(raw) for raw in row.values()] for row in _lines.decode_lines(sink.getvalue())]

    def layout(self, *, truncated: bool) -> str:
        widths = [max(map(len, column)) for column in zip(*self._rows, strict=True)]
        rule = "+" + "".join("-" * (width + 2) + "+" for width in widths)
        head, *rest = [_line(row, widths) for row in self._rows]
        count = len(rest)
        told = f"{count} row{'' if count == 1 else 's'}{', and there are more' if truncated else ''}"
        return "\n".join([rule, head, rule, *rest, *([rule] if rest else []), told, ""])


def _line(row: list[str], widths: list[int]) -> str:
    return "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |"


def _cell(raw: Any) -> str:
    text = bytes(raw)
    if text == b"null":
        return ""
    return _printable(msgspec.json.decode(text, type=str) if text.startswith(b'"') else text.decode())


def _printable(text: str) -> str:
    """On one line and of bounded width; what a terminal would act upon is shown as an escape."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown if len(shown) <= _MAX_CELL else shown[: _MAX_CELL - 1] + "…"
