"""The page of promises against the tests that are marked to prove them."""

import re
from pathlib import Path

import pytest
from tests.promises import line_of

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/operations/promises.md").read_text()
ROWS = {int(number): row for number, row in re.findall(r"^\| P(\d+) \|(.*)\|$", PAGE, re.MULTILINE)}
MARKS = {
    (int(number), str(path.relative_to(ROOT)))
    for path in (ROOT / "tests").rglob("test_*.py")
    for number in re.findall(r'promise\("P(\d+)"\)', path.read_text())
    if path.name != Path(__file__).name
}
# The chart's.
ELSEWHERE = {28}


@pytest.mark.parametrize("number", range(1, 31))
def test_a_promise_stands_on_the_page_with_every_test_that_proves_it(number: int) -> None:
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", ROWS[number]))
    assert named == {path for marked, path in MARKS if marked == number}
    assert named or number in ELSEWHERE or "**Not proved.**" in ROWS[number]


@pytest.mark.parametrize("number", sorted({number for number, _ in MARKS}))
def test_a_line_of_a_real_run_is_quoted(number: int) -> None:
    is_quoted = f"\n{line_of(f'P{number}', '')}" in PAGE
    assert is_quoted != ("**Not shown**" in ROWS[number])
