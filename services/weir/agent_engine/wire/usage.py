"""Usage on the wire."""

from msgspec import Struct


class Metric(Struct, frozen=True, kw_only=True):
    """How much there is of something; a `limit` of -1 is none."""

    name: str
    label: str
    used: int
    limit: int = -1
    unit: str


class TokenSums(Struct, frozen=True, kw_only=True):
    """Answers of models and their tokens as the providers count them; 0 where a provider tells nothing.

    Cached tokens are part of the input, reasoning tokens of the output.
    """

    requests: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    total_tokens: int


class UsageGroup(TokenSums, frozen=True, kw_only=True):
    """The sums of one model, day or agent; what no agent has asked is under an empty name."""

    name: str


class UsageReport(Struct, frozen=True, kw_only=True):
    plan: str
    metrics: list[Metric]
    group_by: str
    data: list[UsageGroup]
    total: TokenSums
