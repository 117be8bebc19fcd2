"""The engine's own words, pinned: a new version that says things differently fails here first."""

from pathlib import Path

import pytest
from datafusion import SessionConfig, SessionContext

from weir.lake_runtime.faults import Fault, translate
from weir.lake_runtime.session import QUERIES_ONLY, answering_session
from weir.lake_runtime.settings import RuntimeSettings


@pytest.fixture(scope="module")
def session() -> SessionContext:
    context = SessionContext(SessionConfig().with_information_schema(False))
    context.sql("""create table t as select 1 as a, 'x' as "Name" """).collect()
    return context


def fault_of(session: SessionContext, sql: str, *datasets: str) -> Fault:
    try:
        session.sql_with_options(sql, QUERIES_ONLY).collect()
    except BaseException as error:  # noqa: BLE001
        return translate(error, datasets=datasets)
    raise AssertionError("the statement was taken")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("selec 1", "Expected: an SQL statement, found: selec at Line: 1, Column: 1"),
        ("select 'abc", "Unterminated string literal at Line: 1, Column: 8"),
        ("select * from tt", "table 'tt' not found"),
        ("select * from s.tt", "table 's.tt' not found"),
        ('select "Nam" from t', """No field named "Nam". Did you mean 't."Name"'?"""),
        ("select lengt('x')", "Invalid function 'lengt'.\nDid you mean 'length'?"),
        ("select 1; select 2", "A request holds one SQL statement."),
        ("select 'a' + 1", "Cannot coerce arithmetic expression Utf8 + Int64 to valid types"),
        ("select 1/0", "Divide by zero"),
        ("select cast('x' as bigint) from t", "Cannot cast string 'x' to value of Int64 type"),
        ("select $1", "Placeholder '$1' was not provided a value for execution."),
        ("select * from t limit -1", "LIMIT must be >= 0"),
        ("select " + "(" * 60 + "1" + ")" * 60, "nested too deeply"),
        ("", "No SQL statements were provided in the query string"),
        ("select Name from t", """You can use double quotes to refer to the t."Name" column."""),
    ],
)
def test_a_mistake_in_the_statement_is_400(session: SessionContext, sql: str, message: str) -> None:
    fault = fault_of(session, sql, "t")
    assert (fault.status, fault.code) == (400, "sql_error")
    assert message in fault.message
    for noise in ("DataFusion error", "Error during planning", "ParserError", "caused by", "datafusion."):
        assert noise not in fault.message


def test_a_syntax_error_tells_its_position(session: SessionContext) -> None:
    assert fault_of(session, "selec 1").position == {"line": 1, "column": 1}


@pytest.mark.parametrize(
    "sql",
    [
        "create table x as select 1",
        "create view v as select 1",
        "create external table x stored as csv location '/tmp/'",
        "create function f() returns int as 'x'",
        "create schema s",
        "create index i on t (a)",
        "drop table t",
        "insert into t values (1, 'x')",
        "delete from t",
        "update t set a = 1",
        "truncate table t",
        "copy (select 1) to '/tmp/x.csv'",
        "select * into y from t",
        "explain insert into t values (1, 'x')",
        "explain analyze delete from t",
        "set a.b = 1",
        "reset all",
        "prepare p as select 1",
        "execute p",
        "deallocate p",
        "begin",
        "commit",
        "use x",
        "alter table t add column b int",
        "grant select on t to x",
        "show all",
        "show datafusion.execution.batch_size",
        "call f()",
        "vacuum",
        "attach 'x' as y",
        "comment on table t is 'x'",
    ],
)
def test_the_engine_itself_refuses_every_other_statement(session: SessionContext, sql: str) -> None:
    fault = fault_of(session, sql)
    assert fault.code in ("statement_not_allowed", "sql_error"), fault.message
    assert fault.status in (403, 400)
    assert session.sql("select count(*) as n from t").to_pydict() == {"n": [1]}


def test_a_long_message_is_cut(session: SessionContext) -> None:
    assert len(fault_of(session, "select * from a" + ".a" * 5_000).message) < 2_100


def test_an_exhausted_pool_is_400_resource_exhausted(tmp_path: Path) -> None:
    settings = RuntimeSettings(
        tenant="t", epoch=1, secret="s", memory_limit_bytes=1, cache_dir=tmp_path, import_root=tmp_path
    )
    settings.spill_dir.mkdir(parents=True)
    fault = fault_of(answering_session(settings), "select array_agg(value) from generate_series(1, 20000000)")
    assert (fault.status, fault.code) == (400, "resource_exhausted")


def test_a_source_that_breaks_is_502_and_named(session: SessionContext, tmp_path: Path) -> None:
    broken = tmp_path / "x.parquet"
    broken.write_bytes(b"no parquet here, but long enough")
    with pytest.raises(Exception, match="Parquet error") as caught:
        session.register_parquet("p", str(broken))
    fault = translate(caught.value, datasets=["sales"])
    assert (fault.status, fault.code) == (502, "source_error")
    assert fault.body()["dataset"] == "sales"


def test_what_nobody_expected_is_500_without_its_text() -> None:
    fault = translate(KeyError("/secret/path"))
    assert fault.body() == {
        "error": "The runtime failed on this statement.",
        "code": "runtime_error",
        "status": 500,
    }
