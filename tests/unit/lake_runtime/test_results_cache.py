"""What the results cache keeps, and for how long."""

from weir.lake_runtime.results import Summary
from weir.lake_runtime.results_cache import (
    MAX_BYTES,
    MAX_ENTRY_BYTES,
    TTL_SECONDS,
    KeptAnswer,
    ResultsCache,
    key_of,
)
from weir.lake_runtime.wire import SqlRequest

SUMMARY = Summary(rowCount=1, truncated=False, durationMs=1.0, coldStart=False)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def answer(size: int = 10) -> KeptAnswer:
    return KeptAnswer(content_type="x", rows=b"x" * size, summary=SUMMARY, write_tail=lambda _: b"")


def test_an_answer_is_kept_for_a_second() -> None:
    clock = Clock()
    cache = ResultsCache(clock)
    cache.keep(b"k", answer(), generation=cache.generation)
    assert cache.find(b"k") is not None
    clock.now = TTL_SECONDS + 0.01
    assert cache.find(b"k") is None


def test_a_long_answer_is_not_kept() -> None:
    cache = ResultsCache()
    cache.keep(b"k", answer(MAX_ENTRY_BYTES + 1), generation=cache.generation)
    assert cache.find(b"k") is None


def test_an_answer_begun_before_a_table_changed_is_not_kept() -> None:
    cache = ResultsCache()
    before = cache.generation
    cache.clear()
    cache.keep(b"k", answer(), generation=before)
    assert cache.find(b"k") is None


def test_the_oldest_make_room() -> None:
    cache = ResultsCache(Clock())
    count = 2 * MAX_BYTES // MAX_ENTRY_BYTES
    for n in range(count):
        cache.keep(str(n).encode(), answer(MAX_ENTRY_BYTES), generation=cache.generation)
    kept = [n for n in range(count) if cache.find(str(n).encode()) is not None]
    assert kept
    assert kept == list(range(count - len(kept), count))
    assert len(kept) * MAX_ENTRY_BYTES <= MAX_BYTES


def test_a_key_tells_apart_what_is_answered_differently() -> None:
    asked = [
        SqlRequest(query="select 1"),
        SqlRequest(query="select 1", maxRows=5),
        SqlRequest(query="select 1", format="csv"),
        SqlRequest(query="select 1", tables=["a"]),
        SqlRequest(query="select 1", parameters=[1]),
        SqlRequest(query="select 1", parameters=[1.0]),
        SqlRequest(query="select 1", parameters=[True]),
        SqlRequest(query="select 'a  b'"),
        SqlRequest(query="select 'a b'"),
    ]
    assert len({key_of(request) for request in asked}) == len(asked)
    assert key_of(asked[0]) == key_of(SqlRequest(query=" select\n 1 ;"))
