"""Tickets: how one service tells another on whose behalf it calls (Ed25519, 60 s, one audience)."""

import time
from collections import OrderedDict
from typing import Literal, TypeVar

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from weir_shared.auth.keys import KeyPair
from weir_shared.auth.principal import Principal

Audience = Literal["context-lake", "agent-engine"]

HEADER = "x-weir-ticket"
LIFETIME_SECONDS = 60
# A ticket is handed out again while it has this much life left: signing costs more than the rest of a relay.
LEAST_LIFE_SECONDS = 30
ISSUER = "weir"
CACHED = 4096

K = TypeVar("K")
V = TypeVar("V")


class InvalidTicket(Exception):
    """A ticket that proves nothing to this service."""


class TicketOffice:
    """Issues tickets, and remembers the ones that are still fresh."""

    def __init__(self, keys: KeyPair) -> None:
        self._private = keys.private
        self._issued: OrderedDict[tuple[Principal, str], tuple[float, str]] = OrderedDict()

    def issue(self, principal: Principal, audience: Audience) -> str:
        now = time.time()
        key = (principal, audience)
        fresh = self._issued.get(key)
        if fresh and fresh[0] - now > LEAST_LIFE_SECONDS:
            return fresh[1]
        expires = now + LIFETIME_SECONDS
        ticket = jwt.encode(
            {
                "iss": ISSUER,
                "aud": audience,
                "exp": int(expires),
                "tenant": principal.tenant_id,
                "sub": principal.subject,
                "actor": principal.actor,
                "scopes": sorted(principal.scopes),
            },
            self._private,
            algorithm="EdDSA",
        )
        _remember(self._issued, key, (expires, ticket))
        return ticket


class TicketInspector:
    """Reads the tickets of one audience."""

    def __init__(self, key: Ed25519PublicKey, audience: Audience) -> None:
        self._key = key
        self._audience = audience
        self._seen: OrderedDict[str, tuple[float, Principal]] = OrderedDict()

    def inspect(self, ticket: str) -> Principal:
        """The caller that a ticket vouches for. Raises InvalidTicket."""
        seen = self._seen.get(ticket)
        if seen and seen[0] > time.time():
            return seen[1]
        try:
            claims = jwt.decode(
                ticket,
                self._key,
                algorithms=["EdDSA"],
                audience=self._audience,
                issuer=ISSUER,
                options={"require": ["exp", "aud", "iss"]},
            )
        except jwt.PyJWTError as fault:
            raise InvalidTicket(str(fault)) from None
        principal = Principal(
            tenant_id=claims["tenant"],
            subject=claims["sub"],
            actor=claims["actor"],
            scopes=frozenset(claims["scopes"]),
        )
        _remember(self._seen, ticket, (float(claims["exp"]), principal))
        return principal


def _remember(store: "OrderedDict[K, V]", key: K, value: V) -> None:
    store[key] = value
    store.move_to_end(key)
    while len(store) > CACHED:
        store.popitem(last=False)
