"""A single-pass scanner of SQL text: words and operators, without what strings and comments hide.

It follows the lexical rules of the engine's parser (generic dialect). Where it is not sure where a string
ends it does not skip it, so that a guard which counts tokens counts too many rather than too few.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

_TOKEN = re.compile(
    r"""
      (?P<space>\s+|--[^\n]*)
    | (?P<comment>/\*)
    | (?P<string>[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*')
    | (?P<dollar>\$\w*\$)
    | (?P<quoted>"(?:[^"]|"")*"|`[^`]*`)
    | (?P<raw>[rRbB](?=['"]))
    | (?P<number>\d[\w.]*)
    | (?P<word>\w[\w$@\#]*)
    | (?P<open>[(\[])
    | (?P<close>[)\]])
    | (?P<operator>[-+*/%|&<>=!~^:@?\#]+)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


class Token(NamedTuple):
    kind: str
    """word, quoted, number, string, open, close, operator or other."""
    text: str
    """Words in lower case; a quoted identifier without its quotes; a string empty."""


def scan(sql: str) -> Iterator[Token]:
    """The tokens of a statement, in order."""
    return (token for token, _, _ in located(sql))


def located(sql: str) -> Iterator[tuple[Token, int, int]]:
    """The tokens of a statement, in order, each with where it begins and ends."""
    at = 0
    while match := _TOKEN.match(sql, at):
        kind, text, begin, at = str(match.lastgroup), match[0], match.start(), match.end()
        if kind == "space":
            continue
        if kind == "comment":
            at = _after_comment(sql, at)
        elif kind == "dollar":
            closing = sql.find(text, at)
            at = at if closing < 0 else closing + len(text)
            yield Token("string", ""), begin, at
        elif kind == "raw":
            # A raw or byte string has rules of its own (backslashes, triple quotes): step over its first
            # quote only, and count what follows as code.
            at += 1
        elif kind == "string":
            yield Token("string", ""), begin, at
        elif kind == "quoted":
            yield Token("quoted", text[1:-1].replace('""', '"')), begin, at
        else:
            yield Token(kind, text.lower() if kind == "word" else text), begin, at


def _after_comment(sql: str, at: int) -> int:
    """The end of a block comment; they nest. One that never ends is left to the parser to refuse."""
    depth = 1
    while depth and (edge := _COMMENT_EDGE.search(sql, at)):
        depth += 1 if edge[0] == "/*" else -1
        at = edge.end()
    return len(sql) if depth else at
