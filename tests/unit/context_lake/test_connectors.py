"""What each connector asks of a dataset, and the sentences with which it refuses one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.unit.context_lake.conftest import s3

from weir.context_lake.connectors import CONNECTORS, documented
from weir.context_lake.connectors.source import read_from
from weir.context_lake.document import Revision
from weir.context_lake.surroundings import Surroundings

Faults = Callable[..., dict[str, str]]
Added = Callable[..., Revision]


def warnings(revision: Revision) -> dict[str, str]:
    return {warning.path: warning.message for warning in revision.warnings}


def test_the_dataset_of_the_reference_is_accepted(added: Added) -> None:
    body = s3(path="bucket/path/data.parquet", s3_key="AKIA...", s3_secret="...")
    [dataset] = added(body).document.datasets
    assert dataset.name == "sales"
    assert dataset.params["s3_region"] == "us-east-1"


def test_a_missing_key_has_the_message_of_the_reference(faults: Faults) -> None:
    assert faults(s3(s3_key=None)) == {"s3_key": "s3_key is required when auth mode is key"}


def test_a_missing_secret_has_the_same_form(faults: Faults) -> None:
    assert faults(s3(s3_secret=None)) == {"s3_secret": "s3_secret is required when auth mode is key"}


def test_both_missing_are_two_faults_in_that_order(faults: Faults) -> None:
    assert list(faults(s3(s3_key=None, s3_secret=""))) == ["s3_key", "s3_secret"]


@pytest.mark.parametrize("mode", [None, "public"])
def test_a_key_without_its_auth_mode_is_refused(faults: Faults, mode: str | None) -> None:
    found = faults(s3(s3_auth=mode))
    assert found["s3_key"] == "s3_key needs s3_auth set to key"
    assert set(found) == {"s3_key", "s3_secret"}


def test_an_unknown_auth_mode_is_told_the_known_ones(faults: Faults) -> None:
    found = faults(s3(s3_auth="token", s3_key=None, s3_secret=None))
    assert found == {"s3_auth": "s3_auth must be one of public, iam_role, key"}


def test_a_role_is_not_assumed_for_a_tenant(faults: Faults) -> None:
    assert list(faults(s3(s3_auth="iam_role", s3_key=None, s3_secret=None))) == ["s3_auth"]


def test_a_directory_needs_a_format(faults: Faults) -> None:
    body = {"from": "s3://bucket/events/", "name": "events"}
    assert faults(body) == {"file_format": "file_format is required when from is a directory"}


@pytest.mark.parametrize("delimiter", ["||", ""])
def test_a_delimiter_is_one_character(faults: Faults, delimiter: str) -> None:
    found = faults(s3(file_format="csv", csv_delimiter=delimiter))
    assert found == {"csv_delimiter": "csv_delimiter must be one character"}


def test_a_format_that_the_extension_contradicts_wins_with_a_warning(added: Added) -> None:
    revision = added(s3(file_format="csv"))
    assert list(warnings(revision)) == ["file_format"]
    assert "parquet" in warnings(revision)["file_format"]


def test_an_insecure_endpoint_needs_to_be_allowed(faults: Faults, around: Surroundings) -> None:
    found = faults(s3(s3_endpoint="http://store.example.com:9000"))
    assert "allow_http" in found["s3_endpoint"]
    assert faults(s3(s3_endpoint="http://store.example.com:9000", allow_http=True)) == {}


@pytest.mark.parametrize(
    "endpoint", ["ftp://store.example.com", "store.example.com", "https://", "http://[", ""]
)
def test_an_endpoint_is_a_url_of_http(faults: Faults, endpoint: str) -> None:
    assert list(faults(s3(s3_endpoint=endpoint, allow_http=True))) == ["s3_endpoint"]


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "10.0.0.7", "localhost", "[::1]"])
def test_an_endpoint_on_a_private_address_is_refused(faults: Faults, host: str) -> None:
    assert list(faults(s3(s3_endpoint=f"https://{host}"))) == ["s3_endpoint"]


def test_private_endpoints_may_be_allowed_but_never_the_metadata_service(
    faults: Faults, around: Surroundings
) -> None:
    lenient = replace(around, allow_private_addresses=True)
    assert faults(s3(s3_endpoint="https://10.0.0.7"), around=lenient) == {}
    assert list(faults(s3(s3_endpoint="https://169.254.169.254"), around=lenient)) == ["s3_endpoint"]


def test_an_unknown_parameter_is_refused_with_the_likely_one(faults: Faults) -> None:
    body = s3(s3_secert="shh")
    assert faults(body) == {"s3_secert": "s3_secert is an unknown parameter; did you mean s3_secret?"}


def test_every_fault_of_a_body_is_told_at_once(faults: Faults) -> None:
    body = s3(s3_key=None, csv_delimiter="||", colour="red")
    assert set(faults(body | {"name": "2fast", "notifications": True})) == {
        "name",
        "s3_key",
        "csv_delimiter",
        "colour",
    }


def test_notifications_need_a_bucket_whose_store_can_send(faults: Faults, around: Surroundings) -> None:
    elsewhere = s3(s3_endpoint="https://minio.example.com") | {"notifications": True}
    assert "GET /v1/context-lake/webhook" in faults(elsewhere)["notifications"]
    own = replace(around, aws_endpoint_url="https://minio.example.com/")
    assert faults(elsewhere, around=own) == {}
    assert faults(s3() | {"notifications": True}) == {}


@pytest.mark.parametrize("account", ["1234", "12345678901x", "1234567890123", "१२३४५६७८९०१२"])
def test_the_account_of_a_bucket_has_12_digits(faults: Faults, account: str) -> None:
    assert set(faults(s3(s3_account_id=account))) == {"s3_account_id"}
    assert faults(s3(s3_account_id="123456789012")) == {}


@pytest.mark.parametrize("connector", ["postgres:public.orders", "file:orders.csv"])
def test_notifications_are_for_s3_only(faults: Faults, connector: str) -> None:
    found = faults({"from": connector, "name": "orders", "notifications": True})
    assert found["notifications"] == "notifications are offered for s3 datasets only"


def test_an_unknown_connector_is_refused_with_the_known_ones(faults: Faults) -> None:
    assert faults({"from": "kafka:topic", "name": "t"}) == {
        "from": "from must begin with a known connector: s3, gcs, abfs, https, http, file, "
        "postgres, mysql, sqlite, duckdb, delta_lake, iceberg"
    }


@pytest.mark.parametrize(
    "source",
    [
        "s3://AKIA:secret@bucket/a.parquet",
        "s3://bucket/a.parquet?X-Amz-Signature=1",
        "s3://b-t/x.csv?password=p",
    ],
)
def test_credentials_in_from_are_refused(faults: Faults, source: str) -> None:
    assert "credentials" in faults({"from": source, "name": "t"})["from"]


@pytest.mark.parametrize("source", ["s3:bucket/a.parquet", "s3:///a.parquet", "s3://a b/a.parquet", "s3://"])
def test_from_of_s3_names_a_bucket(faults: Faults, source: str) -> None:
    assert "from" in faults({"from": source, "name": "t"})


def test_path_must_say_what_from_says(faults: Faults) -> None:
    assert list(faults(s3(path="bucket/other.parquet"))) == ["path"]


def test_numbers_and_booleans_become_texts(added: Added) -> None:
    body = {
        "from": "file:a.csv",
        "name": "t",
        "params": {"csv_has_header": False, "schema_infer_max_records": 9},
    }
    [dataset] = added(body).document.datasets
    assert dataset.params == {"csv_has_header": "false", "schema_infer_max_records": "9"}


@pytest.mark.parametrize("value", [None, [], {}, ["a"]])
def test_a_parameter_of_another_kind_is_refused(faults: Faults, value: Any) -> None:
    body = {"from": "file:a.csv", "name": "t", "params": {"csv_quote": value}}
    assert faults(body) == {"csv_quote": "csv_quote must be a text, a number or a boolean"}


@pytest.mark.parametrize("count", ["0", "-1", "1.5", "many", "²"])
def test_a_count_is_a_whole_number(faults: Faults, count: str) -> None:
    body = {"from": "file:a.csv", "name": "t", "params": {"schema_infer_max_records": count}}
    assert list(faults(body)) == ["schema_infer_max_records"]


def test_a_parameter_without_effect_is_accepted_and_says_so(added: Added) -> None:
    local = {"from": "file:a.csv", "name": "t", "params": {"client_timeout": "30s"}}
    assert "no effect" in warnings(added(local))["client_timeout"]


class TestFile:
    @pytest.mark.parametrize(
        "path", ["../x.csv", "a/../../x.csv", "/etc/passwd", "///etc/passwd", "/", "", "a\0b.csv"]
    )
    def test_a_path_outside_the_import_directory_is_refused(self, faults: Faults, path: str) -> None:
        assert "from" in faults({"from": f"file:{path}", "name": "t", "params": {"file_format": "csv"}})

    def test_the_refusal_has_its_own_code(self, added: Added) -> None:
        with pytest.raises(Exception, match="Validation failed") as failed:
            added({"from": "file:/etc/passwd.csv", "name": "t"})
        assert [error.code for error in failed.value.errors] == ["path_not_allowed"]  # type: ignore[attr-defined]

    def test_a_link_that_leads_out_is_refused(self, faults: Faults, around: Surroundings) -> None:
        (around.import_root / "out.csv").symlink_to("/etc/passwd")
        assert list(faults({"from": "file:out.csv", "name": "t"})) == ["from"]

    def test_a_file_that_is_not_there_yet_is_accepted(self, faults: Faults) -> None:
        assert faults({"from": "file:later/a.csv", "name": "t"}) == {}

    @pytest.mark.parametrize("form", ["file:{}", "file://{}"])
    def test_an_absolute_path_inside_is_accepted(
        self, faults: Faults, around: Surroundings, form: str
    ) -> None:
        assert faults({"from": form.format(around.import_root / "a.csv"), "name": "t"}) == {}

    def test_a_relative_path_is_taken_from_the_import_directory(self, around: Surroundings) -> None:
        text = read_from("file:b/a.csv")
        assert text is not None
        source = CONNECTORS["file"].locate(text, {}, around)
        assert Path(source.location) == around.import_root / "b" / "a.csv"
        assert source.format == "csv"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.parquet", "parquet"),
        ("a.CSV", "csv"),
        ("a.csv.gz", "csv"),
        ("a.tsv", "tsv"),
        ("a.jsonl", "json"),
        ("a.json", "json"),
    ],
)
def test_the_format_follows_from_the_extension(around: Surroundings, name: str, kind: str) -> None:
    text = read_from(f"s3://bucket/{name}")
    assert text is not None
    assert CONNECTORS["s3"].locate(text, {}, around).format == kind


def test_the_operators_endpoint_serves_datasets_that_name_none(around: Surroundings) -> None:
    text = read_from("s3://bucket/a.parquet")
    assert text is not None
    options = (
        CONNECTORS["s3"].locate(text, {}, replace(around, aws_endpoint_url="http://127.0.0.1:5000")).options
    )
    assert options["endpoint"] == "http://127.0.0.1:5000"
    assert options["allow_http"] == "true"
    assert options["region"] == "us-east-1"
    assert options["auth"] == "public"


def test_the_reference_page_is_what_the_declarations_say() -> None:
    root = Path(__file__).parents[3]
    assert (root / "docs" / "reference" / "connectors.md").read_text() == documented.page()


def test_every_parameter_is_on_the_reference_page() -> None:
    page = documented.page()
    for connector in CONNECTORS.values():
        assert f"## `{connector.id}`" in page
        assert all(f"| `{param.name}` |" in page for param in connector.params)
