"""`cosine_similarity(a, b)`: said to the engine as what it has, one minus its cosine distance.

A function of our own would be called through Python, which has no kernel for it: that took fifteen times as long
(docs/decisions/0021). The engine's is null where a vector is null, holds a null or is all zeros, and refuses
vectors of different lengths.
"""

import pyarrow as pa

from weir.lake_runtime.tokens import located

SIMILARITY, DISTANCE = "cosine_similarity", "cosine_distance"
_OPENING = f"(1 - {DISTANCE}"
# The engine names a column that nobody has named by its expression.
_ENGINES_NAME = f"Int64(1) - {DISTANCE}("
# After these a name before parentheses is no call: `with f(a) as …`, `from t as f(a)`.
_DEFINES = frozenset({"with", "recursive", "as", "."})


def for_the_engine(sql: str) -> str:
    """The statement as the engine can plan it; one that does not call the function is left as it is."""
    if SIMILARITY not in sql.lower():
        return sql
    pieces: list[str] = []
    at = 0
    for begin, end, text in sorted(_changes(sql)):
        pieces += (sql[at:begin], text)
        at = end
    return "".join(pieces) + sql[at:]


def as_written(name: str) -> str:
    """A column's name as the statement has it."""
    return name.replace(_ENGINES_NAME, f"{SIMILARITY}(")


def with_names_as_written(schema: pa.Schema) -> pa.Schema:
    """The columns of an answer under the names that the statement has for them."""
    if not any(_ENGINES_NAME in name for name in schema.names):
        return schema
    return pa.schema([field.with_name(as_written(field.name)) for field in schema])


def _changes(sql: str) -> list[tuple[int, int, str]]:
    """What takes the place of which part of the text; a call whose parentheses never close keeps its own."""
    found: list[tuple[int, int, str]] = []
    # A level of parentheses each: where the function's name stands, if it is a call of it.
    levels: list[tuple[int, int] | None] = []
    earlier = name = ""
    span = (0, 0)
    for token, begin, end in located(sql):
        if token.kind == "open":
            is_call = name == SIMILARITY and earlier not in _DEFINES
            levels.append(span if is_call and token.text == "(" else None)
        elif token.kind == "close" and levels and (called := levels.pop()) is not None:
            found += [(*called, _OPENING), (end, end, ")")]
        earlier, name, span = name, token.text, (begin, end)
    return found
