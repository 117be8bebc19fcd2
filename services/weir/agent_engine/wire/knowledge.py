"""Knowledge bases, their files, and what is found in them, on the wire."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

Description = Annotated[str, Meta(max_length=2000)]


class NewBase(Struct, frozen=True, kw_only=True):
    """The embedding model is named or given by its id."""

    name: str
    embedding_model_id: str | int
    description: Description | None = None


class BaseChange(Struct, frozen=True, kw_only=True):
    """Another embedding model has every file indexed anew."""

    name: str | UnsetType = UNSET
    embedding_model_id: str | int | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET


class BaseDetail(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    description: str
    embedding_model_id: str
    embedding_model: str
    file_count: int
    linked_agents: list[str]
    created_at: str
    updated_at: str


class FileDetail(Struct, frozen=True, kw_only=True):
    """`chunks_done` of `chunk_count` passages are embedded while the status is `indexing`."""

    id: str
    file_name: str
    file_type: str
    file_size: int
    status: str
    status_message: str | None
    chunk_count: int
    chunks_done: int
    created_at: str
    indexed_at: str | None


class Done(Struct, frozen=True, kw_only=True):
    """What was done, in a word."""

    status: str


class KnowledgeStatus(Struct, frozen=True, kw_only=True):
    """How far the first knowledge base of an agent is: empty, indexing or ready."""

    agent_name: str
    total_files: int
    indexed_files: int
    status: str


class Search(Struct, frozen=True, kw_only=True):
    query: Annotated[str, Meta(min_length=1, max_length=28_000)]
    limit: Annotated[int, Meta(ge=1, le=20)] = 5
    similarity_threshold: Annotated[float, Meta(ge=0, le=1)] | None = None


class Passage(Struct, frozen=True, kw_only=True):
    """`score` is the cosine similarity of the passage to the query."""

    file_id: str
    file_name: str
    knowledge_base: str
    position: int
    score: float
    text: str


class Found(Struct, frozen=True, kw_only=True):
    """Best first."""

    results: list[Passage]
