"""Knowledge bases: files in, passages out, hostile files and servers, and what nobody else sees."""

import asyncio
import io
import json
import uuid
import zipfile
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import docx
import httpx
import pytest
from tests.fakes.embedding_server import Failure, FakeEmbedder, serve_fake_embedder
from tests.fakes.model_server import say, use
from tests.integration.agent_engine.conftest import Caller, World

from weir.agent_engine.knowledge import indexing, vectors
from weir.agent_engine.models import asking
from weir.agent_engine.studio import Studio
from weir.agent_engine.tables import passage_search
from weir_shared.db.pool import Database

ANIMALS = b"# Animals\n\nA cat and a kitten are animals. The dog barks.\n"
MONEY = b"The bank sent an invoice; the price of the loan is Zweihundertsieben.\n"


@pytest.fixture
async def embedder() -> AsyncIterator[FakeEmbedder]:
    async with serve_fake_embedder() as fake:
        yield fake


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "FAULT_PAUSE_SECONDS", 0.01)


@pytest.fixture
async def worker(world: World) -> AsyncIterator[Studio]:
    """The worker's round, without its process."""
    studio: Studio = world.app.state.studio

    async def rounds() -> None:
        while True:
            async with studio.database.any_tenant() as connection:
                due = await indexing.passages.due_any(connection, 20)
            await asyncio.gather(*(indexing.index(studio, *one) for one in due))
            await asyncio.sleep(0.02)

    task = asyncio.create_task(rounds())
    yield studio
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def make_base(admin: Caller, embedder: FakeEmbedder, name: str = "handbook") -> dict[str, Any]:
    model = {
        "name": f"e-{uuid.uuid4().hex[:8]}",
        "type": "openai_compatible",
        "model_name": "fake-embedder",
        "kind": "embedding",
        "base_url": embedder.base_url,
    }
    await admin.ask(201, "POST", "/models", model)
    return await admin.ask(
        201, "POST", "/knowledge-bases", {"name": name, "embedding_model_id": model["name"]}
    )


async def upload(
    admin: Caller, base: str, name: str, content: bytes, path: str | None = None
) -> httpx.Response:
    where = path or f"/knowledge-bases/{base}/files"
    return await admin.http.post(f"/api/v1{where}", files={"file": (name, content)})


async def settled(admin: Caller, base: str, name: str, content: bytes) -> dict[str, Any]:
    """The file once its indexing has ended, one way or the other."""
    response = await upload(admin, base, name, content)
    assert response.status_code == 201, response.text
    return await ended(admin, base, response.json()["id"])


async def ended(admin: Caller, base: str, id: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            file = await admin.ask(200, "GET", f"/knowledge-bases/{base}/files/{id}")
            if file["status"] != "indexing":
                return file
            await asyncio.sleep(0.05)


async def find(admin: Caller, base: str, query: str, **fields: Any) -> list[dict[str, Any]]:
    body = {"query": query} | fields
    return (await admin.ask(200, "POST", f"/knowledge-bases/{base}/search", body))["results"]


def pdf(text: str | None, pages: int = 1) -> bytes:
    """A PDF of so many equal pages, written by hand."""
    drawn = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET" if text else "0 0 100 100 re f"
    kids = " ".join(f"{number} 0 R" for number in range(5, 5 + pages))
    page = "<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F1 3 0 R>>>>>>"
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Count {pages}/Kids[{kids}]>>",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        f"<</Length {len(drawn)}>>stream\n{drawn}\nendstream",
        *[page] * pages,
    ]
    out = bytearray(b"%PDF-1.4\n")
    places: list[int] = []
    for number, written in enumerate(objects, start=1):
        places.append(len(out))
        out += f"{number} 0 obj{written}endobj\n".encode()
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += "".join(f"{place:010d} 00000 n \n" for place in places).encode()
    return bytes(out + f"trailer<</Size {len(objects) + 1}/Root 1 0 R>>\nstartxref\n{start}\n%%EOF".encode())


