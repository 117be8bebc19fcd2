"""Scopes, tickets and guards: who may pass from one service to the next."""

import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from litestar import get
from litestar.di import NamedDependency
from litestar.testing import TestClient

from weir_shared.auth.guards import UnguardedRoute, open_to_all, requires_caller, requires_scope
from weir_shared.auth.keys import KeyPair, UnusableKey, load_or_create_key_pair
from weir_shared.auth.principal import ANONYMOUS, Principal
from weir_shared.auth.scopes import ALL_SCOPES
from weir_shared.auth.tickets import HEADER, InvalidTicket, TicketInspector, TicketOffice
from weir_shared.web.app import create_service
from weir_shared.web.errors import render_engine_error, render_lake_error

TENANT = "11111111-1111-1111-1111-111111111111"


def caller(*scopes: str) -> Principal:
    return Principal(tenant_id=TENANT, subject="ada", actor="api_token", scopes=frozenset(scopes))


@pytest.fixture
def keys(tmp_path) -> KeyPair:
    return load_or_create_key_pair(tmp_path, "ticket")


def room(keys: KeyPair, *guards, render=render_engine_error):
    @get("/thing", guards=list(guards))
    async def thing(principal: NamedDependency[Principal]) -> str:
        return principal.identity

    return create_service(
        service="test",
        title="Test",
        routes=[thing],
        render_error=render,
        inspector=TicketInspector(keys.public, "agent-engine"),
    )


@pytest.mark.parametrize("scope", sorted(ALL_SCOPES - {"admin"}))
def test_a_scope_opens_itself_and_admin_opens_everything(scope: str) -> None:
    assert caller(scope).may(scope)
    assert caller("admin").may(scope)
    assert not any(caller(scope).may(other) for other in ALL_SCOPES - {scope})


def test_a_ticket_carries_the_caller_to_one_audience_only(keys: KeyPair) -> None:
    ticket = TicketOffice(keys).issue(caller("chat", "lake:read"), "agent-engine")
    assert TicketInspector(keys.public, "agent-engine").inspect(ticket) == caller("chat", "lake:read")
    with pytest.raises(InvalidTicket):
        TicketInspector(keys.public, "context-lake").inspect(ticket)


def test_a_ticket_ends_after_a_minute_also_when_it_was_seen_before(
    keys: KeyPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = TicketOffice(keys).issue(caller("chat"), "agent-engine")
    inspector = TicketInspector(keys.public, "agent-engine")
    inspector.inspect(ticket)
    claims = jwt.decode(ticket, options={"verify_signature": False})
    assert 55 < claims["exp"] - time.time() <= 60
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    inspector._seen[ticket] = (later - 1, caller("chat"))
    with monkeypatch.context() as patched:
        patched.setattr("jwt.api_jwt.datetime", _Clock(later))
        with pytest.raises(InvalidTicket):
            inspector.inspect(ticket)


class _Clock:
    """Stands in for `datetime` within PyJWT, at a fixed moment."""

    def __init__(self, moment: float) -> None:
        self._moment = moment

    def now(self, tz=None):
        from datetime import datetime

        return datetime.fromtimestamp(self._moment, tz)


def test_a_ticket_of_another_key_or_kind_proves_nothing(keys: KeyPair) -> None:
    stranger = Ed25519PrivateKey.generate()
    body = {"iss": "weir", "aud": "agent-engine", "exp": int(time.time()) + 60, "tenant": TENANT}
    body |= {"sub": "x", "actor": "user", "scopes": ["admin"]}
    forged = {
        "stranger": jwt.encode(body, stranger, "EdDSA"),
        "session": jwt.encode({**body, "iss": "other"}, stranger, "EdDSA"),
        "none": jwt.encode(body, None, "none"),
        "hs256": jwt.encode(body, keys.public.public_bytes_raw(), "HS256"),
        "empty": "",
    }
    for how, ticket in forged.items():
        with pytest.raises(InvalidTicket):
            TicketInspector(keys.public, "agent-engine").inspect(ticket)
            pytest.fail(how)


def test_a_room_serves_nobody_without_a_ticket(keys: KeyPair) -> None:
    with TestClient(room(keys, requires_caller)) as client:
        assert client.get("/thing").status_code == 401
        ticket = TicketOffice(keys).issue(caller(), "agent-engine")
        assert client.get("/thing", headers={HEADER: ticket}).text == "api_token:ada"


def test_a_missing_scope_is_named_in_both_dialects(keys: KeyPair) -> None:
    ticket = TicketOffice(keys).issue(caller("chat"), "agent-engine")
    with TestClient(room(keys, requires_scope("config"))) as client:
        refused = client.get("/thing", headers={HEADER: ticket})
    assert refused.status_code == 403
    assert refused.json() == {"error": "forbidden", "message": "Token does not have 'config' scope"}
    with TestClient(room(keys, requires_scope("config"), render=render_lake_error)) as client:
        refused = client.get("/thing", headers={HEADER: ticket})
    assert refused.json()["code"] == "forbidden"
    assert refused.json()["requestId"] == refused.headers["x-request-id"]


def test_an_anonymous_caller_is_no_caller(keys: KeyPair) -> None:
    ticket = TicketOffice(keys).issue(ANONYMOUS, "agent-engine")
    with TestClient(room(keys, requires_caller)) as client:
        assert client.get("/thing", headers={HEADER: ticket}).status_code == 401
    with TestClient(room(keys, open_to_all)) as client:
        assert client.get("/thing", headers={HEADER: ticket}).status_code == 200


def test_a_route_that_declares_no_guard_stops_the_service(keys: KeyPair) -> None:
    with pytest.raises(UnguardedRoute, match="/thing"):
        room(keys)


def test_a_key_pair_is_made_once(tmp_path) -> None:
    first = load_or_create_key_pair(tmp_path, "k")
    second = load_or_create_key_pair(tmp_path, "k")
    assert first.public.public_bytes_raw() == second.public.public_bytes_raw()
    assert (tmp_path / "k.priv").stat().st_mode & 0o777 == 0o600
    assert bytes.fromhex((tmp_path / "k.pub").read_text()) == first.public.public_bytes_raw()


def test_a_damaged_key_file_is_named(tmp_path) -> None:
    (tmp_path / "k.priv").write_text("nonsense")
    with pytest.raises(UnusableKey, match=r"k\.priv"):
        load_or_create_key_pair(tmp_path, "k")
