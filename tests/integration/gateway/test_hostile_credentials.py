"""Credentials that are odd, forged or too large: refused with the one 401 that tells nothing, never a 5xx."""

import base64
import hashlib
import json
import random
import time
import uuid
from collections.abc import Callable
from datetime import datetime, tzinfo
from typing import Any, Self

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.integration.gateway.conftest import Door
from tests.integration.gateway.test_credentials import forged_tokens
from tests.promises import Promise, size

from weir_shared.auth.keys import JWT_KEY, load_or_create_key_pair

REFUSED = {"error": "unauthorized", "message": "Invalid or expired API token"}
# The order of the curve's group: a signature whose second half is larger by it is another text of the same proof.
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Signer:
    """Writes tokens by hand and signs them with the gateway's own key: an issuer that makes mistakes."""

    def __init__(self, door: Door) -> None:
        self.private: Ed25519PrivateKey = load_or_create_key_pair(door.settings.keys_dir, JWT_KEY).private

    def sign(self, payload: bytes | None = None, header: bytes = b'{"alg":"EdDSA","typ":"JWT"}') -> str:
        signed = f"{_base64(header)}.{_base64(payload or self.body())}"
        return f"{signed}.{_base64(self.private.sign(signed.encode()))}"

    def body(self, **claims: Any) -> bytes:
        return json.dumps({"sub": "ann", "exp": int(time.time()) + 60, **claims}).encode()

    def malleable(self) -> str:
        signed, _, signature = self.sign().rpartition(".")
        raw = base64.urlsafe_b64decode(signature + "==")
        second = int.from_bytes(raw[32:], "little") + GROUP_ORDER
        return f"{signed}.{_base64(raw[:32] + second.to_bytes(32, 'little'))}"

    def with_key_of_a_stranger(self) -> str:
        stranger = Ed25519PrivateKey.generate()
        public = _base64(stranger.public_key().public_bytes_raw())
        headers = {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": public}}
        return jwt.encode({"sub": "ann", "exp": int(time.time()) + 60}, stranger, "EdDSA", headers=headers)

    def with_raw_key_as_secret(self) -> str:
        public = self.private.public_key().public_bytes_raw()
        return jwt.encode({"sub": "ann", "exp": int(time.time()) + 60}, public, "HS256", {"alg": "HS256"})


FORGED: dict[str, Callable[[Signer], str]] = {
    "a key in the header": Signer.with_key_of_a_stranger,
    "the public key as a secret": Signer.with_raw_key_as_secret,
    "a signature written otherwise": Signer.malleable,
    "extended": lambda signer: signer.sign() + "AA",
    "five parts": lambda signer: signer.sign() + ".x.y",
    "no algorithm, in odd letters": lambda signer: signer.sign(header=b'{"alg":"nOnE"}'),
    "no algorithm at all": lambda signer: signer.sign(header=b'{"typ":"JWT"}'),
    "a header that is a list": lambda signer: signer.sign(header=b"[]"),
    "a deep header": lambda signer: signer.sign(header=b'{"alg":"EdDSA","x":' + b"[" * 4000),
    "a detached payload": lambda signer: signer.sign(header=b'{"alg":"EdDSA","crit":["b64"],"b64":false}'),
    "claims that are a list": lambda signer: signer.sign(b"[1]"),
    "claims that are no JSON": lambda signer: signer.sign(b"{"),
    "deep claims": lambda signer: signer.sign(b'{"sub":"ann","exp":9999999999,"x":' + b"[" * 3000),
    "not begun yet": lambda signer: signer.sign(signer.body(nbf=int(time.time()) + 90)),
    "issued later than now": lambda signer: signer.sign(signer.body(iat=int(time.time()) + 90)),
    "an end that is no number": lambda signer: signer.sign(b'{"sub":"ann","exp":NaN}'),
    "an end without end": lambda signer: signer.sign(b'{"sub":"ann","exp":Infinity}'),
    "an end that is a list": lambda signer: signer.sign(signer.body(exp=[9999999999])),
    "a subject with a NUL": lambda signer: signer.sign(signer.body(sub="a\0b")),
}
ODD: dict[str, Callable[[Signer], str]] = {
    "an end beyond any float": lambda signer: signer.sign(b'{"sub":"ann","exp":1' + b"0" * 400 + b"}"),
    "an end beyond any calendar": lambda signer: signer.sign(signer.body(exp=1e30)),
    "an end in fractions": lambda signer: signer.sign(signer.body(exp=time.time() + 60.5)),
    "an audience": lambda signer: signer.sign(signer.body(aud=["other", "weir"])),
    "the id of an unknown key": lambda signer: signer.sign(
        header=b'{"alg":"EdDSA","kid":"../../etc/passwd"}'
    ),
}


TOKENS: dict[str, Callable[[str], str]] = {
    "unknown": lambda token: token[:3] + "0" * (len(token) - 3),
    "of the other kind": lambda token: token.replace("bb_", "rbk_", 1),
    "without its kind": lambda token: token.removeprefix("bb_"),
    "in capitals": str.upper,
    "cut": lambda token: token[:-1],
    "longer": lambda token: token + "0",
    "one sign changed": lambda token: token[:-1] + ("0" if token[-1] != "0" else "1"),
    "twice": lambda token: token * 2,
    "with a NUL": lambda token: token + "%00",
    "a quote and an end": lambda token: token[:20] + "' or '1'='1",
    "a wildcard": lambda token: token[:10] + "%",
    "its hash": lambda token: "bb_" + hashlib.sha256(token.encode()).hexdigest(),
    "the hash alone": lambda token: hashlib.sha256(token.encode()).hexdigest(),
    "huge": lambda token: token + "0" * 20_000,
    "only its kind": lambda _: "bb_",
}


async def asked(door: Door, credential: str) -> httpx.Response:
    async with door.client() as client:
        return await client.get("/api/v1/agents", headers=[("authorization", f"Bearer {credential}")])


@pytest.mark.parametrize("forgery", FORGED)
async def test_a_forged_session_is_refused_as_any_other(door: Door, forgery: str) -> None:
    refused = await asked(door, FORGED[forgery](Signer(door)))
    assert (refused.status_code, refused.json()) == (401, REFUSED)


@pytest.mark.parametrize("oddity", ODD)
async def test_an_odd_session_of_the_right_issuer_is_its_subject_and_nobody_else(
    door: Door, oddity: str
) -> None:
    for _ in range(2):
        answered = await asked(door, ODD[oddity](Signer(door)))
        assert answered.status_code == 200, answered.text
    assert door.engine.asked[-1]["as"].subject == "ann"


async def test_unknown_revoked_and_expired_credentials_are_told_apart_by_nobody(door: Door) -> None:
    async with door.client(**await door.session()) as admin:
        body = {"name": f"t-{uuid.uuid4().hex}", "scopes": ["agents:read"]}
        made = (await admin.post("/api/v1/auth/tokens", json=body)).json()
        await admin.delete(f"/api/v1/auth/tokens/{made['id']}")
    signer = Signer(door)
    expired = signer.sign(signer.body(exp=int(time.time()) - 3600))
    told = [await asked(door, text) for text in ("bb_" + "0" * 64, made["token"], expired, "x", "x" * 20_000)]
    assert {(answer.status_code, answer.text) for answer in told} == {(401, told[0].text)}
    assert {tuple(sorted(answer.headers.keys())) for answer in told} == {
        tuple(sorted(told[0].headers.keys()))
    }


async def test_an_admin_token_opens_what_an_admin_session_opens(door: Door) -> None:
    async with door.client(**await door.session()) as admin:
        body = {"name": f"t-{uuid.uuid4().hex}", "scopes": ["admin"]}
        token = (await admin.post("/api/v1/auth/tokens", json=body)).json()["token"]
    async with door.client(Authorization=f"Bearer {token}") as holder:
        assert (await holder.get("/api/v1/auth/tokens")).status_code == 200
        assert (await holder.get("/api/v1/settings")).status_code == 200
    principal = door.engine.asked[-1]["as"]
    assert (principal.is_admin, principal.actor) == (True, "api_token")


async def test_no_header_but_the_credential_says_whose_tenant_it_is(door: Door) -> None:
    stranger = str(uuid.uuid4())
    own = await door.session()
    for name in ("X-Tenant-ID", "X-Tenant", "X-Weir-Ticket", "X-Org-Id", "X-Forwarded-User"):
        async with door.client(**own, **{name: stranger}) as client:
            assert (await client.get(f"/api/v1/agents?tenant_id={stranger}")).status_code == 200
        assert door.engine.asked[-1]["as"].tenant_id != stranger


@pytest.mark.parametrize("path", ["/api/v1/agents", "/v1/context-lake/datasets", "/v1/chat/completions"])
@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip", "zstd"])
async def test_a_compressed_body_is_not_taken(door: Door, path: str, encoding: str) -> None:
    before = len(door.engine.asked) + len(door.lake.asked)
    async with door.client(**await door.session(), **{"Content-Encoding": encoding}) as client:
        refused = await client.post(path, content=b"\x1f\x8b" + b"\0" * 100)
    assert refused.status_code == 415
    assert "Content-Encoding" in refused.text
    assert len(door.engine.asked) + len(door.lake.asked) == before


async def test_a_body_said_to_be_as_it_is_passes(door: Door) -> None:
    async with door.client(**await door.session(), **{"Content-Encoding": "identity"}) as client:
        assert (await client.post("/api/v1/agents", content=b"{}")).status_code == 200


@pytest.mark.promise("P14")
async def test_no_forged_token_passes(door: Door, promise: Promise) -> None:
    """The whole corpus, and a good session and a good token with a bit changed at random."""
    async with door.client(**await door.session()) as admin:
        body = {"name": f"t-{uuid.uuid4().hex}", "scopes": ["admin"]}
        token = (await admin.post("/api/v1/auth/tokens", json=body)).json()["token"]
    signer, chance = Signer(door), random.Random(14)
    sessions = {**forged_tokens(door), **{how: forge(signer) for how, forge in FORGED.items()}}
    tokens = {how: forge(token) for how, forge in TOKENS.items()}
    good, changed = signer.sign(signer.body(exp=int(time.time()) + 3600)), dict[str, str]()
    for n in range(size(200, 5000)):
        kept = token if n % 2 else good
        # A signature has 512 bits; the last sign of its text carries two more, which say nothing.
        place = chance.randrange(len(kept) - 1)
        other = chance.choice([sign for sign in "abcdef0123456789" if sign != kept[place]])
        changed[f"changed {n}"] = kept[:place] + other + kept[place + 1 :]
    before = len(door.engine.asked)
    async with door.client() as client:
        for how, text in (sessions | tokens | changed).items():
            headers = [("authorization", f"Bearer {text}".encode())]
            refused = await client.get("/api/v1/agents", headers=headers)
            assert (refused.status_code, refused.json()) == (401, REFUSED), how
    assert len(door.engine.asked) == before
    assert (await asked(door, good)).status_code == (await asked(door, token)).status_code == 200
    assert len(sessions) >= 30
    promise.held(
        f"{len(sessions)} forged sessions, {len(tokens)} forged tokens, {len(changed)} with a sign changed: 0 accepted"
    )


@pytest.mark.promise("P30")
async def test_a_clock_that_is_half_a_minute_off_passes_and_one_of_a_minute_does_not(
    door: Door, promise: Promise, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = int(time.time())

    class Standing(datetime):
        """The clock by which sessions are read, standing still."""

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(now, tz)

    monkeypatch.setattr("jwt.api_jwt.datetime", Standing)
    signer, table = Signer(door), dict[str, int]()
    # A session is over in the second that `exp` names: 29 is the last one of a clock that is 30 s ahead.
    for seconds, status in ((29, 200), (60, 401)):
        for claim, moment in (("exp", -seconds), ("nbf", seconds + 1), ("iat", seconds + 1)):
            session = signer.sign(signer.body(**{claim: now + moment}))
            for when in ("", " again"):
                answered = await asked(door, session)
                table[f"{claim} {moment:+d} s{when}"] = answered.status_code
                assert answered.status_code == status, (claim, moment, when, answered.text)
    promise.held("sessions " + ", ".join(f"{case}: {status}" for case, status in table.items()))