def word(*paragraphs: str) -> bytes:
    document = docx.Document()
    document.add_heading("Heading", 1)
    for paragraph in paragraphs:
        document.add_paragraph(paragraph)
    table = document.add_table(rows=1, cols=2)
    table.cell(0, 0).text, table.cell(0, 1).text = "dog", "kennel"
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def bomb() -> bytes:
    """A document whose text unpacks to 300 MiB."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in zipfile.ZipFile(io.BytesIO(word("x"))).namelist():
            archive.writestr(name, b"")
        with archive.open("word/huge.xml", "w") as entry:
            for _ in range(300):
                entry.write(bytes(1024 * 1024))
    return out.getvalue()


FILES = {
    "pets.md": ANIMALS,
    "pets.txt": "A cat, a dog, a kitten: grün".encode("cp1252"),
    "wide.txt": "A cat and a dog".encode("utf-16"),
    "pets.csv": b"kind,sound\ncat ,meow\ndog ,bark\n",
    "pets.json": b'{"pet": "cat dog \\u0000 kitten"}',
    "pets.html": b"<html><script>alert(1)</script><h1>Pets</h1><p>a cat and a dog</p></html>",
    "pets.pdf": pdf("A cat and a dog and a kitten"),
    "pets.docx": word("A cat and a dog and a kitten"),
}


@pytest.mark.parametrize("name", FILES)
async def test_a_file_of_each_kind_is_found(
    admin: Caller, embedder: FakeEmbedder, worker: Studio, name: str
) -> None:
    await make_base(admin, embedder)

    file = await settled(admin, "handbook", name, FILES[name])

    assert (file["status"], file["status_message"]) == ("ready", None)
    assert file["chunk_count"] == file["chunks_done"] == 1
    assert file["indexed_at"]
    [found] = await find(admin, "handbook", "cat")
    assert found["file_name"] == name
    assert "cat" in found["text"]
    assert "alert" not in found["text"]


def locked() -> bytes:
    """A PDF whose password is not the empty one."""
    lock = (
        b"/Encrypt<</Filter/Standard/V 1/R 2/P -4/O<"
        + b"41" * 32
        + b">/U<"
        + b"42" * 32
        + b">>>/ID[<01><01>]"
    )
    return pdf("a cat").replace(b"/Root 1 0 R", b"/Root 1 0 R" + lock)


HOSTILE = {
    "locked.pdf": (locked(), "protected by a password"),
    "scan.pdf": (pdf(None), "holds no text"),
    "long.pdf": (pdf("a cat", pages=10_000), "10000 pages"),
    "cut.pdf": (pdf("a cat")[:40], "not a whole PDF"),
    "bomb.docx": (bomb(), "unpacks to far more"),
    "cut.docx": (word("a cat")[:200], "not a whole Word document"),
    "cut.json": (b'{"a": ', "not JSON"),
    "deep.json": (b"[" * 200_000, "nested too deeply"),
    "binary.txt": (b"\x7fELF\0\0\1", "not a text"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_file_fails_with_a_sentence_and_alone(
    admin: Caller, embedder: FakeEmbedder, worker: Studio, name: str
) -> None:
    await make_base(admin, embedder)
    content, sentence = HOSTILE[name]

    file = await settled(admin, "handbook", name, content)

    assert file["status"] == "error"
    assert sentence in file["status_message"]
    assert (await settled(admin, "handbook", "pets.md", ANIMALS))["status"] == "ready"


async def test_searches_are_planned_by_what_has_just_been_indexed(
    admin: Caller, embedder: FakeEmbedder, worker: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "MANY", 1)
    await make_base(admin, embedder)
    async with worker.database.any_tenant() as connection:
        before = await connection.fetchval("select clock_timestamp()")
    assert (await settled(admin, "handbook", "pets.md", ANIMALS))["status"] == "ready"
    async with worker.database.any_tenant() as connection:
        renewed = await connection.fetch(
            "select relname from pg_stat_user_tables where relname like 'knowledge_%' and last_analyze > $1",
            before,
        )
    assert {row["relname"] for row in renewed} >= {"knowledge_chunks", "knowledge_vectors", "knowledge_files"}


LIES = {
    "another number": (Failure(raw=b'{"data": []}'), "embedded 0 of 1"),
    "no numbers": (Failure(numbers="[NaN, NaN]"), "not one of embeddings"),
    "garbage": (Failure(raw=b"<html>"), "not one of embeddings"),
    "refusal": (Failure(status=401), "model"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lying_embedder_fails_its_file_and_its_search_only(
    admin: Caller, embedder: FakeEmbedder, worker: Studio, lie: str
) -> None:
    await make_base(admin, embedder)
    ready = await settled(admin, "handbook", "pets.md", ANIMALS)
    embedder.always, sentence = LIES[lie]

    file = await settled(admin, "handbook", "money.txt", MONEY)
    search = await admin.call("POST", "/knowledge-bases/handbook/search", {"query": "cat"})

    assert file["status"] == "error"
    assert "The embedding model failed" in file["status_message"]
    assert sentence in file["status_message"]
    assert search.status_code == 502
    embedder.always = None
    assert (await upload(admin, "handbook", "money.txt", MONEY)).json()["status"] == "indexing"
    assert (await ended(admin, "handbook", file["id"]))["status"] == "ready"
    assert [one["file_id"] for one in await find(admin, "handbook", "cat", limit=1)] == [ready["id"]]


async def test_meaning_and_words_are_both_found_and_a_threshold_keeps_the_far_away_out(
    admin: Caller, embedder: FakeEmbedder, worker: Studio
) -> None:
    await make_base(admin, embedder)
    await settled(admin, "handbook", "pets.md", ANIMALS)
    await settled(admin, "handbook", "money.txt", MONEY)

    # A word of no topic: only the words can tell.
    assert (await find(admin, "handbook", "Zweihundertsieben"))[0]["file_name"] == "money.txt"
    assert (await find(admin, "handbook", "puppy"))[0]["file_name"] == "pets.md"
    near = await find(admin, "handbook", "puppy", similarity_threshold=0.9)
    assert [one["file_name"] for one in near] == ["pets.md"]
    assert near[0]["score"] > 0.9


async def test_the_index_of_words_leaves_out_other_bases(
    admin: Caller, embedder: FakeEmbedder, worker: Studio
) -> None:
    """Else a search would read all passages with its words, whoever's they are."""
    await make_base(admin, embedder)
    base = await make_base(admin, embedder, "other")
    await settled(admin, "handbook", "pets.md", ANIMALS)
    await settled(admin, "other", "pets.md", ANIMALS)

    async with worker.database.any_tenant() as connection:
        found = await connection.fetch(
            "select distinct base_id from knowledge_chunks where words @@ (quote_literal($1)::tsquery && 'cat')",
            f"base {base['id']}",
        )

    assert [row["base_id"] for row in found] == [base["id"]]


