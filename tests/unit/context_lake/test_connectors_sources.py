"""Servers, database files, lake tables and stores: what is refused when they are declared, and in which words."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from weir.context_lake.connectors import CONNECTORS
from weir.context_lake.connectors.source import Source, read_from
from weir.context_lake.document import Revision
from weir.context_lake.surroundings import Surroundings

Faults = Callable[..., dict[str, str]]
Added = Callable[..., Revision]

SERVER = {"pg_host": "db.example.com", "pg_db": "shop", "pg_user": "reader"}
MYSQL = {"mysql_host": "db.example.com", "mysql_user": "reader"}
KEY = {"client_email": "a@b.example", "private_key": "pem", "private_key_id": "1"}
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def dataset(source: str, **params: Any) -> dict[str, Any]:
    return {"from": source, "name": "t", "params": params}


def located(around: Surroundings, source: str, **params: str) -> Source:
    text = read_from(source)
    assert text is not None
    return CONNECTORS[text.connector].locate(text, params, around)


class TestPostgres:
    def test_what_is_missing_is_told_with_why(self, faults: Faults) -> None:
        assert faults(dataset("postgres:public.orders")) == {
            "pg_host": "pg_host is required when pg_connection_string is not given",
            "pg_user": "pg_user is required when pg_connection_string is not given",
            "pg_db": "pg_db is required when from names no database",
        }

    def test_an_ssl_mode_is_one_of_the_known(self, faults: Faults) -> None:
        assert faults(dataset("postgres:orders", **SERVER, pg_sslmode="on")) == {
            "pg_sslmode": "pg_sslmode must be one of verify-full, verify-ca, require, prefer, disable"
        }

    def test_notifications_are_not_for_it(self, faults: Faults) -> None:
        found = faults(dataset("postgres:orders", **SERVER) | {"notifications": True})
        assert found == {"notifications": "notifications are offered for s3 datasets only"}

    @pytest.mark.parametrize(
        "source",
        [
            "postgres:",
            "postgres:a.b.c.d",
            "postgres:a..b",
            "postgres:.a",
            "postgres:a b",
            'postgres:"a',
            "postgres:a;b",
        ],
    )
    def test_from_names_a_table(self, faults: Faults, source: str) -> None:
        found = faults(dataset(source, **SERVER))
        assert found["from"] == "from must read postgres:[database.]schema.table"

    def test_a_url_as_from_is_told_where_credentials_go(self, faults: Faults) -> None:
        found = faults(dataset("postgres://me:pw@db.example.com/shop", **SERVER))
        assert found["from"] == "from must carry no credentials: put them in params"

    def test_the_database_of_from_is_that_of_the_parameters(self, faults: Faults) -> None:
        assert faults(dataset("postgres:shop.public.orders", **SERVER)) == {}
        assert list(faults(dataset("postgres:other.public.orders", **SERVER))) == ["pg_db"]

    @pytest.mark.parametrize("port", [0, 65536, -1, "x", "5432 "])
    def test_a_port_is_a_port(self, faults: Faults, port: Any) -> None:
        assert list(faults(dataset("postgres:orders", **SERVER, pg_port=port))) == ["pg_port"]

    @pytest.mark.parametrize(
        "host", ["127.0.0.1", "::1", "10.0.0.1", "localhost", "169.254.169.254", "/run", "a,b", "a@b", "a:1"]
    )
    def test_a_host_is_one_public_name_or_address(self, faults: Faults, host: str) -> None:
        assert list(faults(dataset("postgres:orders", **(SERVER | {"pg_host": host})))) == ["pg_host"]

    def test_private_hosts_may_be_allowed(self, faults: Faults, around: Surroundings) -> None:
        lenient = replace(around, allow_private_addresses=True)
        for host in ("127.0.0.1", "::1", "localhost"):
            body = dataset("postgres:orders", **(SERVER | {"pg_host": host}))
            assert faults(body, around=lenient) == {}

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("postgres://u:p@127.0.0.1/db", "not a public one"),
            ("host=10.0.0.1 user=u", "not a public one"),
            (
                "postgres://u:p@db.example.com/db?sslrootcert=/etc/passwd",
                "must set nothing but host, port, dbname, user, password",
            ),
            (
                "host=a.example.com user=u passfile=/etc/passwd",
                "must set nothing but host, port, dbname, user, password",
            ),
            ("host=/run user=u", "one host's name"),
            ("host=a.example.com,b.example.com user=u", "one host's name"),
            ("mysql://u@db.example.com/db", "must read postgresql://"),
            ("nonsense", "must read postgresql://"),
            ("postgres://u@db.example.com:x/db", "must read postgresql://"),
            ("postgres://db.example.com/db", "must name a user"),
        ],
    )
    def test_a_connection_string_is_read_before_it_is_sealed(
        self, faults: Faults, text: str, words: str
    ) -> None:
        found = faults(dataset("postgres:orders", pg_connection_string=text))
        assert list(found) == ["pg_connection_string"]
        assert words in found["pg_connection_string"]

    def test_a_connection_string_is_all_that_is_needed(self, added: Added) -> None:
        for text in ("postgresql://u:p@db.example.com/shop", r"host=db.example.com user='u' password='a\'b'"):
            revision = added(dataset("postgres:orders", pg_connection_string=text))
            assert revision.literals == {"ds.t.pg_connection_string": text}

    def test_a_certificate_is_the_text_of_one(self, faults: Faults) -> None:
        assert list(faults(dataset("postgres:orders", **SERVER, pg_sslrootcert="/etc/ca.pem"))) == [
            "pg_sslrootcert"
        ]
        assert faults(dataset("postgres:orders", **SERVER, pg_sslrootcert=CERTIFICATE)) == {}

    def test_the_runtime_gets_names_and_what_was_given(self, around: Surroundings) -> None:
        source = located(around, 'postgres:shop."a.b"."say ""hi"""', **SERVER, pg_pass="shh")
        assert source.options == {"table": ["shop", "a.b", 'say "hi"'], **SERVER, "pg_pass": "shh"}


