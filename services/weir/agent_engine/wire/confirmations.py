"""An answer to a confirmation on the wire."""

from typing import Annotated

from msgspec import Meta, Struct


class Response(Struct, frozen=True, kw_only=True):
    """The user's words for one `call_id`; only a word of approval approves."""

    call_id: Annotated[str, Meta(min_length=1, max_length=200)]
    answers: Annotated[list[Annotated[str, Meta(max_length=10_000)]], Meta(max_length=20)]


class Accepted(Struct, frozen=True, kw_only=True):
    status: str = "ok"
