"""Settings: every one documented, read strictly, named when wrong."""

import re
from pathlib import Path

import pytest

from weir_shared.settings import SettingError, Settings, document_settings, duration_seconds, read_settings

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "reference" / "settings.md"
DECIDED = {
    "WEIR_PORT": "8443",
    "WEIR_DATA_DIR": ".weir",
    "WEIR_DATABASE_URL": "unset",
    "WEIR_REDIS_URL": "unset",
    "WEIR_DEMO": "1",
    "WEIR_AUTH_MODE": "local",
    "WEIR_JWT_KEYS_DIR": "unset",
    "WEIR_JWT_PUBLIC_KEY_PATH": "unset",
    "WEIR_LOCAL_SESSION_TTL": "1h",
    "WEIR_BOOTSTRAP_ADMIN_TOKEN": "unset",
    "WEIR_ALLOW_PRIVATE_ADDRESSES": "0",
    "WEIR_IMPORT_ROOT": "unset",
    "WEIR_AWS_ENDPOINT_URL": "unset",
    "WEIR_SQL_TIMEOUT_SECONDS": "180",
    "WEIR_VM_IDLE_SECONDS": "600",
    "WEIR_VM_PROVIDER": "process",
    "WEIR_CONFIRM_TIMEOUT_SECONDS": "300",
    "WEIR_REFRESH_DEBOUNCE_SECONDS": "2.0",
}


def test_the_page_says_exactly_what_the_code_says() -> None:
    told = re.findall(r"^\| `(WEIR_\w+)` \| `([^`]*)` \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    assert told == [(doc.variable, doc.default, doc.meaning) for doc in document_settings()]


def test_every_setting_has_a_meaning() -> None:
    assert all(len(doc.meaning) > 20 for doc in document_settings())


def test_the_decided_settings_exist_with_their_defaults() -> None:
    defaults = {doc.variable: doc.default for doc in document_settings()}
    assert DECIDED.items() <= defaults.items()


def test_an_empty_environment_gives_the_defaults() -> None:
    assert read_settings({}) == Settings()
    assert read_settings({"WEIR_PORT": " ", "OTHER": "x"}) == Settings()


def test_every_kind_of_value_is_read() -> None:
    settings = read_settings(
        {
            "WEIR_PORT": "9000",
            "WEIR_DEMO": "false",
            "WEIR_DATA_DIR": "/data",
            "WEIR_REFRESH_DEBOUNCE_SECONDS": "0.5",
            "WEIR_DATABASE_URL": "postgresql://x",
            "WEIR_IMPORT_ROOT": "/imports",
        }
    )
    assert (settings.port, settings.demo, settings.data_dir) == (9000, False, Path("/data"))
    assert (settings.refresh_debounce_seconds, settings.database_url) == (0.5, "postgresql://x")
    assert settings.imports == Path("/imports")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WEIR_PORT", "http"),
        ("WEIR_PORT", "0"),
        ("WEIR_PORT", "70000"),
        ("WEIR_DEMO", "maybe"),
        ("WEIR_AUTH_MODE", "none"),
        ("WEIR_AUTH_MODE", "external"),
        ("WEIR_AUDIT_DAYS", "-1"),
        ("WEIR_AUDIT_DAYS", "36501"),
        ("WEIR_VM_PROVIDER", "vmware"),
        ("WEIR_VM_PROVIDER", "kubernetes"),
        ("WEIR_SQL_TIMEOUT_SECONDS", "0"),
        ("WEIR_SQL_TIMEOUT_SECONDS", "1.5"),
        ("WEIR_LOCAL_SESSION_TTL", "soon"),
        ("WEIR_LOCAL_SESSION_TTL", "0s"),
        ("WEIR_BOOTSTRAP_ADMIN_TOKEN", "bb_short"),
        ("WEIR_REFRESH_DEBOUNCE_SECONDS", "fast"),
        ("WEIR_REFRESH_DEBOUNCE_SECONDS", "-1"),
        ("WEIR_REFRESH_DEBOUNCE_SECONDS", "nan"),
        ("WEIR_LOG_LEVEL", "loud"),
        ("WEIR_CONFIG_VARIABLES_PREFIX", "WEIR_"),
        ("WEIR_CONFIG_VARIABLES_PREFIX", "WEIR_TENANTS_"),
        ("WEIR_CONFIG_VARIABLES_PREFIX", "TENANTS"),
        ("WEIR_CONFIG_VARIABLES_PREFIX", "_"),
        ("WEIR_CONFIG_VARIABLES_PREFIX", "tenants_"),
    ],
)
def test_a_wrong_value_is_refused_and_its_variable_named(variable: str, value: str) -> None:
    with pytest.raises(SettingError, match=variable):
        read_settings({variable: value})


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h", 3600), ("1h30m5s", 5405)])
def test_durations_are_read_as_the_references_write_them(text: str, seconds: int) -> None:
    assert duration_seconds(text) == seconds
