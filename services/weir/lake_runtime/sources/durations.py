"""Durations as a dataset's parameters write them."""

import re

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PART = re.compile(r"(\d+)(ms|[smhdw])")


def seconds_of(text: object, default: float) -> float:
    """`1h30m` or `250ms` in seconds, and a bare number as seconds; `default` for what is not given or is neither."""
    words = str(text or "")
    if re.fullmatch(r"\d+(\.\d+)?", words):
        return float(words) or default
    if not re.fullmatch(r"(?:\d+(?:ms|[smhdw]))+", words):
        return default
    return sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(words)) or default


def client_timeout(options: dict[str, object]) -> dict[str, str]:
    """How long a request to a store may take, in the words of the stores' clients; empty when nobody says."""
    seconds = seconds_of(options.get("client_timeout"), 0)
    return {"timeout": f"{max(round(seconds * 1000), 1)}ms"} if seconds else {}
