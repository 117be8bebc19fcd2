"""Headers for the servers of tools: whose they may be, and what a server is given."""

import pytest

from weir.agent_engine.forwarded import forwarded_headers
from weir_shared.auth.tickets import HEADER
from weir_shared.errors import ValidationFailed

REQUEST = [
    (b"x-org-id", b"7"),
    (b"x-user", b"ada"),
    (b"host", b"weir"),
    (HEADER.lower().encode(), b"ticket"),
    (b"x-model-api-key", b"sk-1"),
    (b"x-byok-api-key", b"sk-2"),
    (b"x-latin", "é".encode("latin-1")),
]


def test_a_server_is_given_what_it_declares_and_the_body_counts_more() -> None:
    headers = forwarded_headers(REQUEST, {"X-User": "grace", "Authorization": "Bearer t"})
    assert headers.chosen(["X-Org-Id", "x-user", "authorization", "X-Other"]) == {
        "X-Org-Id": "7",
        "x-user": "grace",
        "authorization": "Bearer t",
    }
    assert headers.chosen([]) == {}


@pytest.mark.parametrize("name", ["Host", HEADER, "X-Model-API-Key", "x-byok-api-key", "x-latin"])
def test_no_server_is_given_what_is_the_platforms_or_cannot_be_sent(name: str) -> None:
    assert forwarded_headers(REQUEST, None).chosen([name]) == {}


def test_they_do_not_show_themselves() -> None:
    assert "secret" not in repr(forwarded_headers([(b"x-a", b"secret")], {"X-B": "secret"}))


BAD = {
    "a line break": ({"X-A": "1\r\nX-B: 2"}, "headers.X-A"),
    "a space in a name": ({"X A": "1"}, "headers.X A"),
    "no name": ({"": "1"}, "headers."),
    "a colon": ({"X-A:": "1"}, "headers.X-A:"),
    "no ASCII": ({"X-A": "é"}, "headers.X-A"),
    "a long value": ({"X-A": "x" * 8193}, "headers.X-A"),
    "a long name": ({"x" * 129: "1"}, "headers." + "x" * 128),
    "hop by hop": ({"Transfer-Encoding": "chunked"}, "headers.Transfer-Encoding"),
    "a ticket": ({HEADER: "forged"}, f"headers.{HEADER}"),
    "many": ({f"X-{number}": "1" for number in range(65)}, "headers"),
    "much": ({f"X-{number}": "x" * 8000 for number in range(5)}, "headers"),
    "twice": ({"X-A": "1", "x-a": "2"}, "headers"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_could_not_be_sent_is_refused_by_its_name(kind: str) -> None:
    headers, path = BAD[kind]
    with pytest.raises(ValidationFailed) as refusal:
        forwarded_headers([], headers)
    assert [fault.path for fault in refusal.value.errors] == [path]
