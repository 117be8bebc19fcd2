"""What a view's statement is: one query, and the relations that it names. Reads the text and nothing else.

The parser is a Python program of its own size, so it is loaded with the first statement, and a statement is
counted before it is parsed: neither its length nor its nesting may cost the desk more than a moment.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    from sqlglot import exp

MAX_BYTES = 256 * 1024
MAX_TOKENS = 10_000

_QUERY_BEGINS = frozenset({"SELECT", "WITH", "VALUES", "FROM", "TABLE", "("})
_RELATION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
# They make rows out of their arguments; every other table function may read something.
_HARMLESS_FUNCTIONS = frozenset({"generate_series", "range"})


class StatementFault(Exception):
    """Why a text is not the statement of a view."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Statement(Struct, frozen=True):
    text: str
    relations: tuple[str, ...]
    """What it reads, each once, in the order of the text; as written, e.g. `shop.Orders`."""
    asked: frozenset[str]
    """The same as the engine will ask for them: in lower case but for what is quoted."""
    unnamed: tuple[int, ...]
    """Columns of its answer, counted from 1, that have no name of their own."""
    has_star: bool = False
    """Whether its answer has more columns than it lists."""


def read_statement(text: str) -> Statement:
    """Raises StatementFault. Takes up to a second of CPU: not for the event loop."""
    import sqlglot  # noqa: PLC0415 - half a second, and most processes never need it
    from sqlglot.errors import ParseError, TokenError  # noqa: PLC0415

    if len(text.encode()) > MAX_BYTES:
        raise StatementFault(f"sql must be at most {MAX_BYTES} bytes", "limit_exceeded")
    try:
        text = _without_semicolon(text)
        tokens = sqlglot.tokenize(text)
        _check_tokens([token.text for token in tokens])
        return _described(text, sqlglot.parse_one(text))
    except ParseError as fault:
        first = fault.errors[0] if fault.errors else {}
        place = f" at line {first['line']}, column {first['col']}" if first.get("line") else ""
        reason = _sentence(str(first.get("description") or fault))
        raise StatementFault(f"sql cannot be parsed: {reason}{place}", "sql_error") from None
    except TokenError as fault:
        raise StatementFault(f"sql cannot be parsed: {_sentence(str(fault))}", "sql_error") from None
    except RecursionError:
        raise StatementFault("sql is nested too deeply", "query_too_complex") from None


def _check_tokens(words: list[str]) -> None:
    if not words:
        raise StatementFault("sql is required", "required")
    if len(words) > MAX_TOKENS:
        message = f"sql must have at most {MAX_TOKENS} words and signs"
        raise StatementFault(message, "query_too_complex")
    if words[0].upper() not in _QUERY_BEGINS:
        raise StatementFault(f"sql must be a query; this is {words[0][:20].upper()}", "not_a_query")


def _without_semicolon(text: str) -> str:
    trimmed = text.rstrip()
    return trimmed[:-1] if trimmed.endswith(";") else text


def _described(text: str, root: Any) -> Statement:
    from sqlglot import exp  # noqa: PLC0415

    if isinstance(root, exp.Block):
        raise StatementFault("sql must be one statement", "multiple_statements")
    writes = next(
        root.find_all(exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.DDL, exp.Command, exp.Into), None
    )
    if writes is not None or not isinstance(root, (exp.Query, exp.Values)):
        raise StatementFault("sql must be a query, and nothing in it may write", "not_a_query")
    relations: dict[str, None] = {}
    asked: set[str] = set()
    for table in root.find_all(exp.Table, bfs=False):
        if not _is_cte(table) and (name := _name_of(table)):
            relations.setdefault(name)
            asked.add(".".join(_folded(part) for part in table.parts))
    columns = _columns(root)
    _check_names(columns)
    unnamed = tuple(n for n, column in enumerate(columns, 1) if not (column.output_name or column.is_star))
    return Statement(
        text, tuple(relations), frozenset(asked), unnamed, any(column.is_star for column in columns)
    )


def _name_of(table: exp.Table) -> str:
    """The relation's name, or '' for rows that a function makes. Raises StatementFault."""
    from sqlglot import exp  # noqa: PLC0415

    if not isinstance(table.this, exp.Identifier):
        name = (table.this.name if isinstance(table.this, exp.Anonymous) else table.this.key).lower()
        if name in _HARMLESS_FUNCTIONS or isinstance(table.this, exp.GenerateSeries):
            return ""
        message = f"sql must not read from the table function {name[:64]}"
        raise StatementFault(message, "table_function_not_allowed")
    parts = [part.name for part in table.parts]
    if len(parts) > 2 or not all(_RELATION.fullmatch(part) for part in parts):
        shown = ".".join(parts)[:64]
        raise StatementFault(
            f"sql must read from datasets and views, not from '{shown}'", "relation_not_allowed"
        )
    return ".".join(parts)


def _is_cte(table: exp.Table) -> bool:
    """Whether the name is one that a WITH around it has given; such a name hides a dataset of that name."""
    from sqlglot import exp  # noqa: PLC0415

    if table.args.get("db") or not isinstance(table.this, exp.Identifier):
        return False
    name = _folded(table.this)
    inner: exp.Expr | None = None
    around: exp.Expr | None = table
    within: exp.CTE | None = None
    while around is not None:
        clause = around.args.get("with_")
        if clause is not None and clause is not inner and name in _names_given(clause, None):
            return True
        if isinstance(around, exp.With) and name in _names_given(around, within):
            return True
        if isinstance(around, exp.CTE):
            within = around
        inner, around = around, around.parent
    return False


def _names_given(clause: Any, within: Any) -> set[str]:
    """The names of a WITH that hold for what follows it, or for the body of one of its own."""
    from sqlglot import exp  # noqa: PLC0415

    names: set[str] = set()
    for cte in clause.expressions:
        if cte is within:
            # A body sees what comes before it, and itself only where it may recur.
            if clause.args.get("recursive") and isinstance(cte.this, exp.SetOperation):
                names.add(_folded(cte.args["alias"].this))
            break
        names.add(_folded(cte.args["alias"].this))
    return names


def _folded(identifier: Any) -> str:
    return identifier.name if identifier.quoted else identifier.name.lower()


def _columns(root: Any) -> list[Any]:
    """What the answer's columns are written as; the first SELECT of a set operation names them."""
    from sqlglot import exp  # noqa: PLC0415

    while isinstance(root, (exp.SetOperation, exp.Subquery)):
        root = root.this
    return list(root.expressions) if isinstance(root, exp.Select) else []


def _check_names(columns: list[Any]) -> None:
    """Raises StatementFault for names that nobody could ask for: empty ones, and one given twice."""
    from sqlglot import exp  # noqa: PLC0415

    names: set[str] = set()
    for number, column in enumerate(columns, 1):
        if column.is_star or not isinstance(column, (exp.Alias, exp.Column)):
            continue
        identifier = column.args["alias"] if isinstance(column, exp.Alias) else column.this
        name = _folded(identifier)
        if not name:
            raise StatementFault(f"column {number} of sql has an empty name", "invalid_column")
        if name in names:
            raise StatementFault(f"two columns of sql are called '{name}'", "duplicate_column")
        names.add(name)


def _sentence(text: str) -> str:
    """The parser's words without its line breaks and its full stop."""
    return " ".join(text.split())[:200].rstrip(".")
