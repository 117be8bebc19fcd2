"""What a view's statement is found to read, and what is refused as one."""

import time

import pytest

from weir.context_lake.statement import StatementFault, read_statement


def relations(sql: str) -> list[str]:
    return list(read_statement(sql).relations)


def refusal(sql: str) -> str:
    with pytest.raises(StatementFault) as refused:
        read_statement(sql)
    return refused.value.code


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("SELECT month, SUM(amount) AS total FROM sales GROUP BY month", ["sales"]),
        ("select 1 as one", []),
        ("values (1), (2)", []),
        ("table sales", ["sales"]),
        ("from sales", ["sales"]),
        ("(select * from sales)", ["sales"]),
        ("select * from shop.orders o join shop.lines l using (id)", ["shop.orders", "shop.lines"]),
        ("select * from a, b as c", ["a", "b"]),
        ('select * from "Sales"', ["Sales"]),
        ("select * from Sales", ["Sales"]),
        ("select * from a where x in (select y from b)", ["a", "b"]),
        ("select * from a where exists (select 1 from b where b.x = a.x)", ["a", "b"]),
        ("select (select max(x) from a) as m", ["a"]),
        ("select * from (select * from a) as s", ["a"]),
        ("select * from a union select * from b except select * from c", ["a", "b", "c"]),
        ("select * from a, lateral (select * from b) as l", ["a", "b"]),
        ("select * from generate_series(1, 3)", []),
        ("select * from range(3)", []),
        ("select * from unnest([1, 2])", []),
        ("select x from a order by (select max(y) from b)", ["a", "b"]),
        ("select * from a -- , b", ["a"]),
        ("select 'from b' as t from a", ["a"]),
    ],
)
def test_every_relation_of_a_statement_is_found(sql: str, found: list[str]) -> None:
    assert sorted(relations(sql)) == sorted(found)


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("with sales as (select 1 as x) select * from sales", []),
        ("with sales as (select * from sales) select * from sales", ["sales"]),
        ("with Sales as (select 1 as x) select * from SALES", []),
        ('with "Sales" as (select 1 as x) select * from sales', ["sales"]),
        ("with a as (select * from b), b as (select 1 as x) select * from a, b", ["b"]),
        ("with a as (select 1 as x), b as (select * from a) select * from b", []),
        ("with recursive a as (select 1 as x union all select x + 1 from a) select * from a", []),
        ("with recursive a as (select * from a) select * from a", ["a"]),
        ("select * from (with a as (select 1 as x) select * from a) s, a", ["a"]),
        ("with a as (select 1 as x) select * from (select * from a where x in (select x from a)) s", []),
        ("with a as (select 1 as x) select * from public.a", ["public.a"]),
        ("with a as (select 1 as x) select * from a union select * from a", []),
    ],
)
def test_a_name_given_by_a_with_hides_a_dataset_where_it_holds(sql: str, found: list[str]) -> None:
    assert relations(sql) == found


@pytest.mark.parametrize(
    "sql",
    [
        "drop table a",
        "insert into a select 1",
        "update a set x = 1",
        "delete from a",
        "create table b as select * from a",
        "copy a to 'x.csv'",
        "explain select 1",
        "show tables",
        "describe a",
        "set x = 1",
        "select 1 into b",
        "with x as (insert into a values (1) returning *) select * from x",
        "hello",
    ],
)
def test_what_is_no_query_is_refused(sql: str) -> None:
    assert refusal(sql) == "not_a_query"


def test_one_semicolon_at_the_end_is_dropped_and_a_second_statement_is_refused() -> None:
    assert read_statement("select * from a ; ").text == "select * from a "
    assert refusal("select 1 as x; drop table a") == "multiple_statements"


@pytest.mark.parametrize(
    "relation",
    [
        "'s3://bucket/key'",
        "'/etc/passwd'",
        '"/etc/passwd"',
        '"a b"',
        "a.b.c",
        '"shop.orders"',
        "`data.csv`",
    ],
)
def test_a_relation_that_is_a_path_is_refused(relation: str) -> None:
    assert refusal(f"select * from {relation}") in {"relation_not_allowed", "sql_error"}


@pytest.mark.parametrize(
    "function", ["read_csv('/etc/passwd')", "read_parquet('x')", "pg_ls_dir('/')", "now()"]
)
def test_a_table_function_is_refused(function: str) -> None:
    assert refusal(f"select * from {function}") == "table_function_not_allowed"


def test_a_syntax_error_says_where() -> None:
    with pytest.raises(StatementFault, match="line 2, column"):
        read_statement("select *\nfrom (a")


def test_columns_without_a_name_are_counted() -> None:
    assert read_statement("select a, sum(b), c as d, 1 + 1, t.* from t").unnamed == (2, 4)
    assert read_statement("select sum(b) from t union all select 1").unnamed == (1,)


@pytest.mark.parametrize(
    "sql",
    [
        "",
        ";",
        " \n",
        "select",
        "select '",
        'select "',
        "select /*",
        "select (((",
        "select )",
        "with",
        "with a as",
        "select * from",
        "select $$ from a",
        "{{ x }}",
        "select * from {% x %}",
        "\\",
        "select \ud7ff\U0010ffff",
    ],
)
def test_broken_text_is_a_fault_and_nothing_else(sql: str) -> None:
    try:
        read_statement(sql)
    except StatementFault as fault:
        assert str(fault)


@pytest.mark.parametrize(
    "sql",
    [
        "select " + "(" * 5_000 + "1" + ")" * 5_000,
        "select " + "(" * 20_000,
        "select " + "not " * 9_000 + "1",
        "select " + "- " * 9_000 + "1",
        "select " + "case when " * 3_000 + "1",
        "select * from " + "(select * from " * 2_000 + "a" + ")" * 2_000,
        "select 1" + " union select 1" * 3_000,
        "select 1" + " + 1" * 4_900,
        "select " + "a," * 100_000 + "a",
        "select '" + "a" * 300_000 + "'",
        "select " + "/*" * 100_000,
        "select " + "cast(" * 2_000 + "1",
        "select " + "f(" * 3_000 + "1",
        "select x::" + "array<" * 3_000 + "int",
        "select * from a" + " join a using (x)" * 1_400,
        "select {" + "a:{" * 2_000 + "1",
        "select " + "x[" * 3_000 + "1",
        "select interval " + "interval " * 3_000 + "1",
    ],
)
def test_no_text_takes_the_reader_more_than_a_moment(sql: str) -> None:
    started = time.thread_time()
    try:
        read_statement(sql)
    except StatementFault as fault:
        assert str(fault)
    assert time.thread_time() - started < 5
