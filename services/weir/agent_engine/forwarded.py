"""The headers that a chat brings for the servers of its tools: in the memory of its turn, written nowhere.

A server is given only those that it declares, and never one that is the platform's own or belongs to a connection.
"""

import re
from collections.abc import Iterable, Mapping

from weir.agent_engine.models.own_key import OLD_NAMES
from weir.agent_engine.naming import Faults, invalid
from weir_shared.auth.tickets import HEADER as TICKET

MOST_HEADERS = 64
NAME_CHARACTERS = 128
VALUE_CHARACTERS = 8192
TOTAL_CHARACTERS = 32 * 1024
# What RFC 9110 calls a token, and a value without line breaks: those would begin a header of their own.
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\x20-\x7e\t]*")
_NEVER = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        TICKET.lower(),
        *(name.lower() for name in (*OLD_NAMES, *OLD_NAMES.values())),
    }
)


def is_never_forwarded(name: str) -> bool:
    return name.lower() in _NEVER


RawHeaders = Iterable[tuple[bytes, bytes]]


class ForwardedHeaders:
    """What a request and its body brought; read only when a server asks."""

    def __init__(self, request: RawHeaders = (), body: Mapping[str, str] | None = None) -> None:
        self._request = request
        self._body = {name.lower(): value for name, value in (body or {}).items()}

    def __repr__(self) -> str:
        # They may hold somebody's credentials, and must not get into a log by way of what holds them.
        return "ForwardedHeaders()"

    def chosen(self, names: Iterable[str]) -> dict[str, str]:
        """Those of these names that were brought, as the names are spelt here; the body's come first."""
        brought = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self._request}
        brought |= self._body
        return {
            name: brought[name.lower()]
            for name in names
            if name.lower() in brought
            and name.lower() not in _NEVER
            and _VALUE.fullmatch(brought[name.lower()])
        }


NOTHING_FORWARDED = ForwardedHeaders()


def forwarded_headers(request: RawHeaders, body: Mapping[str, str] | None = None) -> ForwardedHeaders:
    """Raises ValidationFailed for headers in a body that could not be sent."""
    if body:
        _check(body)
    return ForwardedHeaders(request, body)


def _check(headers: Mapping[str, str]) -> None:
    size = sum(len(name) + len(value) for name, value in headers.items())
    if len(headers) > MOST_HEADERS or size > TOTAL_CHARACTERS:
        raise invalid("headers", f"at most {MOST_HEADERS} headers and {TOTAL_CHARACTERS} characters in all")
    if len({name.lower() for name in headers}) < len(headers):
        raise invalid("headers", "a name is given twice; their case makes no difference")
    faults = Faults()
    for name, value in headers.items():
        path = f"headers.{name[:NAME_CHARACTERS]}"
        with faults.gathered():
            if len(name) > NAME_CHARACTERS or not _NAME.fullmatch(name):
                limit = f"at most {NAME_CHARACTERS} characters"
                raise invalid(path, f"a header's name is letters, digits and hyphens, {limit}")
            if name.lower() in _NEVER:
                raise invalid(path, "this header is not passed on; leave it out")
            if len(value) > VALUE_CHARACTERS or not _VALUE.fullmatch(value):
                limit = f"at most {VALUE_CHARACTERS} characters"
                raise invalid(path, f"a header's value is printable ASCII on one line, {limit}")
    faults.raise_any()