class TestMySql:
    def test_from_or_a_parameter_names_the_database(self, faults: Faults) -> None:
        assert faults(dataset("mysql:orders", **MYSQL)) == {
            "mysql_db": "mysql_db is required when from names no database"
        }
        assert faults(dataset("mysql:shop.orders", **MYSQL)) == {}
        assert faults(dataset("mysql:`my shop`.`a.b`", **MYSQL)) == {}

    def test_a_connection_string_is_a_url(self, faults: Faults) -> None:
        for text in (
            "host=a user=b",
            "mysql://u@a.example.com/db?local_infile=1",
            "postgres://u@a.example.com",
        ):
            assert list(faults(dataset("mysql:orders", mysql_connection_string=text))) == [
                "mysql_connection_string"
            ]

    def test_what_would_change_values_is_not_available(self, faults: Faults) -> None:
        found = faults(
            dataset("mysql:a.b", **MYSQL, mysql_time_zone="+02:00", mysql_zero_date_behavior="error")
        )
        assert found == {
            "mysql_time_zone": "mysql_time_zone is not available in this version",
            "mysql_zero_date_behavior": "mysql_zero_date_behavior error is not available in this version",
        }


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
class TestDatabaseFiles:
    def test_a_file_is_needed(self, faults: Faults, kind: str) -> None:
        assert faults(dataset(f"{kind}:t")) == {f"{kind}_open": f"{kind}_open is required"}

    @pytest.mark.parametrize("path", ["/etc/passwd", "../a.db", "a/../../b", "/", "//etc/passwd"])
    def test_it_lies_in_the_import_directory(self, faults: Faults, kind: str, path: str) -> None:
        assert list(faults(dataset(f"{kind}:t", **{f"{kind}_open": path}))) == [f"{kind}_open"]

    def test_a_link_that_leads_out_is_refused(self, faults: Faults, around: Surroundings, kind: str) -> None:
        (around.import_root / "out.db").symlink_to("/etc/passwd")
        found = faults(dataset(f"{kind}:t", **{f"{kind}_open": "out.db"}))
        assert found == {f"{kind}_open": f"{kind}_open must lie inside the import directory"}

    def test_functions_are_refused(self, faults: Faults, kind: str) -> None:
        found = faults(dataset(f"{kind}:read_csv('/etc/passwd')", **{f"{kind}_open": "a.db"}))
        assert found == {"from": "from must name a table: functions are not available"}

    def test_the_runtime_gets_the_whole_path(self, around: Surroundings, kind: str) -> None:
        source = located(around, f'{kind}:"a.b"', **{f"{kind}_open": "x/a.db"})
        path = str(around.import_root / "x" / "a.db")
        assert source.options == {"table": ["a.b"], f"{kind}_open": path}


