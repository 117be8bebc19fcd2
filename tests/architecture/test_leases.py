"""Leases are given and judged by the database's clock, never by that of the process that asks."""

import re
from pathlib import Path

import pytest
from tests.promises import Promise

ROOT = Path(__file__).parents[2]
# Who ends it, and what it is measured against.
USE = re.compile(r"\b(?:\w+\.)?(lease_until|claimed_until)\s*(<=|>=|<|>|=)\s*([^\s,)]+)")
BY_THE_DATABASE = re.compile(r"now\(|null\b|clock_timestamp\(|excluded\.")


@pytest.mark.promise("P30")
def test_every_lease_is_measured_by_the_clock_of_the_database(promise: Promise) -> None:
    uses, wrong, tables = 0, list[str](), set[str]()
    for path in sorted((ROOT / "services" / "weir").rglob("tables/*.py")):
        for column, _, against in USE.findall(path.read_text()):
            uses += 1
            tables.add(path.stem)
            if not BY_THE_DATABASE.match(against):
                wrong.append(f"{path.name}: {column} against {against}")
    assert wrong == []
    assert uses > 30
    promise.held(
        f"{uses} statements of {len(tables)} tables give or judge a lease, all by the database's clock"
    )
