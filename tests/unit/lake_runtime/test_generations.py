"""Generations on disk, what may become of columns, and who is still reading."""

from pathlib import Path

import pyarrow as pa
import pytest

from weir.lake_runtime.drift import drift_between, widens
from weir.lake_runtime.generations import FOLDER, Generation, NoRoom, Shelf, Shelves, bytes_under
from weir.lake_runtime.loading import fingerprint_of
from weir.lake_runtime.readers import Readers
from weir.lake_runtime.wire import Dataset, Keeping


def commit(shelf: Shelf, fingerprint: str = "f", content: bytes = b"rows") -> int:
    partial = shelf.begin()
    (partial / "part").write_bytes(content)
    generation = Generation(
        number=0, fingerprint=fingerprint, row_count=1, byte_count=len(content), schema="",
        loaded_at="", files={"part": len(content)},
    )  # fmt: skip
    return shelf.commit(partial, generation).number


def test_newest_whole_generation_of_the_definition_is_found(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, "sales")
    assert shelf.newest("f") is None
    commit(shelf)
    commit(shelf)
    commit(shelf, "other")
    found = Shelf(tmp_path, "SALES").newest("f")
    assert found is not None and found.number == 2


@pytest.mark.parametrize("harm", ["cut", "gone", "manifest"])
def test_generation_that_is_not_as_it_was_written_does_not_count(tmp_path: Path, harm: str) -> None:
    shelf = Shelf(tmp_path, "sales")
    commit(shelf)
    newest = shelf.directory(commit(shelf))
    if harm == "cut":
        (newest / "part").write_bytes(b"r")
    elif harm == "gone":
        (newest / "part").unlink()
    else:
        (newest / "manifest.json").write_text("{")
    found = shelf.newest("f")
    assert found is not None and found.number == 1


def test_unfinished_loads_are_cleared_away_and_numbers_go_on(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, "sales")
    commit(shelf)
    partial = shelf.begin()
    (partial / "part").write_bytes(b"half")
    Shelves(tmp_path).clear_away()
    assert [entry.name for entry in shelf.path.iterdir()] == ["gen-1"]
    assert commit(Shelf(tmp_path, "sales")) == 2


def test_only_what_is_named_stays_and_every_name_has_a_folder_of_its_own(tmp_path: Path) -> None:
    shelves = Shelves(tmp_path)
    for name in ("sales", "shop.Orders", "../../escape", "." * 3, "x" * 300):
        commit(shelves.of(name))
    assert len(list((tmp_path / FOLDER).iterdir())) == 5
    assert {entry.name for entry in tmp_path.iterdir()} == {FOLDER}
    shelves.keep_only(["Sales"])
    assert [entry.name for entry in (tmp_path / FOLDER).iterdir()] == ["sales"]


def test_linked_files_are_counted_once_and_room_has_an_end(tmp_path: Path) -> None:
    shelves = Shelves(tmp_path)
    number = commit(shelves.of("sales"), content=b"x" * 5000)
    part = shelves.of("sales").directory(number) / "part"
    (part.parent / "again").hardlink_to(part)
    assert bytes_under(tmp_path) < 6000
    shelves.require_room(6000)
    with pytest.raises(NoRoom):
        shelves.require_room(5000)


def test_mark_is_of_which_rows_are_kept_and_not_of_when_or_by_whom() -> None:
    def mark(options: dict[str, str] | None = None, **keeping: object) -> str:
        kept = Keeping(**({"timeColumn": "t"} | keeping))  # type: ignore[arg-type]
        return fingerprint_of(
            Dataset(name="a", connector="file", fingerprint="1", options=options or {}, keeping=kept)
        )

    assert mark() == mark({"secret": "x"}) == mark(retentionSeconds=5) == mark(overlapSeconds=9)
    assert len({mark(), mark(refreshSql="select 1 from a"), mark(appends=True), mark(store="memory")}) == 4


@pytest.mark.parametrize(
    ("narrow", "wide", "expected"),
    [
        (pa.int8(), pa.int64(), True),
        (pa.int64(), pa.int32(), False),
        (pa.uint32(), pa.int64(), True),
        (pa.uint64(), pa.int64(), False),
        (pa.int64(), pa.float64(), True),
        (pa.float64(), pa.int64(), False),
        (pa.float32(), pa.float64(), True),
        (pa.null(), pa.string(), True),
        (pa.int64(), pa.string(), False),
        (pa.date32(), pa.timestamp("us"), True),
        (pa.timestamp("s"), pa.timestamp("ns"), True),
        (pa.timestamp("ns"), pa.timestamp("s"), False),
        (pa.timestamp("s"), pa.timestamp("s", "UTC"), False),
        (pa.decimal128(10, 2), pa.decimal128(12, 2), True),
        (pa.decimal128(10, 2), pa.decimal128(10, 3), False),
        (pa.bool_(), pa.int64(), False),
    ],
)
def test_type_widens_only_to_one_that_holds_all_its_values(
    narrow: pa.DataType, wide: pa.DataType, expected: bool
) -> None:
    assert widens(narrow, wide) is expected


def test_drift_tells_what_is_new_wider_and_refused() -> None:
    before = pa.schema(
        [("a", pa.int32()), ("b", pa.string()), ("c", pa.string()), ("d", pa.list_(pa.int8()))]
    )
    now = pa.schema(
        [("a", pa.int64()), ("b", pa.string_view()), ("d", pa.large_list(pa.int8())), ("e", pa.int8())]
    )
    drift = drift_between(before, now)
    assert (drift.added, drift.widened, drift.refused) == (["e"], ["a"], ["column c is gone"])
    assert drift_between(before, before).is_none


def test_what_is_let_go_waits_for_those_who_were_reading_and_for_no_others() -> None:
    readers, told = Readers(), list[str]()
    readers.after_these(lambda: told.append("nobody"))
    assert told == ["nobody"]
    with readers.reading():
        readers.after_these(lambda: told.append("first"))
        with readers.reading():
            readers.after_these(lambda: told.append("both"))
        assert told == ["nobody"]
    assert told == ["nobody", "first", "both"]
    with readers.reading():
        assert len(told) == 3


def test_two_processes_do_not_write_one_generation_and_the_older_one_reads_on(tmp_path: Path) -> None:
    old, new = Shelf(tmp_path, "sales"), Shelf(tmp_path, "sales")
    assert [commit(old), commit(new), commit(old), commit(new)] == [1, 2, 3, 4]
    newest = Shelf(tmp_path, "sales")
    assert commit(newest) == 5
    newest.drop_before(5)
    assert newest.directory(4).exists(), "a replaced process may still read it"
    old.drop_before(5)
    assert not old.directory(4).exists()