class TestAzure:
    def test_two_credentials_are_told_at_the_second_with_both_names(self, faults: Faults) -> None:
        body = dataset("abfs://data/a.csv", abfs_account="shop", abfs_sas_string="sig=1", abfs_access_key="k")
        assert faults(body) == {
            "abfs_access_key": "abfs_access_key and abfs_sas_string exclude each other: give one of them"
        }

    def test_an_unsigned_reader_has_no_key(self, faults: Faults) -> None:
        body = dataset("abfs://data/a.csv", abfs_account="shop", abfs_access_key="k")
        assert faults(body | {"params": body["params"] | {"abfs_skip_signature": False}}) == {}
        assert list(faults(body | {"params": body["params"] | {"abfs_skip_signature": True}})) == [
            "abfs_skip_signature"
        ]

    def test_an_application_is_three_parameters(self, faults: Faults) -> None:
        body = dataset("abfs://data/a.csv", abfs_account="shop", abfs_client_secret="s")
        assert faults(body) == {
            "abfs_client_id": "abfs_client_id is required when abfs_client_secret is given",
            "abfs_tenant_id": "abfs_tenant_id is required when abfs_client_secret is given",
        }

    def test_the_account_stands_in_from_or_in_a_parameter(self, faults: Faults) -> None:
        whole = "abfss://data@shop.dfs.core.windows.net/a.csv"
        assert faults(dataset(whole)) == {}
        assert faults(dataset(whole, abfs_account="shop")) == {}
        assert list(faults(dataset(whole, abfs_account="other"))) == ["abfs_account"]
        assert list(faults(dataset("az://data/a.csv"))) == ["abfs_account"]

    @pytest.mark.parametrize(
        "source",
        [
            "abfs://data@shop.evil.example.com/a.csv",
            "abfs://data:pw@shop.dfs.core.windows.net/a.csv",
            "abfs:///a",
        ],
    )
    def test_from_names_a_container_and_azures_own_server(self, faults: Faults, source: str) -> None:
        assert "from" in faults(dataset(source, file_format="csv"))

    def test_the_connector_has_one_id_whatever_the_scheme(self, added: Added, around: Surroundings) -> None:
        [kept] = added(dataset("az://data/a.csv", abfs_account="shop")).document.datasets
        assert kept.source.connector == "abfs"
        assert located(around, kept.from_, **kept.params).location == "abfs://data/a.csv"


class TestGoogle:
    def test_the_key_is_json_text(self, faults: Faults) -> None:
        body = dataset("gs://bucket/a.csv", gcs_auth="service_account")
        assert faults(body) == {
            "gcs_service_account_key": (
                "gcs_service_account_key is required when auth mode is service_account"
            )
        }
        body["params"]["gcs_service_account_key"] = "{}"
        assert list(faults(body)) == ["gcs_service_account_key"]
        body["params"]["gcs_service_account_key"] = json.dumps(KEY)
        assert faults(body) == {}

    def test_a_key_without_its_auth_mode_is_refused(self, faults: Faults) -> None:
        found = faults(dataset("gs://bucket/a.csv", gcs_service_account_key=json.dumps(KEY)))
        assert found == {
            "gcs_service_account_key": "gcs_service_account_key needs gcs_auth set to service_account"
        }

    def test_of_a_key_the_runtime_gets_what_is_needed(self, around: Surroundings) -> None:
        key = json.dumps({**KEY, "gcs_base_url": "http://169.254.169.254"})
        params = {"gcs_auth": "service_account", "gcs_service_account_key": key}
        options = located(around, "gs://bucket/a.csv", **params).options
        assert json.loads(options["gcs_service_account_key"]) == KEY
        options = located(
            around, "delta_lake:gs://bucket/t", delta_lake_google_service_account_key=key
        ).options
        assert json.loads(options["google_service_account_key"]) == KEY

    def test_what_this_store_does_not_offer_is_refused(self, faults: Faults) -> None:
        found = faults(
            dataset(
                "gs://bucket/folder/",
                file_format="csv",
                gcs_auth="application_default",
                gcs_service_account_path="/etc/key.json",
                gcs_endpoint="http://store.example.com",
                client_timeout="10s",
            )
        )
        assert found == {
            "gcs_auth": "gcs_auth application_default is not available in this version",
            "gcs_service_account_path": "gcs_service_account_path is not available in this version; "
            "use gcs_service_account_key",
            "gcs_endpoint": "gcs_endpoint begins with http://, which needs allow_http set to true",
            "client_timeout": "client_timeout is not available in this version",
        }


