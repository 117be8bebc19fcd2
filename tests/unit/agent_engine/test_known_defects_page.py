"""The page of known defects names tests that there are, for every item of the list."""

import re
from collections import defaultdict
from pathlib import Path

TESTS = Path(__file__).parents[2]
PAGE = TESTS.parent / "docs" / "decisions" / "0027-known-defects.md"
ITEMS = 22


def names_by_file() -> dict[str, set[str]]:
    """The names of the tests in files of one name, wherever these are."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for file in TESTS.rglob("test_*.py"):
        found[file.name] |= set(re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE))
    return found


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[-1] != "proved by" and not set(row[0]) <= set("- ")]


def test_every_test_that_the_page_names_exists() -> None:
    there = names_by_file()
    page = PAGE.read_text()
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", page)
    assert len(named) == page.count("`test_")
    assert [pair for pair in named if pair[1] not in there[pair[0]]] == []


def test_every_item_has_a_test_or_says_what_it_waits_for() -> None:
    for row in rows():
        assert re.search(r"`test_\w+\.py::test_\w+`|later \(\w[\w ,]*\)", row[-1]), row
    numbers = {int(row[0]) for row in rows() if row[0].isdigit()}
    assert numbers == set(range(1, ITEMS + 1))
