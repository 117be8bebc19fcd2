"""The columns that a dataset has embedded when its rows are kept: `<column>_embedding` beside `<column>`.

A load reads what it has kept before only for its vectors: a text that had one keeps it, and is not paid for again.
"""

import hashlib
from collections.abc import Iterable

import pyarrow as pa

from weir.lake_runtime.embed_function import FLOAT32_BYTES, VECTOR, vector_array
from weir.lake_runtime.embedder import Embedder
from weir.lake_runtime.faults import SourceError
from weir.lake_runtime.settings import MEBIBYTE
from weir.lake_runtime.wire import EmbeddedColumn

SUFFIX = "_embedding"
# Of vectors that an earlier load has made; what is beyond is embedded again.
REMEMBERED_BYTES = 128 * MEBIBYTE
_OVERHEAD_BYTES = 120


class EmbeddedColumns:
    """What one load embeds. Its calls block, for a load has a thread of its own."""

    def __init__(
        self,
        dataset: str,
        columns: Iterable[EmbeddedColumn],
        embedder: Embedder,
        *,
        most_bytes: int = REMEMBERED_BYTES,
    ) -> None:
        self._dataset = dataset
        self._columns = list(columns)
        self._embedder = embedder
        self._most_bytes = most_bytes
        self._size = 0
        self._known: dict[tuple[str, bytes], bytes] = {}

    def schema(self, source: pa.Schema) -> pa.Schema:
        """The columns of the kept rows. Raises SourceError for a column that is not there or holds no texts."""
        fields = list(source)
        for column in self._columns:
            if column.name not in source.names:
                raise SourceError(self._dataset, f"there is no column {column.name!r} to embed")
            found = source.field(column.name).type
            if not (
                pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found)
            ):
                raise SourceError(
                    self._dataset, f"the column {column.name!r} holds {found}; only texts are embedded"
                )
            if column.name + SUFFIX in source.names:
                raise SourceError(self._dataset, f"the source has a column {column.name + SUFFIX!r} already")
            fields.append(pa.field(column.name + SUFFIX, VECTOR))
        return pa.schema(fields, metadata=source.metadata)

    def remember(self, kept: Iterable[pa.RecordBatch]) -> None:
        """Take over the vectors of rows that were kept before with the same models, as many as there is room for."""
        for batch in kept:
            for column in self._columns:
                if not {column.name, column.name + SUFFIX} <= set(batch.schema.names):
                    continue
                texts = batch.column(column.name).to_pylist()
                vectors = batch.column(column.name + SUFFIX).cast(VECTOR)
                for text, vector in zip(texts, _bytes_of(vectors), strict=True):
                    if (
                        text is not None
                        and vector is not None
                        and not self._remember(column.model, text, vector)
                    ):
                        return

    def with_embeddings(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows with their vectors; null where the text is null or empty. Raises EmbeddingFailed."""
        for column in self._columns:
            vectors = self._vectors(column.model, batch.column(column.name).to_pylist())
            batch = batch.append_column(pa.field(column.name + SUFFIX, VECTOR), vectors)
        return batch

    def _vectors(self, model: str, texts: list[str | None]) -> pa.Array:
        found: dict[str, bytes] = {}
        missing: dict[str, None] = {}
        for text in texts:
            if not text or not text.strip() or text in found:
                continue
            if (known := self._known.get((model, _digest(text)))) is not None:
                found[text] = known
            else:
                missing[text] = None
        asked = self._embedder.embed_now(model, list(missing)) if missing else {}
        for (_, text), vector in asked.items():
            found[text] = vector
            self._remember(model, text, vector)
        return vector_array([found.get(text) if text else None for text in texts])

    def _remember(self, model: str, text: str, vector: bytes) -> bool:
        """False when there is no room for more."""
        key = (model, _digest(text))
        if key not in self._known:
            self._size += len(vector) + _OVERHEAD_BYTES
            if self._size > self._most_bytes:
                return False
            self._known[key] = vector
        return True


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _bytes_of(vectors: pa.Array) -> list[bytes | None]:
    """Each vector's float32 numbers as bytes; None for null and for what holds a null."""
    numbers = vectors.values
    content = memoryview(numbers.buffers()[1]) if len(numbers) else memoryview(b"")
    first = numbers.offset
    offsets = vectors.offsets.to_pylist()
    found: list[bytes | None] = []
    for index, is_there in enumerate(vectors.is_valid().to_pylist()):
        begin, end = offsets[index], offsets[index + 1]
        if not is_there or begin == end or (numbers.null_count and numbers[begin:end].null_count):
            found.append(None)
        else:
            found.append(bytes(content[(first + begin) * FLOAT32_BYTES : (first + end) * FLOAT32_BYTES]))
    return found
