"""Embedding in the runtime: what is rewritten, remembered, asked once, and kept beside the rows."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pytest

from weir.lake_runtime.embed_function import vector_array
from weir.lake_runtime.embedded_columns import EmbeddedColumns
from weir.lake_runtime.embedder import KEPT_BYTES, KEPT_SECONDS, Embedder, VectorCache, Vectors
from weir.lake_runtime.faults import EmbeddingFailed, SourceError, carried, translate
from weir.lake_runtime.similarity import as_written, for_the_engine
from weir.lake_runtime.wire import EmbeddedColumn


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("select cosine_similarity(a, b)", "select (1 - cosine_distance(a, b))"),
        ("select COSINE_Similarity (a, f(b, (c)))", "select (1 - cosine_distance (a, f(b, (c))))"),
        (
            "select cosine_similarity(cosine_similarity(a, b), c)",
            "select (1 - cosine_distance((1 - cosine_distance(a, b)), c))",
        ),
        ('select "cosine_similarity"(a, b)', "select (1 - cosine_distance(a, b))"),
    ],
)
def test_a_call_of_the_function_is_said_as_the_engine_has_it(written: str, told: str) -> None:
    assert for_the_engine(written) == told


@pytest.mark.parametrize(
    "sql",
    [
        "select 1",
        "select 'cosine_similarity(a)'",
        "select 1 -- cosine_similarity(a)",
        "select /* cosine_similarity(a */ 2",
        "select $$cosine_similarity(a)$$",
        "select cosine_similarity from t",
        "select cosine_similarity(a",
        "with cosine_similarity(a) as (select 1) select a from cosine_similarity",
        "select * from t as cosine_similarity(a, b)",
        "select my_cosine_similarity(a, b)",
        "select cosine_similarity[(1)]",
    ],
)
def test_everything_else_stays_as_it_is_written(sql: str) -> None:
    assert for_the_engine(sql) == sql


def test_a_column_is_named_as_its_author_has_it() -> None:
    assert as_written("Int64(1) - cosine_distance(t.a,t.b)") == "cosine_similarity(t.a,t.b)"
    assert as_written("score") == "score"


def test_a_fault_comes_through_the_engines_text_and_no_statement_can_write_one() -> None:
    fault = EmbeddingFailed("It 'said' no.", status=502, code="model_refused")
    text = f"PyErr {{ type: <class 'weir.lake_runtime.faults.CarriedFault'>, value: {carried(fault)!r}, traceback"
    found = translate(Exception(f"DataFusion error: Execution error: {text}"))
    assert (found.status, found.code, found.message) == (502, "model_refused", "It 'said' no.")
    forged = translate(Exception(f"DataFusion error: Execution error: cannot cast 'x{text}"))
    assert (forged.status, forged.code) == (400, "sql_error")


def test_the_cache_forgets_by_age_and_by_room() -> None:
    now = [0.0]
    cache = VectorCache(lambda: now[0])
    cache.keep({("m", "a"): b"1234"})
    assert cache.find("m", ["a", "b"]) == {("m", "a"): b"1234"}
    assert cache.find("other", ["a"]) == {}
    now[0] = KEPT_SECONDS + 1
    assert cache.find("m", ["a"]) == {}
    half = b"0" * (KEPT_BYTES // 2)
    for text in ("x", "y"):
        cache.keep({("m", text): half})
    assert list(cache.find("m", ["a", "x", "y"])) == [("m", "y")]


class FakeDesk(Embedder):
    """An embedder whose desk is a fake: the vector of a text is its length, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.fails = False

    async def _ask(self, model: str, texts: list[str]) -> Vectors:
        self.asked += texts
        await asyncio.sleep(0.01)
        if self.fails:
            raise EmbeddingFailed("The fake does not embed.")
        return {(model, text): bytes(pa.array([len(text)] * 2, pa.float32()).buffers()[1]) for text in texts}


