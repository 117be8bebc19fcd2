"""A secret is compared in constant time, or looked up by its hash: how long a refusal takes tells nothing of it."""

import ast
import hashlib
import hmac
import re
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.promises import Promise, size

from weir.agent_engine.firing import _is_signed

ROOT = Path(__file__).parents[2]
SECRET = re.compile(r"(?:^|_)(?:secret|token|signature|password|credential|api_?key|mac|ticket)$", re.I)
# Compared with what is no secret: a mask that stands for one that is kept.
HARMLESS = {"token != mask(AUTH.upper())"}
# Columns by which a row is found for whoever shows a secret.
LOOKED_UP = re.compile(
    r"\b(?:where|and|or)\s+(?:\w+\.)?(\w*(?:token|secret|password|api_key)\w*)\s*=\s*\$", re.I
)
# The number of a lease's holder is the platform's own and shown to nobody.
BY_HASH = re.compile(r"hash|digest|: lease_token$")


def sources() -> Iterator[tuple[Path, str]]:
    for folder in ("services", "shared"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT), path.read_text()


def named(node: ast.expr) -> str:
    """The last name of what is compared, a call to `encode` or the like left out."""
    match node:
        case ast.Name(name) | ast.Attribute(attr=name) | ast.Subscript(slice=ast.Constant(value=str(name))):
            return name
        case ast.Call(func=ast.Attribute(value=value)):
            return named(value)
        case _:
            return ""


def comparisons(text: str) -> Iterator[str]:
    """Where what is called a secret is compared with `==` or the like, and with what is not written in the source."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Compare):
            continue
        sides = [node.left, *node.comparators]
        plain = all(isinstance(operator, (ast.Eq, ast.NotEq)) for operator in node.ops)
        known = any(isinstance(side, (ast.Constant, ast.JoinedStr, ast.Tuple)) for side in sides)
        if plain and not known and any(SECRET.search(named(side)) for side in sides):
            yield ast.unparse(node)


def refusal_ns(signature: str, body: bytes) -> int:
    began = time.perf_counter_ns()
    known = _is_signed("a secret of the sender's", {"x-webhook-signature": signature}, body)
    taken = time.perf_counter_ns() - began
    assert not known
    return taken


def timed(samples: int) -> str:
    """Signatures that are wrong from the first sign on and only in the last: told apart by no median of their times."""
    body = b"x" * 200
    right = "sha256=" + hmac.new(b"a secret of the sender's", body, hashlib.sha256).hexdigest()
    early, late = "S" + right[1:], right[:-1] + ("0" if right[-1] != "0" else "1")
    for _ in range(1000):
        refusal_ns(early, body)
    taken = {name: list[int]() for name in ("early", "late", "early again")}
    for _ in range(samples):
        for name, signature in (("early", early), ("late", late), ("early again", early)):
            taken[name].append(refusal_ns(signature, body))
    middle = {name: statistics.median(times) for name, times in taken.items()}
    # What the same signature differs from itself by, and no less than the clock's own steps.
    noise = max(3 * abs(middle["early"] - middle["early again"]), 100)
    difference = abs(middle["early"] - middle["late"])
    assert difference <= noise
    return f"; {samples} refusals each: medians differ by {difference:.0f} ns, noise {noise:.0f} ns"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("given == self.secret", 1),
        ("row.token != headers['x-token']", 1),
        ("given.encode() == secret.encode()", 1),
        ("headers['signature'] == made", 1),
        ("token == ''", 0),
        ("tokens == 5 and max_tokens > spent", 0),
        ("compare_digest(given, secret)", 0),
    ],
)
def test_a_comparison_of_a_secret_is_found(text: str, found: int) -> None:
    assert len(list(comparisons(text))) == found


@pytest.mark.promise("P14")
def test_no_comparison_of_a_secret_tells_by_its_time(promise: Promise) -> None:
    wrong, in_constant_time, looked_up = list[str](), 0, set[str]()
    for path, text in sources():
        wrong += [f"{path}: {found}" for found in comparisons(text) if found not in HARMLESS]
        in_constant_time += len(re.findall(r"\bcompare_digest\(", text))
        looked_up |= {f"{path.name}: {column}" for column in LOOKED_UP.findall(text)}
    assert wrong == []
    assert [one for one in looked_up if not BY_HASH.search(one)] == []
    assert in_constant_time >= 4
    samples = size(0, 5000)
    promise.held(
        f"{in_constant_time} comparisons of secrets, all in constant time; {len(looked_up)} look-ups, all by a hash"
        + (timed(samples) if samples else "")
    )