class TestHttp:
    @pytest.mark.parametrize(
        "url",
        [
            "http://127.0.0.1/a.csv",
            "https://169.254.169.254/a.csv",
            "https://localhost/a.csv",
            "https://user:pw@example.com/a.csv",
            "https://user@example.com/a.csv",
            "https://example.com/a.csv?access_token=x",
            "https://example.com/a.csv?apikey=x",
            "https://bucket.example.com/a.csv?X-Amz-Signature=x",
            "https:example.com/a.csv",
            "https://",
            "https://[::1/a.csv",
        ],
    )
    def test_an_address_or_a_credential_in_from_is_refused(self, faults: Faults, url: str) -> None:
        assert list(faults(dataset(url, file_format="csv"))) == ["from"]

    @pytest.mark.parametrize(
        "url", ["https://example.com/a.csv?keyword=x&page=2", "http://example.com:8080/a.csv.gz"]
    )
    def test_a_file_behind_a_url_is_accepted(self, faults: Faults, url: str) -> None:
        assert faults(dataset(url)) == {}

    def test_a_password_needs_its_user(self, faults: Faults) -> None:
        assert faults(dataset("https://example.com/a.csv", http_password="x")) == {
            "http_username": "http_username is required when http_password is given"
        }

    def test_headers_are_pairs_and_sealed(self, faults: Faults, added: Added) -> None:
        assert list(faults(dataset("https://example.com/a.csv", http_headers="nonsense"))) == ["http_headers"]
        revision = added(dataset("https://example.com/a.csv", http_headers="X-Key: 1; Accept: text/csv"))
        assert list(revision.literals) == ["ds.t.http_headers"]

    def test_the_pages_of_an_api_are_not_read(self, faults: Faults) -> None:
        found = faults(dataset("https://example.com/a.json", allowed_request_paths="/a"))
        assert found == {"allowed_request_paths": "allowed_request_paths is not available in this version"}

    def test_the_runtime_gets_the_url_and_its_format(self, around: Surroundings) -> None:
        source = located(around, "https://example.com/a.avro?x=1.csv#top")
        assert (source.location, source.format) == ("https://example.com/a.avro?x=1.csv", "avro")


class TestDelta:
    def test_a_folder_lies_in_the_import_directory(self, faults: Faults, around: Surroundings) -> None:
        assert faults(dataset("delta_lake:tables/t")) == {}
        assert list(faults(dataset("delta_lake:/etc"))) == ["from"]
        assert list(faults(dataset("delta_lake:file:///etc"))) == ["from"]
        assert located(around, "delta_lake:tables/t").location == str(around.import_root / "tables" / "t")

    def test_names_without_the_connectors_are_kept_with_it(self, added: Added, around: Surroundings) -> None:
        body = dataset(
            "delta_lake:s3://bucket/t", aws_access_key_id="k", delta_lake_aws_secret_access_key="s"
        )
        revision = added(body)
        [kept] = revision.document.datasets
        assert list(kept.params) == ["delta_lake_aws_access_key_id", "delta_lake_aws_secret_access_key"]
        assert set(revision.literals.values()) == {"k", "s"}
        assert [warning.code for warning in revision.warnings] == ["renamed"]
        options = located(around, kept.from_, **kept.params).options
        assert set(options) == {"aws_access_key_id", "aws_secret_access_key"}

    def test_one_parameter_by_both_names_is_refused(self, faults: Faults) -> None:
        body = dataset("delta_lake:s3://bucket/t", aws_region="a", delta_lake_aws_region="b")
        assert faults(body) == {"aws_region": "aws_region and delta_lake_aws_region are one parameter"}

    def test_half_a_key_and_the_key_of_another_cloud_are_refused(self, faults: Faults) -> None:
        found = faults(
            dataset(
                "delta_lake:s3://bucket/t",
                delta_lake_aws_access_key_id="k",
                delta_lake_azure_storage_account_key="k",
            )
        )
        assert found == {
            "delta_lake_aws_secret_access_key": "delta_lake_aws_secret_access_key is required when "
            "delta_lake_aws_access_key_id is given",
            "delta_lake_azure_storage_account_key": "delta_lake_azure_storage_account_key needs from to "
            "begin with delta_lake:abfs://",
        }

    @pytest.mark.parametrize(
        "source",
        [
            "delta_lake:https://example.com/t",
            "delta_lake:s3://k:s@bucket/t",
            "delta_lake:s3:///t",
            "delta_lake:abfs://c@a.evil.com/t",
        ],
    )
    def test_a_url_names_a_bucket_of_a_known_store(self, faults: Faults, source: str) -> None:
        assert "from" in faults(dataset(source))

    def test_the_operators_endpoint_serves_tables_that_name_none(self, around: Surroundings) -> None:
        own = replace(around, aws_endpoint_url="http://127.0.0.1:5000")
        options = located(own, "delta_lake:s3://bucket/t").options
        assert options == {"aws_endpoint": "http://127.0.0.1:5000", "aws_allow_http": "true"}
        options = located(own, "iceberg:s3://bucket/t.metadata.json").options
        assert (options["s3_endpoint"], options["allow_http"]) == ("http://127.0.0.1:5000", "true")


