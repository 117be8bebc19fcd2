"""The demo model: which questions it answers with which SQL, and that it refuses the others."""

import json
from typing import Any

import pytest

from weir.demo_model.plan import LABEL, Said, Speak, UseTool, plan

TOOLS = frozenset({"lake_query", "lake_tables"})
FLIGHTS = [
    "year",
    "month",
    "day",
    "dep_time",
    "sched_dep_time",
    "dep_delay",
    "arr_time",
    "sched_arr_time",
    "arr_delay",
    "carrier",
    "flight",
    "tailnum",
    "origin",
    "dest",
    "air_time",
    "distance",
    "hour",
    "minute",
    "time_hour",
]
CATALOGUE = json.dumps(
    {
        "tables": [
            {
                "name": "airlines",
                "kind": "dataset",
                "columns": [{"name": n, "type": "Utf8"} for n in ("carrier", "name")],
            },
            {
                "name": "airports",
                "kind": "dataset",
                "columns": [
                    {"name": n, "type": "Utf8"}
                    for n in ["faa", "name", "lat", "lon", "alt", "tz", "dst", "tzone"]
                ],
            },
            {
                "name": "flights",
                "kind": "dataset",
                "columns": [{"name": n, "type": "Int64"} for n in FLIGHTS],
            },
        ]
    }
)


def after_tables(question: str) -> Speak | UseTool:
    """What the model does once it has seen the tables."""
    said = [
        Said("user", question),
        Said("assistant", "", ("lake_tables",)),
        Said("tool", CATALOGUE, ("lake_tables",)),
    ]
    return plan(said, TOOLS)


def sql_of(question: str) -> str:
    move = after_tables(question)
    assert isinstance(move, UseTool), move
    assert move.tool == "lake_query"
    return move.arguments["query"]


def told(question: str, result: Any) -> str:
    text = result if isinstance(result, str) else json.dumps(result)
    move = plan([Said("user", question), Said("tool", text, ("lake_query",))], TOOLS)
    assert isinstance(move, Speak)
    return move.text


def test_a_question_begins_with_a_look_at_the_tables() -> None:
    assert plan([Said("user", "How many flights are there?")], TOOLS) == UseTool("lake_tables", {})


@pytest.mark.parametrize(
    ("question", "sql"),
    [
        ("How many flights are there?", 'select count(*) as "number of flights" from "flights"'),
        ("how many rows are in flights", 'select count(*) as "number of flights" from "flights"'),
        ("What is the longest distance?", 'select max("distance") as "maximum distance" from "flights"'),
        (
            "What is the average air time of flights?",
            'select avg("air_time") as "average air_time" from "flights"',
        ),
        ("total distance", 'select sum("distance") as "total distance" from "flights"'),
        (
            "How many destinations are there?",
            'select count(distinct "dest") as "number of different dest" from "flights"',
        ),
        ("How many airports are there?", 'select count(*) as "number of airports" from "airports"'),
        (
            "Number of flights by origin",
            'select "origin", count(*) as "number of flights" from "flights" group by "origin" '
            'order by "number of flights" desc nulls last limit 100',
        ),
    ],
)
def test_a_question_of_the_grammar_becomes_sql(question: str, sql: str) -> None:
    assert sql_of(question) == sql


