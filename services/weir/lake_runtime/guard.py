"""What a statement may cost before the engine sees it: size, operators, joins, nesting, CTE expansion.

The engine ends its process on some statements of a few kilobytes (ten thousand `+` terms overflow its
stack; a doubling CTE takes gigabytes in planning, outside its memory pool), so they are refused by a
count of tokens that costs a fraction of a millisecond.
"""

from collections.abc import Mapping
from itertools import pairwise

from msgspec import Struct

from weir.lake_runtime.faults import Fault, StatementNotAllowed
from weir.lake_runtime.tokens import Token, scan

MAX_TEXT_BYTES = 256 * 1024
MAX_OPERATORS = 1_000
MAX_RELATIONS = 200
MAX_DEPTH = 100
MAX_EXPANSION = 10_000

_OPERATOR_WORDS = frozenset(
    {"and", "or", "like", "ilike", "similar", "between", "is", "in", "at", "xor", "div"}
)
_SET_WORDS = frozenset({"join", "union", "intersect", "except", "apply", "minus"})
_ENDS_FROM = frozenset({
    "where", "group", "having", "order", "limit", "offset", "fetch", "window", "qualify", "union",
    "intersect", "except", "select", "values",
})  # fmt: skip
_STATEMENTS = frozenset({
    "alter", "analyze", "attach", "begin", "cache", "call", "close", "comment", "commit", "copy", "create",
    "deallocate", "declare", "delete", "detach", "discard", "drop", "end", "execute", "export", "fetch",
    "flush", "grant", "if", "import", "insert", "install", "kill", "listen", "load", "lock", "merge", "msck",
    "notify", "optimize", "pragma", "prepare", "print", "raise", "refresh", "release", "rename", "replace",
    "reset", "return", "revoke", "rollback", "savepoint", "set", "start", "truncate", "uncache", "unlisten",
    "unload", "unlock", "update", "upsert", "use", "vacuum", "while",
})  # fmt: skip


# What says something else each time it is asked.
_VOLATILE = frozenset({
    "now", "random", "rand", "uuid", "today", "current_timestamp", "current_date", "current_time",
    "localtime", "localtimestamp",
    # As the tenant's model has them, which may be another one tomorrow.
    "embed", "embed_with",
})  # fmt: skip

# What makes one row of many; a column of such a name costs speed, no more.
_ADDS_UP = frozenset({
    "group", "distinct", "over", "count", "sum", "avg", "mean", "min", "max", "median", "stddev", "var",
    "array_agg", "string_agg", "first_value", "last_value", "approx_distinct",
})  # fmt: skip


class QueryTooLarge(Fault):
    status, code = 400, "query_too_large"


class QueryTooComplex(Fault):
    status, code = 400, "query_too_complex"


class Complexity(Struct, kw_only=True):
    operators: int = 0
    relations: int = 0
    depth: int = 0
    expansion: int = 0
    """Relations that planning unfolds to, with every CTE and view counted as often as it is named."""
    is_of_one_table: bool = False
    """Whether it is one SELECT that names one relation at most, and that one no view."""
    looks_for_rows: bool = False
    """Whether it is of one table and only picks rows: nothing is grouped or added up."""
    is_volatile: bool = False
    """Whether a word in it may be a function that says something else each time."""


def check(sql: str, *, views: Mapping[str, int] | None = None) -> Complexity:
    """Refuse a statement that the engine should not be shown; `views` is the expansion of each view.

    Raises `QueryTooLarge`, `StatementNotAllowed` or `QueryTooComplex`, in that order.
    """
    size = len(sql.encode("utf-8", "surrogatepass"))
    if size > MAX_TEXT_BYTES:
        raise QueryTooLarge(f"The statement has {size} bytes; the limit is {MAX_TEXT_BYTES}.")
    tokens = list(scan(sql))
    _require_query(tokens)
    complexity = measure(tokens, views or {})
    selects = sum(token == ("word", "select") for token in tokens)
    complexity.is_of_one_table = (selects, complexity.relations, complexity.expansion) == (1, 0, 0)
    words = {token.text for token in tokens if token.kind == "word"}
    complexity.looks_for_rows = complexity.is_of_one_table and words.isdisjoint(_ADDS_UP)
    complexity.is_volatile = not words.isdisjoint(_VOLATILE)
    _require_below("operators", complexity.operators, MAX_OPERATORS)
    _require_below("joins, set operations and CTE references", complexity.relations, MAX_RELATIONS)
    _require_below("levels of nesting", complexity.depth, MAX_DEPTH)
    _require_below("relations after its CTEs and views are unfolded", complexity.expansion, MAX_EXPANSION)
    return complexity


def placeholders(sql: str) -> frozenset[str]:
    """The names of a statement's placeholders in lower case: `1` of `$1`, `day` of `$day`."""
    tokens = list(scan(sql))
    pairs = pairwise(tokens)
    return frozenset(name.text.lower() for sign, name in pairs if sign == ("other", "$"))


def _require_query(tokens: list[Token]) -> None:
    """Name a forbidden statement before the engine finds something else to say about it."""
    words = (t.text for t in tokens if t.kind == "word")
    first = next(words, "")
    while first in {"explain", "verbose", "analyze"} and (following := next(words, "")):
        first = following
    if first in _STATEMENTS:
        raise StatementNotAllowed(f"Only queries are allowed; this is {first.upper()}.")


