"""The forms that an answer may have, and which of them an `Accept` header asks for."""

from typing import Literal

from weir_shared.errors import NotAcceptable

Format = Literal["json", "ndjson", "csv", "arrow", "text"]

# In the order in which a wildcard takes them.
MEDIA_TYPES: dict[str, Format] = {
    "application/json": "json",
    "application/x-ndjson": "ndjson",
    "application/vnd.apache.arrow.stream": "arrow",
    "text/csv": "csv",
    "text/plain": "text",
}
# Forms without a place that says that rows are missing: they have all rows unless a limit is asked for.
UNCAPPED: frozenset[Format] = frozenset({"ndjson", "csv", "arrow"})


class UnknownFormat(NotAcceptable):
    def __init__(self) -> None:
        super().__init__(f"Answers are {', '.join(MEDIA_TYPES)}")


def choose_format(accept: str) -> Format:
    """The form with the highest quality; of equals the one named first (RFC 9110 §12.5.1).

    Raises UnknownFormat when nothing that is offered is accepted.
    """
    if not accept.strip():
        return "json"
    ranges = [_range(text) for text in accept.split(",") if text.strip()]
    ranked: list[tuple[float, int, int, Format]] = [
        (_quality(offered, ranges), -_place(offered, ranges), -place, form)
        for place, (offered, form) in enumerate(MEDIA_TYPES.items())
    ]
    best = max(ranked, key=lambda rank: rank[:3])
    if best[0] <= 0:
        raise UnknownFormat
    return best[3]


def _range(text: str) -> tuple[str, float]:
    kind, *parameters = (part.strip().lower() for part in text.split(";"))
    quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
    try:
        return kind, min(max(float(quality), 0.0), 1.0)
    except ValueError:
        return kind, 0.0


def _quality(offered: str, ranges: list[tuple[str, float]]) -> float:
    """The quality of the most specific range that names a form."""
    for wanted in (offered, offered.partition("/")[0] + "/*", "*/*"):
        if found := [quality for kind, quality in ranges if kind == wanted]:
            return max(found)
    return 0.0


def _place(offered: str, ranges: list[tuple[str, float]]) -> int:
    return next(
        (
            place
            for wanted in (offered, offered.partition("/")[0] + "/*", "*/*")
            for place, (kind, _) in enumerate(ranges)
            if kind == wanted
        ),
        len(ranges),
    )
