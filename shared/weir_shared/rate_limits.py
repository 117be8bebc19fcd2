"""Rules that limit how often a tenant's callers may ask: what one says, and how its windows are written.

A rule counts by the value of a request header; a tier says how many requests a window takes. Windows are written as
Go writes durations (`1h30m`, `500ms`), which is what documents of the API's older implementation hold.
"""

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

CHANGES = "rate-limits"
"""The notice that somebody's rules have changed."""
MOST_RULES = 20
MOST_SECONDS = 31 * 86_400
_HEADER = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$"
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}

Requests = Annotated[int, Meta(ge=0, le=1_000_000)]
Name = Annotated[str, Meta(min_length=1, max_length=100)]


class Tier(Struct, frozen=True, kw_only=True):
    """How many requests a window takes; an empty window is an hour."""

    requests: Requests = 0
    window: str = ""
    unlimited: bool = False

    @property
    def seconds(self) -> float:
        return seconds_of(self.window) if self.window else 3600.0


class Rule(Struct, frozen=True, kw_only=True):
    """`key_header` names whose requests are counted together, `tier_header` the tier that holds for them.

    A request without the key is not counted. A tier that is missing or unknown is the default one; without
    that there is no limit.
    """

    name: Name
    key_header: Annotated[str, Meta(pattern=_HEADER)]
    tier_header: Annotated[str, Meta(pattern=_HEADER)] | None = None
    tiers: Annotated[dict[Name, Tier], Meta(max_length=50)]
    default_tier: Name | None = None

    def tier_of(self, named: str | None) -> tuple[str, Tier] | None:
        """The tier by that name, else the default one; None when nothing limits."""
        for name in (named, self.default_tier):
            if name is not None and name in self.tiers:
                tier = self.tiers[name]
                return None if tier.unlimited else (name, tier)
        return None


class BadRule(ValueError):
    """A rule that is none; `path` is its place."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


def rules_of(value: Any) -> list[Rule]:
    """A list of rules, or a mapping of names to rules, in their order; null and nothing are none. Raises BadRule."""
    if value is None:
        return []
    if isinstance(value, dict):
        value = [rule | {"name": name} if isinstance(rule, dict) else rule for name, rule in value.items()]
    if not isinstance(value, list):
        raise BadRule("", "it is a list of rules, or a mapping of names to rules")
    if len(value) > MOST_RULES:
        raise BadRule("", f"at most {MOST_RULES} rules")
    rules: list[Rule] = []
    for position, content in enumerate(value):
        rule = _rule(str(position), content)
        if any(other.name == rule.name for other in rules):
            raise BadRule(f"{position}.name", f"there are two rules of the name '{rule.name}'")
        rules.append(rule)
    return rules


def seconds_of(window: str) -> float:
    """Raises ValueError for a text that is no duration, and for one that no window may have."""
    parts = _PART.findall(window)
    if not parts or "".join(number + unit for number, unit in parts) != window:
        raise ValueError(f"'{window[:50]}' is no duration; write it like 1h, 30m or 10s")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if not 1 <= seconds <= MOST_SECONDS:
        raise ValueError("a window is from 1s to 744h")
    return seconds


def _rule(place: str, content: Any) -> Rule:
    try:
        rule = msgspec.convert(content, Rule)
    except msgspec.ValidationError as fault:
        message, _, where = str(fault).partition(" - at `$")
        raise BadRule(".".join(filter(None, (place, where.strip("`.")))), message) from None
    for name, tier in rule.tiers.items():
        try:
            tier.seconds  # noqa: B018 - asked for its refusal
        except ValueError as fault:
            raise BadRule(f"{place}.tiers.{name}.window", str(fault)) from None
    if rule.default_tier is not None and rule.default_tier not in rule.tiers:
        raise BadRule(f"{place}.default_tier", f"there is no tier '{rule.default_tier}'")
    return rule