class TestIceberg:
    def test_a_url_without_tables_is_told_how_it_would_read(self, faults: Faults) -> None:
        found = faults(dataset("iceberg:https://catalog.example.com/v1/namespaces/shop"))
        assert "/namespaces/<namespace>/tables/<table>" in found["from"]

    def test_a_table_of_a_catalog_is_named_by_its_url(self, faults: Faults, around: Surroundings) -> None:
        source = "iceberg:https://catalog.example.com/api/v1/wh/namespaces/shop/tables/orders"
        assert faults(dataset(source, token="x", iceberg_s3_region="eu-west-1")) == {}
        assert faults(dataset(source, oauth2_credential="id:secret", oauth2_scope="all")) == {}
        assert located(around, source).location == source.removeprefix("iceberg:")

    @pytest.mark.parametrize(
        ("source", "params", "path"),
        [
            ("https://c.example.com/v1/namespaces/shop", {}, "from"),
            ("https://c.example.com/namespaces/shop/tables/t", {}, "from"),
            ("https://u:p@c.example.com/v1/namespaces/shop/tables/t", {}, "from"),
            ("https://c.example.com/v1/namespaces/shop/tables/t?token=x", {}, "from"),
            ("http://c.example.com/v1/namespaces/shop/tables/t", {}, "from"),
            ("https://169.254.169.254/v1/namespaces/shop/tables/t", {}, "from"),
            ("glue:123/v1/namespaces/shop/tables/t", {}, "from"),
            (
                "https://c.example.com/v1/namespaces/s/tables/t",
                {"metadata_path": "x.json"},
                "iceberg_metadata_path",
            ),
            (
                "https://c.example.com/v1/namespaces/s/tables/t",
                {"oauth2_credential": "x"},
                "iceberg_oauth2_credential",
            ),
            (
                "https://c.example.com/v1/namespaces/s/tables/t",
                {"oauth2_scope": "x"},
                "iceberg_oauth2_credential",
            ),
            (
                "https://c.example.com/v1/namespaces/s/tables/t",
                {"oauth2_credential": "a:b", "oauth2_server_url": "http://idp.example.com"},
                "iceberg_oauth2_server_url",
            ),
            (
                "https://c.example.com/v1/namespaces/s/tables/t",
                {"token": "x", "oauth2_credential": "a:b"},
                "iceberg_oauth2_credential",
            ),
        ],
    )
    def test_what_a_catalogs_table_must_not_say(
        self, faults: Faults, source: str, params: dict[str, str], path: str
    ) -> None:
        assert list(faults(dataset(f"iceberg:{source}", **params))) == [path]

    def test_a_folder_needs_its_metadata_file(self, faults: Faults) -> None:
        assert faults(dataset("iceberg:tables/t")) == {
            "iceberg_metadata_path": "iceberg_metadata_path is required when from names no metadata file"
        }
        assert faults(dataset("iceberg:tables/t", metadata_path="tables/t/metadata/v1.metadata.json")) == {}
        assert faults(dataset("iceberg:tables/t/metadata/v1.metadata.json")) == {}

    @pytest.mark.parametrize("path", ["/etc/v1.metadata.json", "s3://bucket/v1.metadata.json", "tables/t"])
    def test_the_metadata_file_lies_with_the_table(self, faults: Faults, path: str) -> None:
        assert list(faults(dataset("iceberg:tables/t", iceberg_metadata_path=path))) == [
            "iceberg_metadata_path"
        ]

    def test_keys_of_s3_are_for_tables_in_s3(self, faults: Faults) -> None:
        found = faults(dataset("iceberg:tables/v1.metadata.json", iceberg_s3_region="eu-west-1"))
        assert list(found) == ["iceberg_s3_region"]
        body = dataset("iceberg:s3://bucket/v1.metadata.json", iceberg_token="x")
        assert faults(body) == {"iceberg_token": "iceberg_token needs from to be a catalog's URL"}


