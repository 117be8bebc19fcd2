"""The scopes a credential can hold: the ten of the engine's reference, two for schemas, four for the lake."""

from collections.abc import Iterable

ADMIN = "admin"

ENGINE_SCOPES = (
    "chat",
    "tasks",
    "agents:read",
    "agents:write",
    "models:read",
    "models:write",
    "mcp:read",
    "mcp:write",
    "config",
    "schemas:read",
    "schemas:write",
    ADMIN,
)
LAKE_SCOPES = ("lake:read", "lake:query", "lake:write", "lake:admin")
ALL_SCOPES = frozenset(ENGINE_SCOPES + LAKE_SCOPES)


def unknown_scopes(scopes: Iterable[str]) -> list[str]:
    """The names that are no scope, in the order given."""
    return [scope for scope in scopes if scope not in ALL_SCOPES]


def is_lake_only(scopes: Iterable[str]) -> bool:
    """Whether a token of these scopes is a lake key (`rbk_`); every other token is `bb_`."""
    return all(scope in LAKE_SCOPES for scope in scopes)
