"""What datasets and views may be called: SQL identifiers, one namespace, unique whatever their letter case."""

import re

_PART = r"[A-Za-z_][A-Za-z0-9_]{0,62}"
_NAME = re.compile(rf"{_PART}(?:\.{_PART})?")
_RESERVED = frozenset({"count", "false", "null", "end-exec", "lateral", "table", "unnest", "true"})
_RESERVED_SCHEMAS = frozenset({"information_schema", "runtime", "spice", "system"})
_DEFAULT_SCHEMA = "public."


def normalised(name: str) -> str:
    """The name without the default schema, which every name has anyway."""
    if name.lower().startswith(_DEFAULT_SCHEMA):
        return name[len(_DEFAULT_SCHEMA) :]
    return name


def fault_of(name: str) -> str | None:
    """Why this cannot be a name, or None."""
    if not _NAME.fullmatch(name):
        return (
            "name must be letters, digits and underscores, not beginning with a digit, at most 63; "
            "optionally as schema.table"
        )
    schema, dot, table = name.rpartition(".")
    if table.lower() in _RESERVED:
        return f"name must not be the reserved word {table}"
    if dot and schema.lower() in _RESERVED_SCHEMAS | {"public"}:
        return f"name must not lie in the reserved schema {schema}"
    return None


def key_of(name: str) -> str:
    """What two names that are one name have in common."""
    return normalised(name).lower()


def answers_to(name: str, asked: str) -> bool:
    """Whether a statement that asks for this finds the name: exactly, or in lower case throughout."""
    own = normalised(name)
    return normalised(asked) in (own, own.lower())
