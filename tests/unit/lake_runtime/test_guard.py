"""The guard counts what would hurt and lets everything else through."""

import pytest

from weir.lake_runtime import guard
from weir.lake_runtime.faults import StatementNotAllowed
from weir.lake_runtime.guard import QueryTooComplex, QueryTooLarge


def doubling(levels: int) -> str:
    ctes = [f"c{i} as (select a.x from c{i - 1} a, c{i - 1} b)" for i in range(1, levels + 1)]
    return f"with c0 as (select 1 x), {', '.join(ctes)} select count(*) from c{levels}"


def test_a_text_over_256_kib_is_too_large() -> None:
    with pytest.raises(QueryTooLarge, match="262145 bytes; the limit is 262144"):
        guard.check("select '" + "é" * 131_065 + "' as xx")


def test_a_long_list_is_not_complex() -> None:
    guard.check(f"select * from t where a in ({','.join(map(str, range(20_000)))})")
    guard.check(f"select * from (values {','.join(f'({i})' for i in range(3_000))}) v")
    guard.check(f"select * from a join b on a.x in ({','.join(map(str, range(4_000)))})")
    guard.check("select " + ", ".join(f"t.c{i}" for i in range(2_000)) + " from t")


@pytest.mark.parametrize(
    "sql",
    [
        "select " + "+".join("1" * 1_002),
        "select * from t where " + " or ".join(["a"] * 1_002),
        "select 1" + "::int" * 600,
        "select now()" + " at time zone 'UTC'" * 1_002,
        "select -- +\n" + "+".join("1" * 1_002),
        "select 'it''s' " + "||'+'" * 600,
        "select E'\\'' " + "+1" * 1_002,
        "select 'a\\' " + "+1" * 1_002,
        "select /* x */ 1" + "+1" * 1_002,
        "select $q$ + $q$ " + "+1" * 1_002,
        "select $1 " + "+$1" * 1_002,
        "select r'\\' " + "+1" * 1_002,
        'select "a""+" ' + "+1" * 1_002,
        "select `+` " + "+1" * 1_002,
        "select 'open " + "+1" * 1_002,
    ],
)
def test_a_chain_of_operators_is_too_complex_however_it_is_hidden(sql: str) -> None:
    with pytest.raises(QueryTooComplex, match=r"operators; the limit is 1000"):
        guard.check(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "select '" + "+" * 5_000 + "'",
        "select E'\\'" + "+" * 5_000 + "'",
        'select "' + "+" * 5_000 + '"',
        "select 1 --" + "+" * 5_000,
        "select /* /* */ " + "+" * 5_000 + " */ 1",
        "select $x$" + "+" * 5_000 + "$x$",
    ],
)
def test_what_is_in_strings_and_comments_does_not_count(sql: str) -> None:
    assert guard.check(sql).operators == 0


def test_a_cte_that_doubles_25_times_is_too_complex() -> None:
    with pytest.raises(QueryTooComplex, match="after its CTEs and views are unfolded; the limit is 10000"):
        guard.check(doubling(25))


def test_a_cte_that_doubles_9_times_is_let_through() -> None:
    assert guard.check(doubling(9)).expansion == 2**10 - 1


def test_a_doubling_that_hides_behind_a_used_again_name_is_too_complex() -> None:
    inner = "select * from (with c20 as (select 1 x) select x from c20) z, c20"
    with pytest.raises(QueryTooComplex):
        guard.check(doubling(20).replace("select count(*) from c20", inner))


def test_a_doubling_in_a_cte_that_nobody_reads_is_too_complex() -> None:
    with pytest.raises(QueryTooComplex):
        guard.check(doubling(20).replace("select count(*) from c20", "select 1"))


def test_a_view_counts_as_what_it_unfolds_to() -> None:
    assert guard.check("select * from sales.daily, daily", views={"sales.Daily": 4_000}).expansion == 8_000
    with pytest.raises(QueryTooComplex):
        guard.check('select * from "Daily" a, daily b, daily c', views={"sales.Daily": 4_000})


@pytest.mark.parametrize(
    "sql",
    [
        " union all ".join(["select 1"] * 202),
        "select * from t " + "join t on true " * 201,
        "select count(*) from " + ", ".join(["t"] * 202),
        "with c as (select 1) select * from c " + "cross join c " * 101,
    ],
)
def test_too_many_joins_and_set_operations_are_too_complex(sql: str) -> None:
    with pytest.raises(QueryTooComplex, match="joins, set operations and CTE references; the limit is 200"):
        guard.check(sql)


@pytest.mark.parametrize(
    "sql", ["select " + "(" * 101 + "1" + ")" * 101, "select " + "case when a then " * 101]
)
def test_deep_nesting_is_too_complex(sql: str) -> None:
    with pytest.raises(QueryTooComplex, match="levels of nesting; the limit is 100"):
        guard.check(sql)


def test_a_comparison_with_distinct_from_begins_no_from_list() -> None:
    assert guard.check("select a is distinct from b, " + ", ".join(["c"] * 300) + " from t").relations == 0


@pytest.mark.parametrize(
    "sql",
    [
        "insert into t values (1)",
        "UPDATE t set a = 1",
        "delete from t",
        "/* x */ drop table t",
        "-- x\ncreate table t (a int)",
        "copy t to '/tmp/x'",
        "set a = 1",
        "reset all",
        "prepare p as select 1",
        "execute p",
        "begin",
        "explain analyze insert into t values (1)",
        "explain verbose create view v as select 1",
        "grant select on t to x",
        "merge into t using s on 1 = 1 when matched then delete",
        "truncate table t",
        "call f()",
        "use x",
        "attach 'x' as y",
        "load 'x'",
        "vacuum",
    ],
)
def test_a_statement_that_is_no_query_is_not_allowed(sql: str) -> None:
    with pytest.raises(StatementNotAllowed, match=r"Only queries are allowed; this is [A-Z]+"):
        guard.check(sql)


@pytest.mark.parametrize(
    "sql",
    ["select 1", "(select 1)", "with a as (select 1) select * from a", "values (1)", "from t", "show tables",
     "describe t", "explain select 1", "explain analyze select 1", "", "selec 1"],
)  # fmt: skip
def test_a_query_and_a_syntax_error_go_on_to_the_engine(sql: str) -> None:
    guard.check(sql)


@pytest.mark.parametrize(
    ("query", "is_so"),
    [
        ("select * from t", True),
        ('explain select extract(year from d), count(*) from "T" group by 1', True),
        ("select * from t, u", False),
        ("select * from t join u using (a)", False),
        ("select * from t where a in (select a from u)", False),
        ("select * from t union select * from t", False),
        ("with c as (select * from t) select * from c", False),
        ("select * from v", False),
    ],
)
def test_a_statement_of_one_table_is_known(query: str, is_so: bool) -> None:
    assert guard.check(query, views={"v": 2}).is_of_one_table is is_so


@pytest.mark.parametrize(
    ("query", "is_so"),
    [
        ("select * from t where id = 5", True),
        ("select a, b from t order by a limit 10", True),
        ("select count(*) from t where id = 5", False),
        ("select a from t group by a", False),
        ("select distinct a from t", False),
        ("select * from t join u using (a) where t.id = 5", False),
    ],
)
def test_a_statement_that_only_picks_rows_is_known(query: str, is_so: bool) -> None:
    assert guard.check(query).looks_for_rows is is_so
