"""A lake's document: operations, names, secrets, and what is told when one of them is wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as some
from msgspec.structs import replace
from tests.unit.context_lake.conftest import BY, s3

from weir.context_lake import page
from weir.context_lake.config import Edit
from weir.context_lake.connectors import CONNECTORS
from weir.context_lake.connectors.declared import Place
from weir.context_lake.document import VISIBILITIES, Dataset, Document, Revision, View, WantedDataset
from weir.context_lake.secrets import with_secrets
from weir.context_lake.surroundings import Surroundings
from weir_shared.errors import ValidationFailed

Faults = Callable[..., dict[str, str]]
Added = Callable[..., Revision]


def named(name: str) -> dict[str, Any]:
    return {"from": "file:a.csv", "name": name}


def wanted(**body: Any) -> WantedDataset:
    return msgspec.convert(body, WantedDataset)


@pytest.mark.parametrize("name", ["sales", "Sales", "_x", "a1", "shop.orders", "x" * 63, "public.sales"])
def test_identifiers_are_names(faults: Faults, name: str) -> None:
    assert faults(named(name)) == {}


@pytest.mark.parametrize(
    "name",
    ["1a", "a-b", "a b", "a/b", "a%b", '"a"', "a.b.c", "x" * 64, "é", "a\n", ".a", "a.", "..", "a;drop"],
)
def test_anything_else_is_no_name(faults: Faults, name: str) -> None:
    assert list(faults(named(name))) == ["name"]


@pytest.mark.parametrize(
    "name", ["table", "COUNT", "null", "shop.Lateral", "information_schema.a", "runtime.a", "System.a"]
)
def test_reserved_words_and_schemas_are_no_names(faults: Faults, name: str) -> None:
    assert list(faults(named(name))) == ["name"]


def test_the_default_schema_is_not_part_of_a_name(added: Added) -> None:
    assert added(named("public.sales")).document.datasets[0].name == "sales"


def test_a_name_is_in_use_in_any_letter_case(faults: Faults, added: Added) -> None:
    before = added(named("Sales")).document
    assert list(faults(named("sALES"), to=before)) == ["name"]
    assert list(faults(named("public.sales"), to=before)) == ["name"]


def test_a_view_and_a_dataset_share_their_names(faults: Faults) -> None:
    before = Document(views=[View(name="Summary", sql="select 1")])
    assert list(faults(named("summary"), to=before)) == ["name"]


def test_datasets_are_kept_by_name(added: Added) -> None:
    document = added(named("a"), to=added(named("B"), to=added(named("c")).document).document).document
    assert [dataset.name for dataset in document.datasets] == ["a", "B", "c"]


def test_a_body_without_its_required_fields_is_told_of_each(faults: Faults) -> None:
    assert faults({}) == {"from": "from is required", "name": "name is required"}


def test_there_is_a_limit_of_datasets(faults: Faults, added: Added, around: Surroundings) -> None:
    few = replace(around, max_datasets=1)
    assert list(faults(named("b"), to=added(named("a")).document, around=few)) == [""]


def test_replacing_keeps_who_made_it_and_drops_what_is_not_sent(added: Added, around: Surroundings) -> None:
    before = added({**s3(), "description": "old"}).document
    edit = Edit(before, replace(BY, moment="2027-01-01T00:00:00Z", author="user:other"))
    edit.replace_dataset(
        "SALES", wanted(**{"from": "s3://bucket/elsewhere/", "params": {"file_format": "csv"}}), Place()
    )
    revision = edit.finish(around)
    [dataset] = revision.document.datasets
    assert dataset.name == "sales"
    assert dataset.params == {"file_format": "csv"}
    assert dataset.description is None
    assert (dataset.created_by, dataset.created_at) == ("user:tester", "2026-04-01T08:00:00Z")
    assert dataset.updated_at == "2027-01-01T00:00:00Z"
    assert revision.dropped == {"ds.sales.s3_key", "ds.sales.s3_secret"}


def test_replacing_under_another_name_is_refused(added: Added, around: Surroundings) -> None:
    edit = Edit(added(named("a")).document, BY)
    edit.replace_dataset("a", wanted(**named("b")), Place())
    with pytest.raises(ValidationFailed) as failed:
        edit.finish(around)
    assert [error.code for error in failed.value.errors] == ["name_mismatch"]


def test_removing_and_adding_one_name_in_one_request_replaces_it(added: Added, around: Surroundings) -> None:
    edit = Edit(added(s3()).document, BY)
    edit.remove_dataset("sales", Place("removeDatasets[0]"))
    edit.add_dataset(wanted(**named("sales")), Place("addDatasets[0]"))
    revision = edit.finish(around)
    assert [dataset.from_ for dataset in revision.document.datasets] == ["file:a.csv"]
    assert len(revision.dropped) == 2


def test_only_the_final_state_is_checked(around: Surroundings) -> None:
    edit = Edit(Document(), BY)
    edit.add_dataset(wanted(**{"from": "s3://bucket/folder/", "name": "a"}), Place("addDatasets[0]"))
    edit.replace_dataset(
        "a",
        wanted(**{"from": "s3://bucket/folder/", "params": {"file_format": "csv"}}),
        Place("updateDatasets.a"),
    )
    assert edit.finish(around).document.datasets[0].params == {"file_format": "csv"}


def test_faults_of_a_patch_say_which_operation(around: Surroundings) -> None:
    edit = Edit(Document(), BY)
    edit.add_dataset(wanted(**s3(s3_key=None)), Place("addDatasets[0]"))
    edit.remove_dataset("gone", Place("removeDatasets[1]"))
    with pytest.raises(ValidationFailed) as failed:
        edit.finish(around)
    assert {error.path for error in failed.value.errors} == {
        "addDatasets[0].params.s3_key",
        "removeDatasets[1]",
    }


class TestSecrets:
    def test_a_credential_is_a_reference_in_the_document(self, added: Added) -> None:
        revision = added(s3())
        assert revision.literals == {"ds.sales.s3_key": "AKIAEXAMPLE", "ds.sales.s3_secret": "shh"}
        assert revision.document.datasets[0].params["s3_secret"] == "${secrets:ds.sales.s3_secret}"
        assert b"shh" not in msgspec.json.encode(revision.document)

    def test_sending_the_reference_back_keeps_the_secret(self, added: Added, around: Surroundings) -> None:
        before = added(s3()).document
        edit = Edit(before, BY)
        body = {"from": before.datasets[0].from_, "params": before.datasets[0].params}
        edit.replace_dataset("sales", wanted(**body), Place())
        revision = edit.finish(around)
        assert revision.literals == {}
        assert revision.dropped == set()

    def test_a_change_of_letter_case_keeps_the_secret(self, added: Added, around: Surroundings) -> None:
        before = added(s3()).document
        edit = Edit(before, BY)
        body = {"from": before.datasets[0].from_, "name": "SALES", "params": before.datasets[0].params}
        edit.replace_dataset("sales", wanted(**body), Place())
        revision = edit.finish(around)
        assert revision.document.datasets[0].name == "SALES"
        assert revision.dropped == set()

    @pytest.mark.parametrize(
        "value",
        [
            "${secrets:ds.sales.s3_secret}",
            "${secrets:ds.other.s3_secret}",
            "${ secrets : NAME }",
            "${env:PATH}",
            "x${secrets:ds.sales.s3_secret}",
        ],
    )
    def test_a_reference_that_is_not_the_datasets_own_is_refused(self, faults: Faults, value: str) -> None:
        assert list(faults(s3(s3_secret=value))) == ["s3_secret"]

    def test_what_is_no_credential_refers_to_no_secret(self, faults: Faults) -> None:
        assert list(faults(s3(s3_region="${secrets:ds.sales.s3_secret}"))) == ["s3_region"]

    def test_references_are_opened_for_the_runtime(self) -> None:
        params = {"s3_secret": "${secrets:ds.sales.s3_secret}", "s3_region": "eu-west-1"}
        assert with_secrets(params, {"ds.sales.s3_secret": "shh"}) == {
            "s3_secret": "shh",
            "s3_region": "eu-west-1",
        }


class TestPage:
    def test_the_yaml_of_an_empty_lake_begins_as_a_spicepod(self) -> None:
        text = page.yaml_of(page.spicepod_of(Document()))
        assert text == "version: v1\nkind: Spicepod\nname: context-lake\ndatasets: []\nviews: []\n"

    @settings(max_examples=400)
    @given(texts=some.lists(some.text(max_size=60), min_size=1, max_size=4))
    def test_the_yaml_parses_to_exactly_the_config(self, texts: list[str]) -> None:
        document = Document(
            views=[View(name=f"v{n}", sql=text, description=text) for n, text in enumerate(texts)]
        )
        spicepod = page.spicepod_of(document)
        assert yaml.safe_load(page.yaml_of(spicepod)) == spicepod

    @settings(max_examples=300)
    @given(data=some.data())
    def test_the_yaml_of_any_document_parses_to_exactly_the_config(self, data: some.DataObject) -> None:
        text = some.text(max_size=40) | some.sampled_from(
            ["yes", "null", "1e3", "0x1f", "~", "2026-01-01", "- a"]
        )
        number = some.integers(-(2**63), 2**63 - 1) | some.floats(allow_nan=False, allow_infinity=False)
        leaf = some.none() | some.booleans() | number | text
        nested = some.recursive(
            leaf, lambda inner: some.lists(inner) | some.dictionaries(text, inner), max_leaves=6
        )
        metadata = some.dictionaries(text, nested, max_size=3)
        dataset = some.builds(
            Dataset,
            from_=text,
            name=text,
            params=some.dictionaries(text, text, max_size=4),
            notifications=some.booleans(),
            description=some.none() | text,
            visibility=some.sampled_from(VISIBILITIES),
            metadata=metadata,
        )
        view = some.builds(
            View,
            name=text,
            sql=text,
            description=some.none() | text,
            visibility=some.sampled_from(VISIBILITIES),
            metadata=metadata,
        )
        document = data.draw(some.builds(Document, datasets=some.lists(dataset), views=some.lists(view)))
        spicepod = page.spicepod_of(document)
        assert yaml.safe_load(page.yaml_of(spicepod)) == spicepod
        assert msgspec.convert(msgspec.to_builtins(document), Document) == document

    def test_a_statement_of_several_lines_is_a_block(self) -> None:
        document = Document(views=[View(name="v", sql="select 1\nfrom t")])
        assert "sql: |-\n    select 1\n    from t" in page.yaml_of(page.spicepod_of(document))


class TestCanaries:
    @settings(max_examples=300)
    @given(data=some.data())
    def test_a_credential_is_in_nothing_but_the_literals_to_seal(self, data: some.DataObject) -> None:
        """Any connector, any of its credentials, whatever is said beside them: accepted or refused."""
        connector = data.draw(some.sampled_from(list(CONNECTORS.values())))
        text = some.text(max_size=12).filter(lambda text: "canary" not in text)
        secret = text.map(lambda text: f"canary{text}")
        credentials = [param.name for param in connector.params if param.credential]
        params: dict[str, Any] = {}
        if credentials:
            params |= data.draw(some.dictionaries(some.sampled_from(credentials), secret))
            misspelt = some.sampled_from(credentials).map(lambda name: name[:-1])
            params |= data.draw(some.dictionaries(misspelt, secret, max_size=2))
        others = [param.name for param in connector.params if not param.credential]
        params |= data.draw(some.dictionaries(some.sampled_from(others), text, max_size=3)) if others else {}
        around = Surroundings(import_root=Path("/nowhere"))
        edit = Edit(Document(), BY)
        source = data.draw(some.sampled_from([f"{connector.id}:a", f"{connector.id}://bucket/a.csv"]))
        edit.add_dataset(wanted(**{"name": "a", "from": source, "params": params}), Place())
        try:
            revision = edit.finish(around)
        except ValidationFailed as failed:
            assert b"canary" not in msgspec.json.encode(failed.errors)
            return
        assert b"canary" not in msgspec.json.encode((revision.document, revision.warnings))
        assert "canary" not in page.yaml_of(page.spicepod_of(revision.document))
        assert set(revision.literals) == revision.document.references()
