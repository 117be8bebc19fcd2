"""What a command prints: for a person, for a pipe, for a program."""

import json
from typing import Any

import pytest

from weir.command_line.printing import csv_of, form_of, show, table_of


def test_a_table_is_aligned_by_what_a_terminal_shows() -> None:
    rows = [("Oslo", 1), ("東京", 200), ("Chloé", None)]
    assert table_of(("town", "n"), rows).splitlines() == [
        "town      n",
        "-----  ----",
        "Oslo      1",
        "東京    200",
        "Chloé  NULL",
    ]


def test_a_cell_cannot_move_the_cursor_or_break_its_line() -> None:
    table = table_of(("x\x1b[2J",), [("a\nb",), ("\x1b]0;title\x07",), ("\u202egnp",)])
    assert all(sign == "\n" or sign.isprintable() for sign in table)
    assert len(table.splitlines()) == 5


def test_csv_quotes_what_needs_it_and_leaves_nothing_for_null() -> None:
    text = csv_of(("a", "b"), [('x,"y"', None), (True, {"k": [1]})])
    assert text == 'a,b\n"x,""y""",\ntrue,"{""k"": [1]}"\n'


@pytest.mark.parametrize("rows", [[], [("a", 1)], [("ä", None)]])
def test_json_is_an_array_of_objects(capfdbinary: Any, rows: list[Any]) -> None:
    show("json", ("name", "n"), rows)
    import sys

    sys.stdout.flush()
    assert json.loads(capfdbinary.readouterr().out) == [
        dict(zip(("name", "n"), row, strict=True)) for row in rows
    ]


def test_a_pipe_gets_csv_and_whoever_asks_gets_what_was_asked(capfd: Any) -> None:
    assert form_of(None) == "csv"
    assert form_of("table") == "table"
