"""A cold query, from the desk to the runtime and back."""

import asyncio
from typing import Any

ROWS = [{"id": 1, "name": "Alice"}, {"id": 2, "name": "Chloé"}]


async def test_a_cold_query_wakes_the_lake_and_answers(caller: Any) -> None:
    await caller.add("people", caller.parquet("people", ROWS))
    answer = await caller.sql("select * from people order by id")
    assert answer.status_code == 200, answer.text
    assert answer.json()["rows"] == ROWS
    assert answer.json()["coldStart"] is True
    assert (await caller.sql("select 1 as one")).json()["coldStart"] is False


async def test_fifty_cold_queries_boot_the_lake_once(caller: Any) -> None:
    answers = await asyncio.gather(*(caller.sql(f"select {n} as n") for n in range(50)))
    assert [answer.status_code for answer in answers] == [200] * 50
    assert [answer.json()["rows"] for answer in answers] == [[{"n": n}] for n in range(50)]
    assert (await caller.vm())["epoch"] == 1