async def test_texts_that_are_wanted_at_once_are_asked_for_once() -> None:
    desk = FakeDesk()
    answers = await asyncio.gather(*(desk.embed("m", ["a", "bb", text]) for text in ("c", "d", "a")))
    assert sorted(desk.asked) == ["a", "bb", "c", "d"]
    assert all(answer["m", "bb"] == answers[0]["m", "bb"] for answer in answers)


async def test_one_that_gives_up_leaves_the_others_to_ask_themselves() -> None:
    desk = FakeDesk()
    first = asyncio.create_task(desk.embed("m", ["a"]))
    await asyncio.sleep(0)
    second = asyncio.create_task(desk.embed("m", ["a"]))
    await asyncio.sleep(0)
    first.cancel()
    assert len((await second)["m", "a"]) == 8
    desk.fails = True
    both = await asyncio.gather(desk.embed("m", ["b"]), desk.embed("m", ["b"]), return_exceptions=True)
    assert [type(answer) for answer in both] == [EmbeddingFailed, EmbeddingFailed]


@contextmanager
def a_loop(desk: Embedder) -> Iterator[None]:
    """The runtime's event loop in a thread, as the engine's threads know it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    desk._loop, desk._desk = loop, object()  # type: ignore[assignment]
    try:
        yield
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def batch(*texts: str | None, **more: Sequence[Any]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"text": pa.array(texts, pa.string()), **more})


COLUMNS = [EmbeddedColumn("text", "m")]


def test_rows_get_their_vectors_and_a_text_that_had_one_is_not_asked_for() -> None:
    desk = FakeDesk()
    with a_loop(desk):
        first = EmbeddedColumns("docs", COLUMNS, desk).with_embeddings(batch("a", None, "bb", "", "a"))
        assert first.column("text_embedding").to_pylist() == [[1, 1], None, [2, 2], None, [1, 1]]
        assert sorted(desk.asked) == ["a", "bb"]
        desk.cache.clear()
        desk.asked.clear()
        later = EmbeddedColumns("docs", COLUMNS, desk)
        # A slice, as a reader of files may hand it on.
        later.remember([first.slice(1)])
        second = later.with_embeddings(batch("bb", "ccc", "a"))
        assert second.column("text_embedding").to_pylist() == [[2, 2], [3, 3], [1, 1]]
        assert desk.asked == ["ccc"]
        assert second.schema == later.schema(batch().schema)


def test_what_there_is_no_room_to_remember_is_asked_for_again() -> None:
    desk = FakeDesk()
    with a_loop(desk):
        kept = EmbeddedColumns("docs", COLUMNS, desk).with_embeddings(batch(*(f"{i:04}" for i in range(100))))
        desk.cache.clear()
        desk.asked.clear()
        later = EmbeddedColumns("docs", COLUMNS, desk, most_bytes=128 * 10)
        later.remember([kept])
        later.with_embeddings(batch(*(f"{i:04}" for i in range(100))))
        assert len(desk.asked) == 90


def test_a_fault_of_the_model_is_the_loads() -> None:
    desk = FakeDesk()
    desk.fails = True
    with a_loop(desk), pytest.raises(EmbeddingFailed):
        EmbeddedColumns("docs", COLUMNS, desk).with_embeddings(batch("a"))


@pytest.mark.parametrize(
    ("schema", "hint"),
    [
        (pa.schema([("other", pa.string())]), "no column 'text'"),
        (pa.schema([("text", pa.int64())]), "int64"),
        (pa.schema([("text", pa.string()), ("text_embedding", pa.string())]), "already"),
    ],
)
def test_a_column_that_cannot_be_embedded_is_told_before_anything_is_asked(
    schema: pa.Schema, hint: str
) -> None:
    with pytest.raises(SourceError, match=hint):
        EmbeddedColumns("docs", COLUMNS, FakeDesk()).schema(schema)


def test_vectors_become_a_column_with_nulls_where_there_are_none() -> None:
    one = bytes(pa.array([1.0, 2.0], pa.float32()).buffers()[1])
    assert vector_array([None, one, None, one]).to_pylist() == [None, [1, 2], None, [1, 2]]
    assert vector_array([]).to_pylist() == [] and vector_array([None]).to_pylist() == [None]
