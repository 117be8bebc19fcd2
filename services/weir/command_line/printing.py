"""What a command prints: a table for a person, CSV for a pipe, JSON for a program."""

import csv
import io
import json
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, Literal

Form = Literal["table", "csv", "json"]
FORMS: tuple[Form, ...] = ("table", "csv", "json")
# A longer text makes the lines of all the others unreadable.
WIDEST = 200


class ReaderGone(Exception):
    """Whoever reads standard output has left."""


def form_of(chosen: Form | None) -> Form:
    """A table on a terminal, CSV where a program reads."""
    return chosen or ("table" if sys.stdout.isatty() else "csv")


def show(form: Form, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Rows of a command's own, in any form."""
    if form == "table":
        write(table_of(columns, list(rows)))
    elif form == "csv":
        write(csv_of(columns, rows))
    else:
        show_json([dict(zip(columns, row, strict=True)) for row in rows])


def show_json(value: Any) -> None:
    write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def write(text: str) -> None:
    """Raises ReaderGone."""
    write_bytes(text.encode("utf-8", "replace"))


def write_bytes(content: bytes) -> None:
    """Raises ReaderGone."""
    try:
        sys.stdout.buffer.write(content)
    except BrokenPipeError:
        raise ReaderGone from None


def flush() -> None:
    """Raises ReaderGone."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderGone from None


def say(text: str) -> None:
    """A word beside the output."""
    sys.stderr.write(f"{text}\n")


def table_of(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Aligned columns; numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    titles = [_cell(column) for column in columns]
    widths = [max([_width(title), *(_width(row[n]) for row in cells)]) for n, title in enumerate(titles)]
    right = [
        bool(rows) and all(row[n] is None or _is_number(row[n]) for row in rows) for n in range(len(titles))
    ]

    def line(texts: Sequence[str]) -> str:
        padded = [_padded(text, widths[n], right=right[n]) for n, text in enumerate(texts)]
        return "  ".join(padded).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([line(titles), rule, *(line(row) for row in cells)]) + "\n"


def csv_of(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([["" if value is None else _text(value) for value in row] for row in rows])
    return sink.getvalue()


def _cell(value: Any) -> str:
    """A value on one line; what would move the cursor or colour the terminal is shown, not done."""
    text = "NULL" if value is None else _text(value)
    text = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
    return text if len(text) <= WIDEST else f"{text[:WIDEST]}…"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _width(text: str) -> int:
    return sum(_sign_width(sign) for sign in text)


def _sign_width(sign: str) -> int:
    if unicodedata.combining(sign):
        return 0
    return 2 if unicodedata.east_asian_width(sign) in "WF" else 1


def _padded(text: str, width: int, *, right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if right else text + space
