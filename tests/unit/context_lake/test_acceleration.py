"""What `acceleration` may say, what it means for the runtime, and what is told of what it must not say."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import yaml

from weir.context_lake.config import Edit
from weir.context_lake.connectors.declared import Place
from weir.context_lake.deployment import compile_lake
from weir.context_lake.document import Document, Revision, WantedDataset, WantedView
from weir.context_lake.page import spicepod_of, yaml_of
from weir.context_lake.surroundings import Surroundings
from weir.context_lake.tables.lakes import SealedLake
from weir_shared.errors import ValidationFailed

from .conftest import BY, s3

Added = Callable[..., Revision]


def accelerated(block: Any, **more: Any) -> dict[str, Any]:
    return {**s3(), "acceleration": block, **more}


def view_faults(body: dict[str, Any], around: Surroundings) -> dict[str, str]:
    edit = Edit(Document(), BY)
    edit.add_view(msgspec.convert(body, WantedView), Place())
    try:
        edit.finish(around)
    except ValidationFailed as failed:
        return {error.path: error.message for error in failed.errors}
    return {}


def compiled(document: Document, around: Surroundings) -> dict[str, Any]:
    secrets = dict.fromkeys(document.references(), "x")
    return compile_lake(SealedLake(version=1, document=document, secrets={}), secrets, around)


@pytest.mark.parametrize(
    ("block", "more", "path", "message"),
    [
        ("on", {}, "acceleration", "acceleration must be an object"),
        ({"engin": "duckdb"}, {}, "acceleration.engin", "engin is an unknown field; did you mean engine?"),
        ({"engine": "postgres"}, {}, "acceleration.engine", "engine must be one of arrow, duckdb, sqlite"),
        ({"mode": "file"}, {}, "acceleration.mode",
         "engine arrow keeps its rows in memory; for mode file take duckdb or sqlite"),
        ({"mode": "file_create"}, {}, "acceleration.mode", "mode file_create is not available in this version"),
        ({"refresh_mode": "changes"}, {}, "acceleration.refresh_mode",
         "refresh_mode changes is not available in this version"),
        ({"refresh_mode": "append"}, {}, "time_column", "time_column is required when refresh_mode is append"),
        ({"refresh_check_interval": "soon"}, {}, "acceleration.refresh_check_interval",
         "refresh_check_interval must be a duration such as 30s or 1h30m"),
        ({"refresh_check_interval": "10ms"}, {}, "acceleration.refresh_check_interval",
         "refresh_check_interval must be at least 1s"),
        ({"refresh_check_interval": "1m", "refresh_cron": "* * * * *"}, {}, "acceleration.refresh_cron",
         "refresh_check_interval and refresh_cron exclude each other: give one of them"),
        ({"refresh_cron": "every day"}, {}, "acceleration.refresh_cron",
         "refresh_cron must be five fields, such as 0 6 * * *"),
        ({"refresh_cron": "0 0 31 2 *"}, {}, "acceleration.refresh_cron",
         "refresh_cron must be five fields, such as 0 6 * * *"),
        ({"refresh_sql": "select * from other"}, {}, "acceleration.refresh_sql",
         "refresh_sql must select from sales and nothing else"),
        ({"refresh_sql": "select count(*) from sales"}, {}, "acceleration.refresh_sql",
         "refresh_sql must neither join, group nor nest"),
        ({"refresh_sql": "delete from sales"}, {}, "acceleration.refresh_sql", "refresh_sql must be one SELECT"),
        ({"refresh_data_window": "1d"}, {}, "acceleration.refresh_data_window",
         "refresh_data_window needs a time_column"),
        ({"refresh_append_overlap": "1m"}, {}, "acceleration.refresh_append_overlap",
         "refresh_append_overlap needs refresh_mode append"),
        ({"refresh_retry_max_attempts": 0}, {}, "acceleration.refresh_retry_max_attempts",
         "refresh_retry_max_attempts must be a whole number of at least 1"),
        ({"on_zero_results": "use_source"}, {}, "acceleration.on_zero_results",
         "on_zero_results use_source is not available in this version"),
        ({"retention_check_enabled": True}, {}, "acceleration.retention_period",
         "retention_period or retention_sql is required when retention_check_enabled is true"),
        ({"retention_check_enabled": True, "retention_sql": "delete from sales"}, {},
         "acceleration.retention_sql", "retention_sql must read DELETE FROM sales WHERE …"),
        ({"indexes": {"a": "enabled"}}, {}, "acceleration.indexes",
         "indexes is not offered by engine arrow; take duckdb or sqlite"),
        ({"engine": "duckdb", "indexes": {"a": "yes"}}, {}, "acceleration.indexes.a",
         "a must be one of enabled, unique"),
        ({"engine": "duckdb", "on_conflict": {"a": "upsert"}}, {}, "acceleration.on_conflict",
         "on_conflict a is neither the primary key nor a unique index"),
        ({"engine": "duckdb", "params": {"duckdb_file": "/x"}}, {}, "acceleration.params",
         "params is not available in this version"),
        ({"enabled": "yes"}, {}, "acceleration.enabled", "enabled must be true or false"),
        ({}, {"time_format": "date"}, "time_format", "time_format needs a time_column"),
        ({}, {"time_column": 3}, "time_column", "time_column must be the name of a column"),
        ({}, {"ready_state": "soon"}, "ready_state", "ready_state must be one of on_load, on_registration"),
    ],
)  # fmt: skip
def test_faulty_acceleration_is_told_with_its_path(
    faults: Any, block: Any, more: dict[str, Any], path: str, message: str
) -> None:
    assert faults(accelerated(block, **more)) == {path: message}


def test_all_faults_of_a_block_are_told_at_once(faults: Any) -> None:
    told = faults(accelerated({"engine": "x", "mode": 3, "refresh_check_interval": "", "nope": 1}))
    assert list(told) == [f"acceleration.{f}" for f in ("engine", "mode", "refresh_check_interval", "nope")]


@pytest.mark.parametrize(
    "block",
    [
        {"enabled": True, "engine": "arrow"},
        {"engine": "duckdb", "mode": "file", "refresh_cron": "0 6 * * *", "refresh_on_startup": "always"},
        {
            "engine": "sqlite", "primary_key": "(a, b)", "indexes": {"c": "unique"},
            "on_conflict": {"(a, b)": "drop", "c": "drop"},
        },
        {
            "engine": "duckdb", "refresh_mode": "append", "refresh_append_overlap": "10m",
            "refresh_data_window": "30d", "refresh_sql": "SELECT a, t FROM sales WHERE a > 1",
            "retention_check_enabled": True, "retention_period": "90d", "retention_check_interval": "1h",
            "retention_sql": "DELETE FROM sales\nWHERE a IS NULL",
        },
    ],
)  # fmt: skip
def test_what_was_sent_is_shown_again_and_comes_back_the_same(
    added: Added, around: Surroundings, block: dict[str, Any]
) -> None:
    document = added(accelerated(block, time_column="t", time_format="unix_seconds")).document
    pod = spicepod_of(document)
    [shown] = pod["datasets"]
    assert shown["acceleration"] == {"enabled": True, **block}
    assert yaml.safe_load(yaml_of(pod)) == pod
    assert msgspec.json.decode(msgspec.json.encode(document), type=Document) == document
    again = Edit(document, BY)
    again.replace_dataset("sales", msgspec.convert(shown, WantedDataset), Place())
    assert spicepod_of(again.finish(around).document) == pod


def test_update_replaces_the_block_as_a_whole_and_null_clears_it(added: Added, around: Surroundings) -> None:
    document = added(accelerated({"engine": "duckdb", "refresh_check_interval": "1m"})).document
    edit = Edit(document, BY)
    edit.update_dataset("sales", {"acceleration": {"engine": "sqlite"}}, Place("updateDatasets.sales"))
    [dataset] = edit.finish(around).document.datasets
    assert dataset.acceleration is not None
    assert dataset.acceleration.shown() == {"enabled": True, "engine": "sqlite"}
    edit = Edit(document, BY)
    edit.update_dataset("sales", {"acceleration": None}, Place("updateDatasets.sales"))
    assert edit.finish(around).document.datasets[0].acceleration is None


def test_runtime_is_told_what_the_block_means(added: Added, around: Surroundings) -> None:
    block = {
        "engine": "duckdb", "refresh_append_overlap": "1m30s", "primary_key": "id",
        "on_conflict": {"id": "upsert"}, "indexes": {"(a, b)": "unique"},
        "retention_check_enabled": True, "retention_sql": "delete from sales where a < 3;",
    }  # fmt: skip
    document = added(accelerated(block, time_column="t", ready_state="on_registration")).document
    [dataset] = compiled(document, around)["datasets"]
    assert dataset["keeping"] == {
        "store": "duckdb", "appends": True, "timeColumn": "t", "timeFormat": "", "overlapSeconds": 90,
        "windowSeconds": None, "refreshSql": "", "primaryKey": ["id"],
        "indexes": [{"columns": ["a", "b"], "unique": True}], "readyAtOnce": True,
        "retentionSeconds": None, "retentionCondition": "a < 3", "retentionEverySeconds": 3600,
        "onConflict": "upsert", "conflictColumns": ["id"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("engine", "store"), [("arrow", "memory"), ("duckdb", "parquet"), ("sqlite", "parquet")]
)
def test_engine_says_where_rows_are_kept(added: Added, around: Surroundings, engine: str, store: str) -> None:
    document = added(accelerated({"engine": engine})).document
    assert compiled(document, around)["datasets"][0]["keeping"]["store"] == store


def test_block_that_is_switched_off_keeps_nothing(added: Added, around: Surroundings) -> None:
    document = added(accelerated({"enabled": False, "engine": "duckdb"})).document
    assert compiled(document, around)["datasets"][0]["keeping"] is None
    [shown] = spicepod_of(document)["datasets"]
    assert shown["acceleration"] == {"enabled": False, "engine": "duckdb"}


def test_refresh_of_a_view_is_short_for_a_file_that_is_read_again(around: Surroundings) -> None:
    edit = Edit(Document(), BY)
    wanted = {"name": "daily", "sql": "select 1 as n", "refresh": "1h"}
    edit.add_view(msgspec.convert(wanted, WantedView), Place())
    document = edit.finish(around).document
    [view] = document.views
    assert view.kept is not None
    assert (view.kept.engine, view.kept.refresh_check_interval) == ("duckdb", "1h")
    assert view.kept.refresh_jitter_enabled
    assert spicepod_of(document)["views"] == [{"name": "daily", "refresh": "1h", "sql": "select 1 as n"}]
    [body] = compiled(document, around)["views"]
    assert (body["keeping"]["store"], body["keeping"]["appends"]) == ("parquet", False)


def test_view_refresh_is_one_of_its_intervals_and_not_beside_a_block(around: Surroundings) -> None:
    view = {"name": "v", "sql": "select 1 as n"}
    told = view_faults({**view, "refresh": "2h"}, around)
    assert told == {"refresh": "refresh must be one of manual, 5m, 15m, 1h, 6h, 24h"}
    told = view_faults({**view, "refresh": "1h", "acceleration": {"engine": "duckdb"}}, around)
    assert told == {"refresh": "refresh and acceleration exclude each other: give one of them"}
    told = view_faults({**view, "acceleration": {"refresh_sql": "select 1 from v"}}, around)
    assert list(told) == ["acceleration.refresh_sql"]


def test_mark_of_a_kept_view_changes_with_what_is_under_it(added: Added, around: Surroundings) -> None:
    def mark(source: str) -> str:
        document = added({**s3(), "from": source}).document
        edit = Edit(document, BY)
        for name, sql, more in (
            ("base", "select a from sales", {}),
            ("top", "select a from base", {"refresh": "manual"}),
        ):
            edit.add_view(msgspec.convert({"name": name, "sql": sql, **more}, WantedView), Place())
        return compiled(edit.finish(around).document, around)["views"][1]["fingerprint"]

    assert mark("s3://bucket/a.parquet") == mark("s3://bucket/a.parquet")
    assert mark("s3://bucket/a.parquet") != mark("s3://bucket/b.parquet")
