"""The page of the catalogue names what the code does."""

from pathlib import Path

from weir.context_lake import lineage, statement
from weir.context_lake.document import VISIBILITIES
from weir.context_lake.patch import WantedPatch
from weir.context_lake.tables.lakes import KEPT_VERSIONS

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "lake-api.md").read_text()


def test_every_operation_of_a_patch_is_on_the_page() -> None:
    assert [name for name in WantedPatch.__struct_fields__ if f"`{name}`" not in PAGE] == []


def test_the_limits_on_the_page_are_those_of_the_code() -> None:
    assert f"at most {lineage.MAX_DEPTH} deep" in PAGE
    assert f"{statement.MAX_BYTES // 1024} KiB" in PAGE
    assert f"{statement.MAX_TOKENS:,} words".replace(",", " ") in PAGE
    assert f"last {KEPT_VERSIONS} versions" in PAGE
    assert all(f"`{visibility}`" in PAGE for visibility in VISIBILITIES)