async def test_a_rare_word_weighs_more_than_a_frequent_one_however_often_it_is_said(
    admin: Caller, embedder: FakeEmbedder, worker: Studio
) -> None:
    base = await make_base(admin, embedder)
    for number in range(3):
        await settled(admin, "handbook", f"{number}.txt", f"beetroot beetroot beetroot {number}".encode())
    rare = await settled(admin, "handbook", "rare.txt", b"gooseberry and other things")

    async with worker.database.tenant(admin.principal.tenant_id) as connection:
        found = await passage_search.worded(connection, [base["id"]], ["beetroot", "gooseberry"], 4)
        files = await connection.fetch("select id, file_id from knowledge_chunks")

    assert len(found) == 4
    assert {row["id"]: row["file_id"] for row in files}[found[0]] == rare["id"]


async def test_the_same_file_again_is_the_one_there_is(
    admin: Caller, embedder: FakeEmbedder, worker: Studio
) -> None:
    await make_base(admin, embedder)
    first = await settled(admin, "handbook", "pets.md", ANIMALS)
    asked = len(embedder.requests)

    again = await upload(admin, "handbook", "pets.md", ANIMALS)

    assert (again.status_code, again.json()["id"], again.json()["status"]) == (201, first["id"], "ready")
    assert len(embedder.requests) == asked


