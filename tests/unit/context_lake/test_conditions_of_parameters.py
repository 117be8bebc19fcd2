"""The sixteen conditions that the lake's specification names (§2.6), one test each, in its order."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.context_lake.conftest import s3

from weir.context_lake.connectors.declared import Params
from weir.context_lake.document import Revision

Faults = Callable[..., dict[str, str]]

FOLDER = {"file_format": "csv"}


def dataset(source: str, **params: Any) -> dict[str, Any]:
    return {"name": "d", "from": source, "params": params}


POSTGRES = {"pg_host": "db.example.com", "pg_db": "shop", "pg_user": "reader"}


@pytest.mark.parametrize(
    ("number", "body", "told"),
    [
        (1, s3(s3_key=None), {"s3_key": "s3_key is required when auth mode is key"}),
        (
            2,
            s3(s3_key=None, s3_secret=None),
            {
                "s3_key": "s3_key is required when auth mode is key",
                "s3_secret": "s3_secret is required when auth mode is key",
            },
        ),
        (3, s3(s3_auth=None, s3_secret=None), {"s3_key": "s3_key needs s3_auth set to key"}),
        (
            4,
            s3(s3_auth="token", s3_key=None, s3_secret=None),
            {"s3_auth": "s3_auth must be one of public, iam_role, key"},
        ),
        (
            5,
            dataset("s3://bucket/folder/"),
            {"file_format": "file_format is required when from is a directory"},
        ),
        (
            6,
            dataset("s3://bucket/folder/", **FOLDER, csv_delimiter="||"),
            {"csv_delimiter": "csv_delimiter must be one character"},
        ),
        (
            8,
            dataset("s3://bucket/a.csv", s3_endpoint="http://store.example.com"),
            {"s3_endpoint": "s3_endpoint begins with http://, which needs allow_http set to true"},
        ),
        (
            9,
            dataset("abfs://c/a.csv", abfs_account="acc", abfs_access_key="c2VjcmV0", abfs_sas_string="sv=1"),
            {"abfs_sas_string": "abfs_sas_string and abfs_access_key exclude each other: give one of them"},
        ),
        (
            10,
            {**dataset("postgres:public.orders", **POSTGRES), "notifications": True},
            {"notifications": "notifications are offered for s3 datasets only"},
        ),
        (
            11,
            dataset("s3://bucket/a.csv", s3_secert="x"),
            {"s3_secert": "s3_secert is an unknown parameter; did you mean s3_secret?"},
        ),
        (
            12,
            dataset("postgres:public.orders", **POSTGRES, pg_sslmode="on"),
            {"pg_sslmode": "pg_sslmode must be one of verify-full, verify-ca, require, prefer, disable"},
        ),
        (
            16,
            dataset("iceberg:https://catalog.example.com/v1/wh/namespaces/shop"),
            {
                "from": "from of a catalog must read "
                "https://host/v1/{prefix}/namespaces/<namespace>/tables/<table>"
            },
        ),
    ],
)
def test_what_is_missing_or_wrong_is_told_where_it_stands(
    faults: Faults, number: int, body: dict[str, Any], told: Params
) -> None:
    found = faults(body)
    assert found == told, number
    assert list(found) == list(told)


def test_7_a_format_that_the_extension_contradicts_wins_with_a_word(added: Callable[..., Revision]) -> None:
    revision = added(dataset("s3://bucket/data.parquet", file_format="csv"))
    assert [(w.path, w.code) for w in revision.warnings] == [("file_format", "format_mismatch")]


def test_13_kafka_is_an_unknown_connector(faults: Faults) -> None:
    found = faults(dataset("kafka:orders", kafka_bootstrap_servers="broker:9092"))
    assert found["from"].startswith("from must begin with a known connector: s3, gcs")


@pytest.mark.parametrize(
    ("acceleration", "path"),
    [
        ({"refresh_mode": "changes"}, "acceleration.refresh_mode"),
        ({"refresh_check_interval": "10s", "refresh_cron": "* * * * *"}, "acceleration.refresh_cron"),
    ],
    ids=["14", "15"],
)
def test_14_and_15_acceleration_that_cannot_be_is_told_at_its_field(
    faults: Faults, acceleration: dict[str, str], path: str
) -> None:
    """Changes are read from no queue in this version: the mode is refused in any case."""
    found = faults({**dataset("s3://bucket/a.csv"), "acceleration": acceleration})
    assert list(found) == [path]
