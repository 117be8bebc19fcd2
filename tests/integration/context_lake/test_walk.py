"""A cold query, from the desk to the runtime and back."""

from typing import Any

ROWS = [{"id": 1, "name": "Alice"}, {"id": 2, "name": "Chloé"}]


async def test_a_cold_query_wakes_the_lake_and_answers(caller: Any) -> None:
    await caller.add("people", caller.parquet("people", ROWS))
    answer = await caller.sql("select * from people order by id")
    assert answer.status_code == 200, answer.text
    assert answer.json()["rows"] == ROWS
    assert answer.json()["coldStart"] is True
    assert (await caller.sql("select 1 as one")).json()["coldStart"] is False
