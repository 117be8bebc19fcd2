"""`POST /sql` in each of its forms, its parameters, its cache and its history, through the desk."""

import io
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.csv
import pytest

from weir.context_lake.formats import UnknownFormat, choose_format

ARROW = "application/vnd.apache.arrow.stream"
SERIES = "select value as n from generate_series(1, 25000)"


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("application/*", "json"),
        ("text/*", "csv"),
        ("TEXT/CSV; charset=utf-8", "csv"),
        ("text/plain", "text"),
        (ARROW, "arrow"),
        ("application/json;q=0.5, text/csv", "csv"),
        ("text/csv, application/json", "csv"),
        ("application/json, text/csv", "json"),
        ("application/json;q=0, */*", "ndjson"),
        ("text/xml, application/x-ndjson;q=0.1", "ndjson"),
    ],
)
def test_the_form_with_the_highest_quality_is_chosen(accept: str, form: str) -> None:
    assert choose_format(accept) == form


@pytest.mark.parametrize("accept", ["text/xml", "application/json;q=0", "image/*", "application/json;q=x"])
def test_a_form_that_is_not_offered_is_refused(accept: str) -> None:
    with pytest.raises(UnknownFormat):
        choose_format(accept)


async def ask(caller: Any, accept: str, query: str, **more: Any) -> Any:
    answer = await caller.http.post("/sql", json={"query": query} | more, headers={"accept": accept})
    assert answer.status_code == 200, answer.text
    return answer


async def test_arrow_has_every_row_unless_a_limit_is_asked_for(caller: Any) -> None:
    answer = await ask(caller, ARROW, SERIES)
    table = pa.ipc.open_stream(answer.content).read_all()
    assert (answer.headers["content-type"], table.num_rows) == (ARROW, 25_000)
    assert table["n"].to_pylist()[-1] == 25_000
    few = pa.ipc.open_stream((await ask(caller, ARROW, SERIES, maxRows=7)).content).read_all()
    assert few.num_rows == 7
    none = pa.ipc.open_stream((await ask(caller, ARROW, "select 1 as x where false")).content).read_all()
    assert (none.column_names, none.num_rows) == (["x"], 0)


async def test_csv_has_every_row_unless_a_limit_is_asked_for(caller: Any) -> None:
    answer = await ask(caller, "text/csv", f"{SERIES} order by n")
    table = pyarrow.csv.read_csv(io.BytesIO(answer.content))
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["vary"] == "accept"
    assert table["n"].to_pylist() == list(range(1, 25_001))
    assert (await ask(caller, "text/csv", SERIES, maxRows=2)).text.splitlines()[1:] == ["1", "2"]


async def test_ndjson_is_a_row_a_line(caller: Any) -> None:
    answer = await ask(caller, "application/x-ndjson", SERIES, maxRows=3)
    assert msgspec.json.Decoder().decode_lines(answer.content) == [{"n": 1}, {"n": 2}, {"n": 3}]


async def test_text_is_a_table_of_bounded_length(caller: Any) -> None:
    answer = await ask(
        caller, "text/plain", "select 1 as id, 'a\nb' as name union all select 22, null order by id"
    )
    assert answer.text.splitlines() == [
        "+----+------+",
        "| id | name |",
        "+----+------+",
        "| 1  | a\\nb |",
        "| 22 |      |",
        "+----+------+",
        "2 rows",
    ]
    long = await ask(caller, "text/plain", SERIES)
    assert long.text.splitlines()[-1] == "10000 rows, and there are more"
    none = await ask(caller, "text/plain", "select 1 as x where false")
    assert none.text.splitlines()[-1] == "0 rows"


async def test_json_takes_a_million_rows_and_not_one_more(caller: Any) -> None:
    most = await caller.sql("select 1 as x", maxRows=1_000_000)
    assert most.json()["rows"] == [{"x": 1}]
    over = await caller.sql("select 1 as x", maxRows=1_000_001)
    assert (over.status_code, over.json()["errors"][0]["path"]) == (400, "maxRows")


