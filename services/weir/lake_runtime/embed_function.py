"""`embed(text)` and `embed_with(text, model)` as functions of the engine.

Where the engine folds constants it plans, in a thread that must not wait: the texts are noted in the statement's
scope, and whoever plans has them embedded and plans again. Where it runs over a column, in a thread of its own, the
function asks and waits.
"""

import pyarrow as pa
from datafusion import SessionContext, udf

from weir.lake_runtime.catalog import Scope, current_scope
from weir.lake_runtime.embedder import FLOAT32_BYTES, Embedder, Vectors
from weir.lake_runtime.faults import EmbeddingFailed, carried

VECTOR = pa.list_(pa.float32())


class TextsWanted(Exception):
    """A statement cannot be planned before some of its texts are embedded; its scope says which."""


def register_embed(session: SessionContext, embedder: Embedder) -> None:
    """Make both functions known to a session. An empty text, as a null, has no vector."""

    def embed(texts: pa.Array) -> pa.Array:
        return _embed(embedder, [(text, "") for text in texts.to_pylist()])

    def embed_with(texts: pa.Array, models: pa.Array) -> pa.Array:
        return _embed(embedder, list(zip(texts.to_pylist(), models.to_pylist(), strict=True)))

    for function, arguments in ((embed, [pa.string()]), (embed_with, [pa.string(), pa.string()])):
        session.register_udf(udf(function, arguments, VECTOR, "stable", function.__name__))


def vector_array(vectors: "list[bytes | None]") -> pa.Array:
    """Vectors as a column of lists of float32."""
    offsets, size = [0], 0
    for vector in vectors:
        size += 0 if vector is None else len(vector) // FLOAT32_BYTES
        offsets.append(size)
    content = b"".join(vector for vector in vectors if vector is not None)
    numbers = pa.Array.from_buffers(pa.float32(), size, [None, pa.py_buffer(content)])
    mask = pa.array([vector is None for vector in vectors], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), numbers, mask=mask)


def _embed(embedder: Embedder, rows: list[tuple[str | None, str | None]]) -> pa.Array:
    """The vectors of texts, each by the model beside it."""
    wanted: dict[str, dict[str, None]] = {}
    for text, model in rows:
        if text and model is not None and text.strip():
            wanted.setdefault(model, {})[text] = None
    found: dict[tuple[str | None, str | None], bytes] = {}
    for model, texts in wanted.items():
        found |= _vectors(embedder, model, list(texts))
    _require_all(wanted)
    return vector_array([found.get((model, text)) for text, model in rows])


def _require_all(wanted: dict[str, dict[str, None]]) -> None:
    """Raises TextsWanted when something of it is noted as missing: all of it, so that one round is enough."""
    scope = current_scope()
    if scope is not None and any(model in scope.wanted_texts for model in wanted):
        raise TextsWanted


def _vectors(embedder: Embedder, model: str, texts: list[str]) -> Vectors:
    """Those of them that can be had here."""
    scope = current_scope()
    found: Vectors = embedder.cache.find(model, texts)
    if scope is not None:
        found |= {
            (model, text): scope.vectors[model, text] for text in texts if (model, text) in scope.vectors
        }
        # Another model may stand behind the same name tomorrow: neither rows nor plan may be kept.
        scope.is_live = True
    missing = [text for text in texts if (model, text) not in found]
    if scope is not None and missing:
        scope.wanted_texts.setdefault(model, set()).update(missing)
    if scope is not None or not missing:
        return found
    try:
        return found | embedder.embed_now(model, missing)
    except EmbeddingFailed as fault:
        raise carried(fault) from None


async def embed_wanted(embedder: Embedder, scope: Scope, vectors: Vectors) -> None:
    """Embeds what a scope could not be planned without; the next scope has the vectors. Raises EmbeddingFailed."""
    for model, texts in scope.wanted_texts.items():
        vectors |= await embedder.embed(model, sorted(texts))