async def test_a_file_is_indexed_anew_while_it_can_be_found(
    admin: Caller, world: World, embedder: FakeEmbedder
) -> None:
    studio: Studio = world.app.state.studio
    await make_base(admin, embedder)
    id = (await upload(admin, "handbook", "pets.md", ANIMALS)).json()["id"]
    await indexing.index(studio, admin.principal.tenant_id, id)

    path = f"/knowledge-bases/handbook/files/{id}"
    assert await admin.ask(202, "POST", f"{path}/reindex") == {"status": "reindex_started"}

    assert (await admin.ask(200, "GET", path))["status"] == "indexing"
    assert len(await find(admin, "handbook", "cat")) == 1
    await indexing.index(studio, admin.principal.tenant_id, id)
    assert (await admin.ask(200, "GET", path))["status"] == "ready"
    assert len(await find(admin, "handbook", "cat")) == 1


async def test_another_model_hides_what_the_first_has_embedded(
    admin: Caller, world: World, embedder: FakeEmbedder
) -> None:
    studio: Studio = world.app.state.studio
    await make_base(admin, embedder)
    other = await make_base(admin, embedder, "other")
    id = (await upload(admin, "handbook", "pets.md", ANIMALS)).json()["id"]
    await indexing.index(studio, admin.principal.tenant_id, id)

    change = {"embedding_model_id": other["embedding_model"]}
    await admin.ask(200, "PATCH", "/knowledge-bases/handbook", change)

    assert await find(admin, "handbook", "cat") == []
    await indexing.index(studio, admin.principal.tenant_id, id)
    assert len(await find(admin, "handbook", "cat")) == 1