@pytest.mark.parametrize(("name", "kind"), [("a.avro", "avro"), ("a.arrow", "arrow"), ("a.feather", "arrow")])
def test_avro_and_arrow_are_known_by_their_extensions(around: Surroundings, name: str, kind: str) -> None:
    for source in (f"s3://bucket/{name}", f"gs://bucket/{name}", f"file:{name}"):
        assert located(around, source).format == kind


@pytest.mark.parametrize(
    "source",
    [
        "gs://bucket/a.csv",
        "postgres:a.b",
        "sqlite:t",
        "delta_lake:t",
        "iceberg:v1.metadata.json",
        "https://example.com/a.csv",
    ],
)
def test_an_unknown_parameter_is_refused_everywhere(faults: Faults, source: str) -> None:
    assert "unknown parameter" in faults(dataset(source, colour="red"))["colour"]


class TestFileOptions:
    @pytest.mark.parametrize(
        ("source", "example", "below"),
        [
            ("s3://bkt/p/", "s3://bkt/p/y=1/a.csv", "y=1/a.csv"),
            ("s3://bkt/p", "s3://bkt/p/y=1/", "y=1/"),
            ("gs://bkt/p/", "gs://bkt/p/a.csv", "a.csv"),
            (
                "abfs://c@acc.dfs.core.windows.net/p/",
                "abfs://c@acc.dfs.core.windows.net/p/a b.csv",
                "a b.csv",
            ),
            ("file:in/p", "file:in/p/a.csv", "a.csv"),
        ],
    )
    def test_an_example_under_from_reaches_the_runtime(
        self, around: Surroundings, source: str, example: str, below: str
    ) -> None:
        options = located(around, source, file_format="csv", schema_source_path=example).options
        assert options["schema_source_path"] == below

    @pytest.mark.parametrize(
        "example",
        [
            "s3://bkt/q/a.csv",
            "s3://bkt/px/a.csv",
            "s3://bkt/p/../q/a.csv",
            "s3://bkt/p/",
            "s3:bkt/p/a.csv",
            "gs://bkt/p/a.csv",
            "a.csv",
        ],
    )
    def test_an_example_elsewhere_is_refused(self, faults: Faults, example: str) -> None:
        found = faults(dataset("s3://bkt/p/", file_format="csv", schema_source_path=example))
        assert found == {
            "schema_source_path": "schema_source_path must lie under from, and be written as from is"
        }

    def test_an_example_of_one_file_or_of_arrays_is_refused(self, faults: Faults) -> None:
        found = faults(dataset("s3://bkt/a.csv", schema_source_path="s3://bkt/a.csv/b.csv"))
        assert found == {"schema_source_path": "schema_source_path needs from to be a directory"}
        params = {"file_format": "json", "json_format": "array", "schema_source_path": "s3://bkt/p/a.json"}
        assert faults(dataset("s3://bkt/p/", **params)) == {
            "schema_source_path": "schema_source_path is not available with json_format array"
        }

    def test_columns_of_the_file_are_for_files(self, faults: Faults, added: Callable[..., Revision]) -> None:
        wanted = {"_size": "enabled", "_location": "enabled", "_last_modified": "disabled", "owner": "me"}
        kept = added({"from": "s3://bkt/a.csv", "name": "t", "metadata": wanted}).document.datasets[0]
        assert kept.metadata == wanted
        assert kept.file_columns == ["_location", "_size"]
        plain = added({"from": "s3://bkt/a.csv", "name": "t", "metadata": {"owner": "me"}}).document.datasets[
            0
        ]
        assert plain.fingerprint != kept.fingerprint
        assert faults({"from": "s3://bkt/a.csv", "name": "t", "metadata": {"_size": True}}) == {
            "metadata._size": "_size must be one of enabled, disabled"
        }
        body = dataset("sqlite:t", sqlite_open="a.db") | {
            "metadata": {"_size": "enabled", "_location": "disabled"}
        }
        assert faults(body) == {
            "metadata._size": "_size is offered for s3, gcs, abfs, https, http, file datasets only"
        }