@pytest.mark.parametrize(
    ("question", "inner", "tail"),
    [
        (
            "What is the average departure delay by carrier?",
            'select "carrier", avg("dep_delay") as "average dep_delay" from "flights" group by "carrier"',
            'order by "average dep_delay" desc nulls last limit 100',
        ),
        (
            "Which 5 airlines have the most flights?",
            'select "carrier", count(*) as "number of flights" from "flights" group by "carrier"',
            'order by "number of flights" desc nulls last limit 5',
        ),
        (
            "Top 3 carriers by average distance",
            'select "carrier", avg("distance") as "average distance" from "flights" group by "carrier"',
            'order by "average distance" desc nulls last limit 3',
        ),
        (
            "Which carriers have the longest arrival delay?",
            'select "carrier", max("arr_delay") as "maximum arr_delay" from "flights" group by "carrier"',
            'order by "maximum arr_delay" desc nulls last limit 5',
        ),
        (
            "Which carriers have the highest average arrival delay?",
            'select "carrier", avg("arr_delay") as "average arr_delay" from "flights" group by "carrier"',
            'order by "average arr_delay" desc nulls last limit 5',
        ),
        (
            "which three airlines have the fewest flights",
            'select "carrier", count(*) as "number of flights" from "flights" group by "carrier"',
            'order by "number of flights" asc nulls last limit 3',
        ),
    ],
)
def test_what_has_names_in_another_table_is_shown_with_them(question: str, inner: str, tail: str) -> None:
    sql = sql_of(question)
    assert f"({inner}) as found" in sql
    assert 'left join "airlines" as names on names."carrier" = found."carrier"' in sql
    assert sql.endswith(tail)


@pytest.mark.parametrize(
    "text",
    [
        "select origin, count(*) from flights group by origin",
        "SQL: SELECT 1",
        "with a as (select 1) select * from a",
    ],
)
def test_sql_is_passed_on_as_it_is(text: str) -> None:
    move = plan([Said("user", text)], TOOLS)
    assert move == UseTool("lake_query", {"query": text.removeprefix("SQL: ")})


@pytest.mark.parametrize(
    ("question", "unread"),
    [
        ("How many flights from JFK are there?", "'jfk'"),
        ("How many flights were there in January?", "'january'"),
        ("What is the average weight by carrier?", "weight"),
        ("Average distance by pilot", "pilot"),
        ("Will my flight be late tomorrow?", "none of my questions"),
    ],
)
def test_a_question_that_would_be_answered_in_part_is_refused(question: str, unread: str) -> None:
    move = after_tables(question)
    assert isinstance(move, Speak)
    assert unread in move.text
    assert "scripted demo" in move.text
    assert "How many flights are there?" in move.text
    assert not any(sign.isdigit() for sign in move.text.replace("Which 5", ""))


def test_tables_are_listed_and_described_from_the_catalogue() -> None:
    listed = after_tables("List the tables")
    assert isinstance(listed, Speak)
    assert "**flights** (dataset), 19 columns" in listed.text
    described = after_tables("Describe flights")
    assert isinstance(described, Speak)
    assert "dep_delay Int64" in described.text


def test_every_answer_carries_the_label_and_the_figures_of_the_result() -> None:
    one = {"columns": ["number of flights"], "rows": [[336776]], "row_count": 1}
    assert told("How many flights are there?", one) == f"{LABEL}The number of flights is 336,776."
    many = {"columns": ["origin", "n"], "rows": [["EWR", 120835], ["JFK", None]], "row_count": 2}
    assert told("x", many) == f"{LABEL}| origin | n |\n| --- | --- |\n| EWR | 120,835 |\n| JFK | (none) |"
    assert told("x", {"columns": ["a"], "rows": [], "row_count": 0}).endswith("no rows.")
    assert "refused: no such table" in told("x", "[ERROR] no such table")
    assert "cannot read" in told("x", "[[[")


def test_without_the_lake_tools_it_says_so() -> None:
    move = plan([Said("user", "How many flights?")], frozenset())
    assert isinstance(move, Speak)
    assert "lake_tables" in move.text


def test_a_greeting_is_answered_with_what_it_is() -> None:
    move = plan([Said("user", "Hello!")], TOOLS)
    assert isinstance(move, Speak)
    assert "not a language model" in move.text


def test_only_the_live_question_counts() -> None:
    said = [
        Said("user", "List the tables"),
        Said("tool", CATALOGUE, ("lake_tables",)),
        Said("user", "select 1"),
    ]
    assert plan(said, TOOLS) == UseTool("lake_query", {"query": "select 1"})