@pytest.mark.parametrize(
    ("query", "parameters", "row"),
    [
        ("select $1 + 1 as a, $2 as b", [41, "x'; drop table t"], {"a": 42, "b": "x'; drop table t"}),
        ("select $day as a, $on as b", {"day": "2026-01-02", "on": True}, {"a": "2026-01-02", "b": True}),
        ("select $1 as a, $1 as b", [None], {"a": None, "b": None}),
        ("select 1.5 * $f as a", {"$f": 2.0}, {"a": 3.0}),
    ],
)
async def test_parameters_are_bound_by_position_and_by_name(
    caller: Any, query: str, parameters: Any, row: dict[str, Any]
) -> None:
    assert await caller.rows(query, parameters=parameters) == [row]


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        ("select $1 as a", [1, 2]),
        ("select $1 as a, $2 as b", [1]),
        ("select $a as a", {"b": 1}),
        ("select '$1' as a", [1]),
        ("select $1 as a", {}),
    ],
)
async def test_parameters_that_do_not_fit_are_400(caller: Any, query: str, parameters: Any) -> None:
    answer = await caller.sql(query, parameters=parameters)
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] in {"parameters_mismatch", "sql_error"}


async def test_the_same_question_is_answered_from_the_cache(caller: Any) -> None:
    query = "select 7 as seven"
    first, second = await caller.sql(query), await caller.sql("  select   7 as seven; ")
    assert first.headers["results-cache-status"] == "MISS"
    assert second.headers["results-cache-status"] == "HIT"
    assert second.json()["rows"] == first.json()["rows"]
    assert second.json()["coldStart"] is False
    again = await caller.http.post("/sql", json={"query": query}, headers={"cache-control": "no-cache"})
    assert again.headers["results-cache-status"] == "BYPASS"


async def test_a_changed_configuration_empties_the_cache(caller: Any) -> None:
    await caller.add("ones", caller.parquet("ones", [{"x": 1}]))
    assert await caller.rows("select * from ones") == [{"x": 1}]
    assert await caller.rows("select * from ones") == [{"x": 1}]
    source = caller.parquet("twos", [{"x": 2}])
    answer = await caller.http.put("/datasets/ones", json={"name": "ones", "from": source})
    assert answer.status_code == 200, answer.text
    assert await caller.rows("select * from ones") == [{"x": 2}]


async def test_a_query_is_found_in_the_history_of_its_own_tenant(caller: Any, other: Any) -> None:
    asked = await caller.http.post(
        "/sql", json={"query": "select 5 as five"}, headers={"x-request-id": "trace-of-five"}
    )
    assert asked.status_code == 200
    await caller.sql("drop table five")
    rows = await caller.rows(
        "select trace_id, task, input, error_message, end_time >= start_time as ordered, labels"
        " from runtime.task_history"
    )
    fine, refused = rows
    assert (fine["task"], fine["input"], fine["error_message"]) == ("sql_query", "select 5 as five", None)
    assert (fine["trace_id"], fine["ordered"], fine["labels"]["rows"]) == ("trace-of-five", True, "1")
    assert (refused["input"], refused["labels"]["error_code"]) == ("drop table five", "statement_not_allowed")
    assert await other.rows("select * from runtime.task_history") == []


async def test_explain_shows_no_folder_of_the_machine(lake: Any, caller: Any) -> None:
    await caller.add("numbers", caller.parquet("numbers", [{"id": 1}]))
    for query in ("explain", "explain verbose", "explain analyze", "explain format tree"):
        text = (await caller.sql(f"{query} select * from numbers where id = 1")).text
        assert str(lake.settings.data_dir).lstrip("/") not in text
        assert "plan" in text


async def test_integers_of_64_bits_are_texts_when_the_address_says_so(caller: Any) -> None:
    query = {"query": "select 9007199254740993 as n, cast(1 as int) as m"}
    asked = await caller.http.post("/sql?int64=string", json=query)
    assert asked.json()["rows"] == [{"n": "9007199254740993", "m": 1}]
    # Not the kept answer of the other way.
    plain = await caller.http.post("/sql", json=query)
    assert plain.text.startswith('{"rows":[{"n":9007199254740993,"m":1}]')
    wrong = await caller.http.post("/sql?int64=bytes", json=query)
    assert (wrong.status_code, wrong.json()["errors"][0]["path"]) == (400, "int64")


async def test_json_ends_at_32_mib_unless_rows_are_asked_for(caller: Any) -> None:
    query = "select repeat('x', 10000) as x from generate_series(1, 9000)"
    answer = await caller.sql(query)
    body = answer.json()
    assert body["truncated"] is True
    assert len(body["rows"]) == body["rowCount"] < 9000
    assert 32 * 2**20 <= len(answer.content) < 34 * 2**20
    whole = (await caller.sql(query, maxRows=10_000)).json()
    assert (whole["rowCount"], whole["truncated"]) == (9000, False)