async def test_without_pgvector_the_routes_say_what_to_install(
    admin: Caller, embedder: FakeEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def missing(_: object) -> bool:
        return False

    monkeypatch.setattr(vectors, "_ready", WeakSet[Database]())
    monkeypatch.setattr(vectors.knowledge, "make_vectors_any", missing)

    body = {"name": "handbook", "embedding_model_id": "any"}
    refused = await admin.ask(503, "POST", "/knowledge-bases", body)

    assert "pgvector" in refused["message"]


async def test_a_file_whose_worker_died_is_taken_up_again(
    admin: Caller, world: World, embedder: FakeEmbedder, database: Database
) -> None:
    studio: Studio = world.app.state.studio
    await make_base(admin, embedder)
    id = (await upload(admin, "handbook", "pets.md", ANIMALS)).json()["id"]
    embedder.always = Failure(hangs=True)
    tenant = admin.principal.tenant_id
    dying = asyncio.create_task(indexing.index(studio, tenant, id))
    async with asyncio.timeout(20):
        while not embedder.requests:
            await asyncio.sleep(0.02)
    dying.cancel()
    with suppress(asyncio.CancelledError):
        await dying
    embedder.always = None

    await indexing.index(studio, tenant, id)
    held = await admin.ask(200, "GET", f"/knowledge-bases/handbook/files/{id}")
    async with database.any_tenant() as connection:
        await connection.execute("update knowledge_files set claimed_until = now() - interval '1 second'")
    await indexing.index(studio, tenant, id)

    assert held["status"] == "indexing"
    assert (await ended(admin, "handbook", id))["status"] == "ready"
    assert len(await find(admin, "handbook", "cat")) == 1


async def test_an_agent_looks_things_up_in_its_own_bases_only(
    admin: Caller, world: World, embedder: FakeEmbedder, worker: Studio
) -> None:
    base = await make_base(admin, embedder)
    await make_base(admin, embedder, "secrets")
    await settled(admin, "handbook", "pets.md", ANIMALS)
    await settled(admin, "secrets", "hidden.md", b"a cat of the secret kind")
    assistant = await world.assistant(
        admin,
        use("knowledge_search", {"query": "cat"}),
        say("done"),
        tools=["knowledge_search"],
        knowledge_base_ids=[base["id"]],
    )

    streamed = await admin.chat(assistant.schema)

    said = json.dumps([frame.data for frame in streamed.frames])
    assert "pets.md" in said
    assert "hidden.md" not in said
    detail = await admin.ask(200, "GET", f"/agents/{assistant.agent}")
    assert detail["knowledge_base_ids"] == ["handbook"]


async def test_links_are_kept_told_and_guarded(admin: Caller, world: World, embedder: FakeEmbedder) -> None:
    base = await make_base(admin, embedder)
    agent = (await world.assistant(admin)).agent

    assert await admin.ask(200, "POST", f"/knowledge-bases/handbook/agents/{agent}") == {"status": "linked"}
    assert (await admin.ask(200, "GET", "/knowledge-bases/handbook"))["linked_agents"] == [agent]
    assert "unlink" in (await admin.ask(409, "DELETE", "/knowledge-bases/handbook"))["message"]
    capability = {"type": "knowledge", "config": {"top_k": 3}}
    await admin.ask(201, "POST", f"/agents/{agent}/capabilities", capability)
    assert (await admin.ask(200, "GET", f"/agents/{agent}"))["has_knowledge"] is True
    status = await admin.ask(200, "GET", f"/agents/{agent}/knowledge/status")
    assert status == {"agent_name": agent, "total_files": 0, "indexed_files": 0, "status": "empty"}
    assert (await upload(admin, "", "a.md", ANIMALS, f"/agents/{agent}/knowledge/files")).status_code == 201
    model = base["embedding_model"]
    assert "handbook" in (await admin.ask(409, "DELETE", f"/models/{model}"))["message"]
    typo = await admin.ask(400, "PATCH", f"/agents/{agent}", {"knowledge_base_ids": ["handbok"]})
    assert "did you mean 'handbook'?" in json.dumps(typo)
    unlinked = await admin.ask(200, "DELETE", f"/knowledge-bases/handbook/agents/{agent}")
    assert unlinked == {"status": "unlinked"}
    assert await admin.ask(200, "DELETE", "/knowledge-bases/handbook") == {"status": "deleted"}
    await admin.ask(404, "GET", "/knowledge-bases/handbook")


async def test_what_is_no_file_is_refused_with_a_reason(admin: Caller, embedder: FakeEmbedder) -> None:
    await make_base(admin, embedder)

    for name, content, status in (
        ("virus.exe", b"MZ", 400),
        ("empty.txt", b"", 400),
        ("noending", b"text", 400),
        ("huge.txt", b"x" * (50 * 1024 * 1024 + 1), 413),
    ):
        assert (await upload(admin, "handbook", name, content)).status_code == status, name
    assert (await upload(admin, "nowhere", "pets.md", ANIMALS)).status_code == 404
    plain = await admin.http.post("/api/v1/knowledge-bases/handbook/files", content=b"text")
    assert plain.status_code == 400
    assert await admin.ask(200, "GET", "/knowledge-bases/handbook/files") == []


async def test_another_tenant_sees_nothing(
    admin: Caller, world: World, embedder: FakeEmbedder, worker: Studio, database: Database
) -> None:
    await make_base(admin, embedder)
    file = await settled(admin, "handbook", "pets.md", ANIMALS)
    other_id = str(uuid.uuid4())
    async with database.any_tenant() as connection:
        await connection.execute("insert into tenants (id) values ($1)", other_id)
    other = world.caller(other_id)
    await make_base(other, embedder)

    assert await find(other, "handbook", "cat") == []
    await other.ask(404, "GET", f"/knowledge-bases/handbook/files/{file['id']}")
    async with database.tenant(other_id) as connection:
        for table in ("files", "file_parts", "chunks", "vectors"):
            assert await connection.fetchval(f"select count(*) from knowledge_{table}") == 0, table
    await other.http.aclose()


async def test_deleting_takes_passages_and_vectors_along(
    admin: Caller, embedder: FakeEmbedder, worker: Studio, database: Database
) -> None:
    await make_base(admin, embedder)
    await settled(admin, "handbook", "pets.md", ANIMALS)

    await admin.ask(200, "DELETE", "/knowledge-bases/handbook")

    async with database.tenant(admin.principal.tenant_id) as connection:
        for table in ("files", "file_parts", "chunks", "vectors"):
            assert await connection.fetchval(f"select count(*) from knowledge_{table}") == 0, table


async def test_what_is_embedded_for_files_and_searches_is_in_the_usage(
    admin: Caller, embedder: FakeEmbedder, worker: Studio
) -> None:
    await make_base(admin, embedder)
    await settled(admin, "handbook", "a.txt", b"cats like rain")
    await find(admin, "handbook", "cats")
    await find(admin, "handbook", "rain")
    [used] = (await admin.ask(200, "GET", "/usage"))["data"]
    # One request for the file's only passage, one for each search; the fake tells one token for each.
    assert (used["requests"], used["input_tokens"], used["output_tokens"]) == (3, 3, 0)
