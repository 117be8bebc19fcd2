"""Tokens, counted as the providers count them."""

from typing import Any

from msgspec.structs import replace

from weir.agent_engine.metrics import LLM_TOKENS
from weir.agent_engine.models.base import Finish

# A thousand times the largest context that there is.
MOST_TOKENS = 1_000_000_000
_COUNTS = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")


def believable(finish: Finish) -> Finish:
    """The answer's end, without counts that no answer has: a server may write anything there."""
    lies = {name: 0 for name in _COUNTS if not 0 <= getattr(finish, name) <= MOST_TOKENS}
    return replace(finish, **lies) if lies else finish


def told_tokens(usage: Any) -> int:
    """The tokens of an embedding, from whatever a server wrote where they should be; 0 for what none can be."""
    told = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return told if isinstance(told, int) and 0 <= told <= MOST_TOKENS else 0


def count_tokens(type: str, finish: Finish) -> None:
    """Adds an answer's tokens to the metrics: cached ones are part of the input, reasoning of the output."""
    for kind, tokens in (
        ("input", finish.input_tokens),
        ("output", finish.output_tokens),
        ("cached", finish.cached_tokens),
        ("reasoning", finish.reasoning_tokens),
    ):
        if tokens > 0:
            LLM_TOKENS.labels(type, kind).inc(tokens)
