"""What holds for every connector's declaration, and that the runtime reads what it promises."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from weir import lake_runtime
from weir.context_lake.connectors import CONNECTORS
from weir.context_lake.connectors.declared import (
    Findings,
    Param,
    Place,
    check_params,
    options_of,
    with_own_names,
)
from weir.context_lake.connectors.kinds import wish_of
from weir.context_lake.connectors.source import read_from
from weir.context_lake.connectors.table_names import read_names
from weir.context_lake.surroundings import Surroundings

SOURCES = Path(lake_runtime.__file__).parent / "sources"
MODULES = {
    "s3": ("s3", "objects", "listing", "durations"),
    "gcs": ("gcs", "objects", "listing"),
    "abfs": ("abfs", "objects", "listing", "durations"),
    "https": ("download", "listing"),
    "http": ("download", "listing"),
    "file": ("file", "listing"),
    "import": ("file", "listing"),
    "postgres": ("postgres", "database"),
    "mysql": ("mysql", "database"),
    "sqlite": ("sqlite", "database"),
    "duckdb": ("duckdb", "database"),
    "delta_lake": ("delta",),
    "iceberg": ("iceberg", "iceberg_catalog", "objects"),
}
# What the desk itself does with a parameter: it compares it, or hands it on by its newer name.
OF_THE_DESK = {
    "s3_account_id",
    "path",
    "file_format",
    "csv_schema_infer_max_records",
    "hive_infer_partitions",
}
SECRET = re.compile(
    r"secret|token|pass(?!es)|(?<!s)_key$|session_token|sas_|connection_string|credential|_s3_key$|headers$"
    r"|access_key|service_account_key|ca_certificate"
)
DECLARED = [
    pytest.param(connector, param, id=f"{connector}-{param.name}")
    for connector, known in CONNECTORS.items()
    for param in known.params
]


def text_of(connector: str) -> str:
    return "\n".join((SOURCES / f"{module}.py").read_text() for module in MODULES[connector])


def has_effect(param: Param) -> bool:
    return not param.without_effect and not param.unavailable


def test_every_connector_says_how_its_from_reads() -> None:
    for name, connector in CONNECTORS.items():
        assert connector.id == name
        assert read_from(connector.example).connector == name  # type: ignore[union-attr]


@pytest.mark.parametrize(("connector", "param"), DECLARED)
def test_every_parameter_says_what_it_means(connector: str, param: Param) -> None:
    names = [name for known in CONNECTORS[connector].params for name in (known.name, *known.also)]
    assert names.count(param.name) == 1
    assert len(param.help) > 10
    assert param.help[-1] not in ".!"
    assert (param.kind == "choice") == bool(param.choices)
    assert set(param.unavailable_choices) < set(param.choices or ("",))
    known = set(names)
    conditions = [when.param for when in (param.required_when, param.only_when) if when]
    assert known.issuperset([*conditions, *param.requires])
    if param.default is not None:
        assert not wish_of(param.kind, param.default, param.choices)


@pytest.mark.parametrize(("connector", "param"), DECLARED)
def test_credentials_are_the_secret_ones(connector: str, param: Param) -> None:
    looks_secret = bool(SECRET.search(param.name)) or param.name in (
        "http_auth_client_id",
        "s3_key",
        "s3_secret",
        "delta_lake_aws_access_key_id",
    )
    not_secret = param.name in ("abfs_federated_token_file", "auth_token_url", "max_request_headers_length")
    assert param.credential == (looks_secret and not not_secret)


@pytest.mark.parametrize(
    ("connector", "option"),
    [
        (connector, param.option or param.name)
        for connector, known in CONNECTORS.items()
        for param in known.params
        if has_effect(param) and param.name not in OF_THE_DESK
    ],
)
def test_what_has_an_effect_is_read_by_the_runtime(connector: str, option: str) -> None:
    text = text_of(connector).replace("'", '"')
    # Iceberg's options of S3 have their prefix put before them.
    bare = option.removeprefix("s3_") if connector == "iceberg" else option
    assert f'"{option}"' in text or f'"{bare}"' in text


@pytest.mark.parametrize(
    ("connector", "option", "default"),
    [
        (connector, param.option or param.name, param.default)
        for connector, known in CONNECTORS.items()
        for param in known.params
        if param.default and has_effect(param)
    ],
)
def test_a_default_is_the_runtimes_own(connector: str, option: str, default: str) -> None:
    text = text_of(connector)
    if option == "url_style":
        assert '"url_style") == "vhost"' in text
    elif default == "false":
        assert re.search(rf'"{option}"(, ""\)|\) or "false"|\), default=False|: "{option}")', text)
    elif default == "true":
        assert re.search(rf'"{option}"\), default=True', text)
    elif option == "json_format":
        assert f'"{option}") == "array"' in text
    else:
        quoted = f"'{default}'" if default == '"' else f'"{default}"'
        forms = (
            f"or {quoted}",
            f"or {default})",
            f"else {quoted}",
            f'region": {quoted}',
            f'region", {quoted}',
        )
        assert any(form in text for form in forms)


def test_a_parameter_without_effect_never_reaches_the_runtime() -> None:
    for connector in CONNECTORS.values():
        everything = {param.name: param.default or "1" for param in connector.params}
        options = options_of(connector.params, everything)
        silent = {param.option or param.name for param in connector.params if not has_effect(param)}
        assert not silent & set(options)


@pytest.mark.parametrize(("connector", "param"), DECLARED)
def test_an_unavailable_parameter_is_refused_and_one_without_effect_is_told(
    connector: str, param: Param
) -> None:
    values = {"count": "1", "duration": "1s", "switch": "true", "choice": (param.choices or ("",))[0]}
    params = {param.name: values.get(param.kind, "x")}
    found = Findings([], [])
    check_params(CONNECTORS[connector].params, params, Place(), found)
    told = [error for error in found.errors if error.path == param.name]
    assert [error.code for error in told if error.code == "not_available"] == [
        "not_available"
    ] * param.unavailable
    if param.without_effect and not param.unavailable:
        assert [warning.code for warning in found.warnings] == ["without_effect"]


@settings(max_examples=300, deadline=None)
@given(
    connector=some.sampled_from(sorted(CONNECTORS)),
    path=some.text(max_size=40)
    | some.from_regex(r"(s3|gs|abfs|https?|file)://[a-z@:/.?=\[\]]{0,30}", fullmatch=True),
    data=some.data(),
)
def test_any_text_is_held_against_the_rules_without_failing(
    connector: str, path: str, data: some.DataObject
) -> None:
    known = CONNECTORS[connector]
    names = [name for param in known.params for name in (param.name, *param.also)]
    params = data.draw(some.dictionaries(some.sampled_from(names), some.text(max_size=20), max_size=6))
    text = read_from(f"{connector}:{path}")
    assert text is not None
    around = Surroundings(import_root=Path("/nowhere/imports"))
    found = Findings([], [])
    own = with_own_names(known.params, params, Place(), found)
    check_params(known.params, own, Place(), found)
    known.check(text, own, Place(), around, found)
    if not found.errors:
        known.locate(text, own, around)


@given(names=some.lists(some.text(min_size=1, max_size=12), min_size=1, max_size=3))
def test_quoted_names_come_back_as_they_were(names: list[str]) -> None:
    path = ".".join('"' + name.replace('"', '""') + '"' for name in names)
    assert read_names(path) == names
