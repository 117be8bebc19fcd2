"""Semantic search in SQL, from the statement to the tenant's own model and back."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.fakes.embedding_server import DIMENSION, Failure, FakeEmbedder, serve_fake_embedder, vector_of
from tests.integration.context_lake.conftest import Caller, Lake, eventually
from tests.serving import served

from weir.agent_engine.app import create_app as create_engine
from weir.agent_engine.models import asking
from weir_shared.auth.principal import Principal
from weir_shared.auth.tickets import HEADER
from weir_shared.web.server import address_of

KEY = "sk-of-this-tenant-alone"
DOOR = "/internal/runtime/embeddings"
DOCUMENTS = [
    {"id": 1, "text": "the bank sent an invoice"},
    {"id": 2, "text": "a kitten and a puppy"},
    {"id": 3, "text": "rain and snow and storm"},
    {"id": 4, "text": "my dog fears the storm"},
    {"id": 5, "text": "nothing in particular"},
    {"id": 6, "text": None},
    {"id": 7, "text": "  "},
]


@pytest.fixture(scope="module")
async def engine(lake: Lake) -> AsyncIterator[str]:
    async with served(create_engine(lake.settings), address_of(lake.settings.engine_url)[1]) as url:
        yield url


@pytest.fixture
async def embedder() -> AsyncIterator[FakeEmbedder]:
    async with serve_fake_embedder() as fake:
        yield fake


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "FAULT_PAUSE_SECONDS", 0.01)


class Models:
    """The models of one tenant, as its administrator changes them."""

    def __init__(self, lake: Lake, engine: str, tenant_id: str) -> None:
        principal = Principal(tenant_id=tenant_id, subject="admin", actor="user", scopes=frozenset({"admin"}))
        headers = {HEADER: lake.office.issue(principal, "agent-engine")}
        self.http = httpx.AsyncClient(base_url=f"{engine}/api/v1", headers=headers, timeout=30)

    async def add(self, embedder: FakeEmbedder, **fields: Any) -> str:
        body = {
            "name": f"e-{uuid.uuid4().hex[:8]}",
            "type": "openai_compatible",
            "model_name": "fake-embedder",
            "kind": "embedding",
            "base_url": embedder.base_url,
            "api_key": KEY,
            "embedding_dim": DIMENSION,
        }
        answer = await self.http.post("/models", json=body | fields)
        assert answer.status_code == 201, answer.text
        return answer.json()["name"]


@pytest.fixture
async def models(lake: Lake, engine: str, tenant_id: str) -> AsyncIterator[Models]:
    models = Models(lake, engine, tenant_id)
    yield models
    await models.http.aclose()


@pytest.fixture
async def documents(caller: Caller) -> None:
    """Texts, and beside them their vectors as somebody else has made them."""
    rows = [row | {"vector": vector_of(row["text"] or "")} for row in DOCUMENTS]
    await caller.add("documents", caller.parquet("documents", rows))


async def test_the_closest_texts_come_first(
    caller: Caller, models: Models, embedder: FakeEmbedder, documents: None
) -> None:
    await models.add(embedder)
    found = await caller.rows(
        "select id, cosine_similarity(vector, embed('a cat and a dog')) as score "
        "from documents order by cosine_similarity(vector, embed('a cat and a dog')) desc, id limit 3"
    )
    assert [row["id"] for row in found] == [2, 4, 5]
    assert found[0]["score"] == pytest.approx(1.0, abs=0.02)
    assert found[0]["score"] > found[1]["score"] > found[2]["score"]
    # Said twice, embedded once.
    assert embedder.texts == ["a cat and a dog"]
    assert embedder.headers[0]["authorization"] == f"Bearer {KEY}"


async def test_a_column_is_embedded_each_text_once_and_what_is_empty_has_no_vector(
    caller: Caller, models: Models, embedder: FakeEmbedder, documents: None
) -> None:
    await models.add(embedder)
    found = await caller.rows(
        "select id, cosine_similarity(embed(text), embed('storm')) as score from "
        "(select * from documents union all select * from documents where id < 3) as twice "
        "order by score desc nulls last, id"
    )
    assert [row["id"] for row in found][:2] == [3, 4]
    assert [row["score"] for row in found if row["id"] in (6, 7)] == [None, None]
    assert sorted(embedder.texts) == sorted({"storm", *(row["text"] for row in DOCUMENTS[:5])})
    await caller.rows("select embed(text) from documents")
    assert len(embedder.texts) == 6, "what was embedded a moment ago is known"


async def test_a_parameter_a_named_model_and_a_view_are_embedded_as_constants_are(
    caller: Caller, models: Models, embedder: FakeEmbedder, documents: None
) -> None:
    await models.add(embedder)
    other = await models.add(embedder, model_name="other-embedder")
    refused = await caller.sql("select embed('cat')")
    assert (refused.status_code, refused.json()["code"]) == (400, "no_embedding_model")
    assert other in refused.json()["error"]
    [row] = await caller.rows("select embed_with($1, $2) as v", parameters=["cat", other])
    assert row["v"] == vector_of("cat")
    assert embedder.requests[-1]["model"] == "other-embedder"
    sql = f"select id, cosine_similarity(vector, embed_with('snow', '{other}')) as score from documents"
    answer = await caller.http.post("/views", json={"name": "wintry", "sql": sql})
    assert answer.status_code == 201, answer.text
    [row] = await caller.rows("select id from wintry order by score desc limit 1")
    assert row["id"] == 3


async def test_an_unnamed_column_has_the_name_that_was_written(caller: Caller, documents: None) -> None:
    [row] = await caller.rows("select cosine_similarity(vector, vector) from documents where id = 1")
    [name] = row
    assert name == "cosine_similarity(documents.vector,documents.vector)"
    assert row[name] == pytest.approx(1)


async def test_similarity_is_null_where_there_is_none_and_lengths_must_agree(
    caller: Caller, documents: None
) -> None:
    [row] = await caller.rows(
        "select cosine_similarity([1.0, 0.0], [0.0, 0.0]) as zero, cosine_similarity([1.0], null) as nothing, "
        "2 * COSINE_SIMILARITY([1, 2], [1, 2]) as twice, cosine_similarity([1.0, 0.0], [-2.0, 0.0]) as opposed"
    )
    assert (row["zero"], row["nothing"]) == (None, None)
    assert (row["twice"], row["opposed"]) == (pytest.approx(2), pytest.approx(-1))
    for other in ("[1.0, 2.0]", "embedding"):
        query = (
            f"select cosine_similarity(vector, {other}) from documents, (select [1.0] as embedding) as one"
        )
        refused = await caller.sql(query)
        assert refused.status_code == 400 and "different lengths" in refused.json()["error"]


async def test_a_text_that_names_the_function_stays_a_text(caller: Caller, documents: None) -> None:
    [row] = await caller.rows(
        "with cosine_similarity(a) as (select 'cosine_similarity(1)' /* cosine_similarity( */) "
        'select a, "cosine_similarity"([1.0], [2.0]) as b from cosine_similarity -- cosine_similarity('
    )
    assert row == {"a": "cosine_similarity(1)", "b": pytest.approx(1)}


async def test_without_a_model_the_answer_says_what_is_missing(
    caller: Caller, models: Models, documents: None
) -> None:
    for query in ("select embed('cat')", "select embed(text) from documents"):
        refused = await caller.sql(query)
        assert (refused.status_code, refused.json()["code"]) == (400, "no_embedding_model"), refused.text
        assert "no model of the kind embedding" in refused.json()["error"]
    refused = await caller.sql("select embed_with('cat', 'nobody')")
    assert (refused.status_code, refused.json()["code"]) == (400, "no_embedding_model")


@pytest.mark.parametrize("query", ["select embed('cat')", "select embed(text) from documents"])
@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (Failure(status=401), "model_unauthorized"),
        (Failure(status=429), "model_rate_limited"),
        (Failure(status=500), "model_unavailable"),
        (Failure(raw=b"<html>"), "model_garbled"),
        (Failure(dimension=3), "model_garbled"),
        (Failure(numbers="[NaN,1,1,1]"), "model_garbled"),
    ],
)
async def test_a_model_that_fails_fails_the_statement_alone_in_a_sentence(
    caller: Caller,
    models: Models,
    embedder: FakeEmbedder,
    documents: None,
    query: str,
    failure: Failure,
    code: str,
) -> None:
    name = await models.add(embedder)
    embedder.always = failure
    refused = await caller.sql(query)
    assert (refused.status_code, refused.json()["code"]) == (502, code), refused.text
    assert name in refused.json()["error"]
    for secret in (KEY, "sk-secret", "Traceback", "weir.lake_runtime", "127.0.0.1"):
        assert secret not in refused.text
    assert await caller.rows("select 1 as one") == [{"one": 1}]
    embedder.always = None
    assert (await caller.sql(query)).status_code == 200, "the next statement finds the model well"


@pytest.mark.parametrize("query", ["select embed('cat')", "select embed(text) from documents"])
async def test_the_deadline_of_a_statement_holds_while_its_model_hangs(
    caller: Caller, models: Models, embedder: FakeEmbedder, documents: None, query: str
) -> None:
    await models.add(embedder)
    await caller.rows("select 1")
    epoch = (await caller.vm())["epoch"]
    embedder.always = Failure(hangs=True)
    started = time.monotonic()
    refused = await caller.sql(query, timeoutSeconds=1)
    assert refused.status_code == 504 and time.monotonic() - started < 3
    # The runtime lives on, and nobody asks on behalf of the statement any more.
    await asyncio.wait_for(embedder.cut_off.wait(), 5)
    assert await caller.rows("select 2 as two") == [{"two": 2}]
    assert (await caller.vm())["epoch"] == epoch


async def test_another_model_is_not_answered_with_the_vectors_of_the_first(
    caller: Caller, models: Models, embedder: FakeEmbedder
) -> None:
    first = await models.add(embedder, is_default=True)
    assert await caller.rows("select embed('cat') as v") == [{"v": vector_of("cat")}]
    second = await models.add(embedder, model_name="second", embedding_dim=2)
    embedder.always = Failure(dimension=2)
    both = f"select embed_with('cat', name) as v from (values ('{first}'), ('{second}')) as t(name)"
    refused = await caller.sql(both)
    assert refused.json()["code"] == "model_garbled", "the first model has other vectors"
    embedder.always = None
    assert await caller.rows(f"select embed_with('cat', '{first}') as v") == [{"v": vector_of("cat")}]
    embedder.always = Failure(dimension=2)
    assert await caller.rows(both) == [{"v": vector_of("cat")}, {"v": vector_of("cat")[:2]}]


async def test_each_tenant_is_embedded_by_its_own_model(
    lake: Lake, engine: str, caller: Caller, other: Caller, models: Models, embedder: FakeEmbedder
) -> None:
    mine = await models.add(embedder)
    assert (await other.sql("select embed('cat')")).json()["code"] == "no_embedding_model"
    assert (await other.sql(f"select embed_with('cat', '{mine}')")).json()["code"] == "no_embedding_model"
    assert not embedder.requests
    theirs = Models(lake, engine, other.tenant_id)
    await theirs.add(embedder, api_key="sk-of-the-others")
    await other.rows("select embed('cat')")
    await caller.rows("select embed('cat')")
    keys = [headers["authorization"] for headers in embedder.headers]
    assert keys == ["Bearer sk-of-the-others", f"Bearer {KEY}"]
    await theirs.http.aclose()


async def test_the_runtimes_door_opens_to_the_secret_of_a_living_runtime_only(
    lake: Lake, caller: Caller, other: Caller, models: Models, embedder: FakeEmbedder
) -> None:
    await models.add(embedder)
    await caller.rows("select 1")
    vm = await caller.vm()
    async with httpx.AsyncClient(base_url=lake.url) as http:
        identity = {"x-weir-tenant": caller.tenant_id, "x-weir-epoch": str(vm["epoch"])}
        for headers in (
            {},
            identity,
            identity | {"x-weir-runtime-secret": "0" * 64},
            {"x-weir-tenant": "nobody", "x-weir-epoch": "1", "x-weir-runtime-secret": "0" * 64},
            {"x-weir-tenant": str(uuid.uuid4()), "x-weir-epoch": "0", "x-weir-runtime-secret": ""},
        ):
            answer = await http.post(DOOR, json={"texts": ["cat"]}, headers=headers)
            assert answer.status_code == 401, headers
        assert (await http.get(DOOR)).status_code == 405
    assert (await caller.http.post(f"{lake.url}{DOOR}", json={"texts": ["cat"]})).status_code == 401
    assert not embedder.requests


async def test_a_reader_who_leaves_stops_the_asking(
    caller: Caller, models: Models, embedder: FakeEmbedder, documents: None
) -> None:
    await models.add(embedder)
    await caller.rows("select 1")
    embedder.always = Failure(hangs=True)
    asking_task = asyncio.create_task(caller.sql("select embed(text) from documents"))
    await eventually(lambda: _is_asked(embedder))
    asking_task.cancel()
    await asyncio.wait_for(embedder.cut_off.wait(), 5)


async def _is_asked(embedder: FakeEmbedder) -> bool:
    return bool(embedder.requests)


async def test_columns_are_embedded_when_rows_are_kept_and_a_refresh_pays_for_new_texts_only(
    caller: Caller, models: Models, embedder: FakeEmbedder
) -> None:
    model = await models.add(embedder)
    source = caller.parquet("kept_documents", DOCUMENTS)
    await caller.add(
        "documents",
        source,
        acceleration={"engine": "duckdb"},
        columns=[{"name": "text", "embeddings": [{"from": model}]}],
    )
    closest = "select id from documents order by cosine_similarity(text_embedding, embed('storm')) desc nulls last limit 1"
    assert await caller.rows(closest) == [{"id": 3}]
    assert sorted(embedder.texts) == sorted({"storm", *(row["text"] for row in DOCUMENTS[:5])})
    [empty] = await caller.rows("select count(*) as n from documents where text_embedding is null")
    assert empty == {"n": 2}

    embedder.requests.clear()
    caller.parquet("kept_documents", [*DOCUMENTS, {"id": 8, "text": "storm storm storm"}])
    answer = await caller.http.post("/datasets/documents/refresh?wait=30")
    assert answer.json()["ok"], answer.text
    assert embedder.texts == ["storm storm storm"]
    assert (await caller.rows("select count(*) as n from documents"))[0]["n"] == 8
