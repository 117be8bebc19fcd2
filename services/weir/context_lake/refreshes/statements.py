"""The two statements that an acceleration may have: what is read of a dataset, and what is not kept of it."""

import re
from typing import Any

from weir.context_lake import names

MOST_TOKENS = 2_000


def select_fault(text: str, name: str) -> str | None:
    """Why a text is no plain SELECT from this one dataset. Parses: not for the event loop."""
    from sqlglot import exp  # noqa: PLC0415

    root = _parsed(text)
    if not isinstance(root, exp.Select):
        return "must be one SELECT"
    if not _names_only(root, name):
        return f"must select from {name} and nothing else"
    parts = ("joins", "with_", "with", "group", "having", "laterals", "windows", "distinct", "qualify")
    if any(root.args.get(part) for part in parts) or root.find(exp.AggFunc, exp.Subquery, exp.Exists):
        return "must neither join, group nor nest"
    return None


def delete_fault(text: str, name: str) -> str | None:
    """Why a text is no DELETE of some rows of this one dataset. Parses: not for the event loop."""
    from sqlglot import exp  # noqa: PLC0415

    root = _parsed(text)
    if not isinstance(root, exp.Delete) or not root.args.get("where"):
        return f"must read DELETE FROM {name} WHERE …"  # noqa: S608 - a sentence
    if not _names_only(root, name):
        return f"must delete from {name} and look at nothing else"  # noqa: S608 - a sentence
    if "--" in text or "/*" in text:
        return "must hold no comment"
    if root.find(exp.Subquery, exp.Select) or len(re.findall(r"(?i)\swhere\s", text)) != 1:
        return "must have one WHERE, and nest nothing"
    return None


def _names_only(root: Any, name: str) -> bool:
    from sqlglot import exp  # noqa: PLC0415

    tables = list(root.find_all(exp.Table))
    named = [".".join(part.name for part in table.parts) for table in tables]
    return len(named) == 1 and names.key_of(named[0]) == names.key_of(name)


def _parsed(text: str) -> Any:
    """The one statement, or None."""
    import sqlglot  # noqa: PLC0415 - half a second, and most processes never need it
    from sqlglot.errors import SqlglotError  # noqa: PLC0415

    try:
        if len(sqlglot.tokenize(text)) > MOST_TOKENS:
            return None
        found = [statement for statement in sqlglot.parse(text) if statement is not None]
    except (SqlglotError, RecursionError):
        return None
    return found[0] if len(found) == 1 else None