def _require_below(what: str, count: int, limit: int) -> None:
    if count > limit:
        raise QueryTooComplex(f"The statement has {count} {what}; the limit is {limit}.")


def measure(tokens: list[Token], views: Mapping[str, int]) -> Complexity:
    """Count a statement's tokens; see `Complexity`."""
    counter = _Counter(views)
    for index, token in enumerate(tokens):
        following = tokens[index + 1] if index + 1 < len(tokens) else Token("other", ";")
        counter.take(token, following)
    return counter.finish()


class _Scope:
    """One level of parentheses: whether it is in a FROM list, and which CTE body it is."""

    def __init__(self, cte: str | None = None) -> None:
        self.in_from = False
        self.in_with = False
        self.cte = cte


class _Counter:
    def __init__(self, views: Mapping[str, int]) -> None:
        self.total = Complexity()
        self.weights: dict[str, int] = {}
        for name, weight in views.items():
            # `sales.daily` is met as `daily` after a dot.
            last = name.rpartition(".")[2].lower()
            self.weights[last] = max(weight, self.weights.get(last, 0))
        self.ctes: set[str] = set()
        self.bodies: dict[str, int] = {}
        self.scopes = [_Scope()]
        self.earlier = self.previous = Token("other", ";")
        self.pending_cte: str | None = None
        self.case_depth = 0

    def take(self, token: Token, following: Token) -> None:
        scope = self.scopes[-1]
        if token.kind == "open":
            self._open(token, scope)
        elif token.kind == "close":
            self._close()
        elif token.kind == "operator":
            # `a->>'x'` is one operator, `+-+-` is four: signs are counted one by one.
            self.total.operators += len(token.text)
        elif token.kind == "word":
            self._word(token, following, scope)
        elif token.kind == "quoted":
            self._name(token, following, scope)
        elif token.text == "," and scope.in_from:
            self.total.relations += 1
        self.earlier, self.previous = self.previous, token

    def _open(self, token: Token, scope: _Scope) -> None:
        self.total.operators += token.text == "["
        opens_body = scope.in_with and self.pending_cte is not None and self.previous.text in _BODY_FOLLOWS
        self.scopes.append(_Scope(self.pending_cte if opens_body else None))
        if opens_body:
            self.pending_cte = None
        # `from (a join b)`: the list goes on inside these parentheses, not inside a function's.
        self.scopes[-1].in_from = scope.in_from and self.previous.text in _TABLE_PRECEDES
        self.total.depth = max(self.total.depth, len(self.scopes) - 1 + self.case_depth)

    def _close(self) -> None:
        if len(self.scopes) == 1:
            return
        closed = self.scopes.pop()
        if closed.cte is not None:
            # An inner WITH may use a name again: keep the dearer of the two.
            weight = self.bodies.pop(closed.cte, 0) + 1
            self.weights[closed.cte] = max(weight, self.weights.get(closed.cte, 0))
            self.ctes.add(closed.cte)

    def _word(self, token: Token, following: Token, scope: _Scope) -> None:
        word = token.text
        if word in _OPERATOR_WORDS:
            self.total.operators += 1
        elif word in _SET_WORDS:
            self.total.relations += 1
        elif word == "case":
            self.case_depth += 1
            self.total.depth = max(self.total.depth, len(self.scopes) - 1 + self.case_depth)
        elif word == "end":
            self.case_depth = max(0, self.case_depth - 1)
        if word == "from":
            is_comparison = self.previous.text == "distinct" and self.earlier.text in {"is", "not"}
            scope.in_from = scope.in_from or not is_comparison
        elif word == "with":
            scope.in_with, scope.in_from = True, False
        elif word in _ENDS_FROM:
            scope.in_from = False
            scope.in_with = scope.in_with and word != "select"
        else:
            self._name(token, following, scope)

    def _name(self, token: Token, following: Token, scope: _Scope) -> None:
        """A name in a FROM list is a reference; one after WITH or a comma of it begins a CTE.

        A CTE's own columns may carry its name and are counted too: that errs on the safe side.
        """
        name = token.text.lower()
        if scope.in_with and not scope.in_from and self.previous.text in {"with", ",", "recursive"}:
            if name != "recursive":
                self.pending_cte = name
        elif scope.in_from and following.text != "." and name in self.weights:
            self.total.relations += name in self.ctes
            self._charge(self.weights[name])

    def _charge(self, weight: int) -> None:
        """Add to the innermost CTE body that is open, or to the statement itself."""
        for scope in reversed(self.scopes):
            if scope.cte is not None:
                self.bodies[scope.cte] = min(self.bodies.get(scope.cte, 0) + weight, _HUGE)
                return
        self.total.expansion = min(self.total.expansion + weight, _HUGE)

    def finish(self) -> Complexity:
        unused = max((self.weights[name] for name in self.ctes), default=0)
        self.total.expansion = max(self.total.expansion, unused)
        return self.total


_BODY_FOLLOWS = frozenset({"as", "materialized"})
_TABLE_PRECEDES = frozenset({"from", "join", ",", "(", "lateral"})
_HUGE = 1_000_000_000
