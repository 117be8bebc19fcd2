"""Configuration documents on the wire: what an import did, and what a reload found."""

from msgspec import Struct


class Counts(Struct, kw_only=True):
    created: int = 0
    updated: int = 0
    unchanged: int = 0


class Imported(Struct, frozen=True, kw_only=True):
    """`…_imported` counts what the document names; `changes` says what became of it."""

    status: str = "ok"
    imported: bool = True
    agents_imported: int
    models_imported: int
    tools_imported: int = 0
    schemas_imported: int
    mcp_servers_imported: int
    knowledge_bases_imported: int
    agents_count: int
    dry_run: bool
    changes: dict[str, Counts]
    warnings: list[str]


class Reloaded(Struct, frozen=True, kw_only=True):
    status: str = "ok"
    reloaded: bool = True
    agents_loaded: int
    models_loaded: int
    agents_count: int
