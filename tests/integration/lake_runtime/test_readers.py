"""Which reader of Parquet a statement gets: the one that picks rows, or the one that reads on."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from .conftest import Lakes, dataset

VIEW = {"name": "v", "sql": "select id, word from t"}


@pytest.mark.parametrize(
    ("query", "is_pushed"),
    [
        ("select * from t where id = 70", True),
        ("select word from t where id = 70", True),
        ("select * from v where id = 70", True),
        ("select count(*) as n from t where word = 'w7'", False),
        ("select a.word from t a join t b using (id) where b.id = 70", False),
    ],
)
async def test_a_filter_is_part_of_the_scan_when_a_few_rows_are_looked_for(
    lakes: Lakes, query: str, is_pushed: bool
) -> None:
    folder = lakes.imports / "folder" / "day=1"
    folder.mkdir(parents=True)
    pq.write_table(
        pa.table({"id": range(1_000), "word": [f"w{i % 10}" for i in range(1_000)]}), folder / "a.parquet"
    )
    lake = await lakes.start()
    await lake.configure(
        dataset("t", folder.parent, "parquet", hive_partitioning_enabled="true"), views=[VIEW]
    )
    plan = "\n".join(
        row["plan"] for row in await lake.rows(f"explain {query}") if "physical" in row["plan_type"]
    )
    assert ("FilterExec" not in plan) is is_pushed, plan
    assert len(await lake.rows(query)) == 1


async def test_both_readers_have_the_same_columns(lakes: Lakes) -> None:
    folder = lakes.imports / "folder" / "day=1"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"id": [1, 2], "word": ["x", None]}), folder / "a.parquet")
    lake = await lakes.start()
    await lake.configure(dataset("t", folder.parent, "parquet", hive_partitioning_enabled="true"))
    expected = [{"id": 1, "word": "x", "day": "1"}, {"id": 2, "word": None, "day": "1"}]
    assert await lake.rows("select * from t order by id") == expected
    assert await lake.rows("select distinct * from t order by id") == expected
