"""Who gets in: sessions, API tokens, their headers, their scopes and their end."""

import time
import uuid
from pathlib import Path

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.integration.gateway.conftest import Door
from tests.serving import served

from weir.gateway.app import create_app
from weir_shared.auth.keys import JWT_KEY, load_or_create_key_pair
from weir_shared.auth.principal import DEFAULT_TENANT_ID

TOKENS = "/api/v1/auth/tokens"


async def mint(door: Door, *scopes: str) -> dict:
    async with door.client(**await door.session()) as admin:
        made = await admin.post(TOKENS, json={"name": f"t-{uuid.uuid4().hex}", "scopes": list(scopes)})
    assert made.status_code == 201, made.text
    return made.json()


def signed(door: Door, **claims: object) -> str:
    private = load_or_create_key_pair(door.settings.keys_dir, JWT_KEY).private
    body = {"sub": "someone", "exp": int(time.time()) + 60, **claims}
    return jwt.encode({name: value for name, value in body.items() if value is not None}, private, "EdDSA")


async def status_with(door: Door, **headers: str) -> httpx.Response:
    async with door.client(**headers) as client:
        return await client.get("/v1/context-lake/datasets")


async def test_a_local_session_is_an_admin_of_the_default_tenant(door: Door) -> None:
    async with door.client(**await door.session()) as client:
        assert (await client.get("/api/v1/agents")).status_code == 200
    principal = door.engine.asked[-1]["as"]
    assert (principal.tenant_id, principal.actor, principal.is_admin) == (DEFAULT_TENANT_ID, "user", True)


async def test_the_private_key_is_readable_by_its_owner_only(door: Door) -> None:
    for name in ("jwt_ed25519.priv", "ticket_ed25519.priv"):
        assert (door.settings.keys_dir / name).stat().st_mode & 0o777 == 0o600


async def test_a_session_can_be_renewed_for_the_same_subject_and_tenant(door: Door) -> None:
    tenant = str(uuid.uuid4())
    old = signed(door, sub="ada", tenant_id=tenant, scope="lake:read")
    async with door.client(Authorization=f"Bearer {old}") as client:
        renewed = (await client.post("/api/v1/auth/local-session/refresh")).json()
    claims = jwt.decode(renewed["access_token"], options={"verify_signature": False})
    assert (claims["sub"], claims["tenant_id"], claims["scope"]) == ("ada", tenant, "lake:read")


@pytest.mark.parametrize("credential", ["", "Bearer nonsense", "Basic YTpi"])
async def test_only_a_living_session_is_renewed(door: Door, credential: str) -> None:
    headers = {"Authorization": credential} if credential else {}
    async with door.client(**headers) as client:
        refused = await client.post("/api/v1/auth/local-session/refresh")
    assert (refused.status_code, refused.json()["error"]) == (401, "unauthorized")


@pytest.mark.parametrize("header", ["API_KEY", "api-key", "x-api-key"])
async def test_a_lake_key_passes_in_each_of_its_headers(door: Door, header: str) -> None:
    made = await mint(door, "lake:read")
    assert made["token"].startswith("rbk_")
    assert len(made["token"]) == 4 + 64
    assert (await status_with(door, **{header: made["token"]})).status_code == 200
    assert door.lake.asked[-1]["as"].scopes == frozenset({"lake:read"})


async def test_a_token_of_mixed_scopes_is_bb_and_a_bearer_works_too(door: Door) -> None:
    made = await mint(door, "lake:read", "chat")
    assert made["token"].startswith("bb_")
    assert (await status_with(door, Authorization=f"Bearer {made['token']}")).status_code == 200


async def test_two_different_credentials_are_refused(door: Door) -> None:
    one, other = await mint(door, "lake:read"), await mint(door, "lake:read")
    headers = {"API_KEY": one["token"], "x-api-key": other["token"]}
    refused = await status_with(door, **headers)
    assert (refused.status_code, refused.json()["code"]) == (401, "invalid_api_key")
    same = {"API_KEY": one["token"], "Authorization": f"Bearer {one['token']}"}
    assert (await status_with(door, **same)).status_code == 200


async def test_credentials_never_reach_a_room(door: Door) -> None:
    made = await mint(door, "lake:read")
    await status_with(door, API_KEY=made["token"], Authorization=f"Bearer {made['token']}")
    seen = door.lake.asked[-1]["headers"]
    assert not any(made["token"].encode() in value for _, value in seen)


async def test_a_revoked_token_is_refused_at_once(door: Door) -> None:
    made = await mint(door, "lake:read")
    assert (await status_with(door, API_KEY=made["token"])).status_code == 200
    async with door.client(**await door.session()) as admin:
        assert (await admin.delete(f"{TOKENS}/{made['id']}")).status_code == 204
        assert (await admin.delete(f"{TOKENS}/{made['id']}")).status_code == 404
    assert (await status_with(door, API_KEY=made["token"])).status_code == 401


async def test_the_list_of_tokens_shows_no_token(door: Door) -> None:
    made = await mint(door, "lake:read")
    async with door.client(**await door.session()) as admin:
        listing = await admin.get(TOKENS)
    assert made["name"] in listing.text
    assert made["token"] not in listing.text


async def test_the_database_holds_no_token(door: Door, database) -> None:
    made = await mint(door, "lake:read")
    async with database.any_tenant() as connection:
        rows = await connection.fetch("select * from api_tokens where id = $1", made["id"])
    assert made["token"].removeprefix("rbk_") not in str([dict(row) for row in rows])


async def test_tokens_of_one_tenant_are_not_another_tenants(door: Door) -> None:
    made = await mint(door, "lake:read")
    stranger = signed(door, tenant_id=str(uuid.uuid4()))
    async with door.client(Authorization=f"Bearer {stranger}") as client:
        assert made["id"] not in (await client.get(TOKENS)).text
        assert (await client.delete(f"{TOKENS}/{made['id']}")).status_code == 404
    assert (await status_with(door, API_KEY=made["token"])).status_code == 200


async def test_a_token_without_the_admin_scope_manages_no_tokens(door: Door) -> None:
    made = await mint(door, "chat")
    async with door.client(Authorization=f"Bearer {made['token']}") as client:
        refused = await client.get(TOKENS)
    assert refused.status_code == 403
    assert refused.json() == {"error": "forbidden", "message": "Token does not have 'admin' scope"}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "x"},
        {"name": "", "scopes": ["chat"]},
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": ["root"]},
        {"name": "x" * 101, "scopes": ["chat"]},
        {"name": "a\u0000b", "scopes": ["chat"]},
        {"name": "x", "scopes": ["chat"], "tenant_id": "y"},
        {"name": 7, "scopes": ["chat"]},
        {"name": "x", "scopes": "chat"},
    ],
)
async def test_a_token_that_makes_no_sense_is_not_minted(door: Door, body: dict) -> None:
    async with door.client(**await door.session()) as admin:
        refused = await admin.post(TOKENS, json=body)
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"] == "invalid_request"
    assert refused.json()["errors"]


async def test_a_second_token_of_the_same_name_is_a_conflict(door: Door) -> None:
    made = await mint(door, "chat")
    async with door.client(**await door.session()) as admin:
        refused = await admin.post(TOKENS, json={"name": made["name"], "scopes": ["chat"]})
    assert (refused.status_code, refused.json()["error"]) == (409, "conflict")


async def test_the_bootstrap_token_is_admin_of_the_default_tenant(door: Door) -> None:
    async with door.client(API_KEY="bb_" + "c" * 64) as client:
        assert (await client.get(TOKENS)).status_code == 200


async def test_a_scope_claim_limits_a_session(door: Door) -> None:
    await status_with(door, Authorization=f"Bearer {signed(door, scope='lake:read chat nonsense')}")
    assert door.lake.asked[-1]["as"].scopes == frozenset({"lake:read", "chat"})


async def test_a_session_of_an_unknown_tenant_provisions_it(door: Door, database) -> None:
    tenant = str(uuid.uuid4())
    assert (
        await status_with(door, Authorization=f"Bearer {signed(door, tenant_id=tenant)}")
    ).status_code == 200
    async with database.any_tenant() as connection:
        assert await connection.fetchval("select count(*) from tenants where id = $1", tenant) == 1


def forged_tokens(door: Door) -> dict[str, str]:
    """Tokens that prove nothing, each in its own way."""
    ours = load_or_create_key_pair(door.settings.keys_dir, JWT_KEY)
    raw = ours.public.public_bytes_raw()
    body = {"sub": "x", "exp": int(time.time()) + 60}
    head, payload, signature = signed(door).split(".")
    return {
        "none": jwt.encode(body, None, "none"),
        "hs256 with the public key": jwt.encode(body, raw, "HS256"),
        "a stranger's key": jwt.encode(body, Ed25519PrivateKey.generate(), "EdDSA"),
        "expired": signed(door, exp=int(time.time()) - 60),
        "no expiry": signed(door, exp=None),
        "no subject": signed(door, sub=None),
        "empty subject": signed(door, sub=""),
        "a subject that is a number": signed(door, sub=7),
        "a tenant that is no UUID": signed(door, tenant_id="acme"),
        "a tenant that is a list": signed(door, tenant_id=["a"]),
        "a scope that is a list": signed(door, scope=["admin"]),
        "an expiry that is a text": signed(door, exp="soon"),
        "truncated": f"{head}.{payload}.{signature[:-4]}",
        "another payload": f"{head}.{payload[:-2]}AA.{signature}",
        "too long": signed(door, filler="x" * 9000),
        "not a token": "a.b.c",
        "not ascii": "ü",
    }


async def test_no_forged_session_passes(door: Door) -> None:
    for how, token in forged_tokens(door).items():
        async with door.client() as client:
            refused = await client.get(
                "/api/v1/agents", headers=[("authorization", f"Bearer {token}".encode())]
            )
        assert refused.status_code == 401, how
        assert refused.json() == {"error": "unauthorized", "message": "Invalid or expired API token"}, how
        assert refused.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("shape", ["hex", "pem"])
async def test_external_mode_takes_the_issuers_tokens_and_mints_none(
    settings_of, tmp_path: Path, shape: str
) -> None:
    issuer = Ed25519PrivateKey.generate()
    public = issuer.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key").write_bytes(public.public_bytes_raw().hex().encode() if shape == "hex" else pem)
    settings = settings_of(auth_mode="external", jwt_public_key_path=tmp_path / "key")
    token = jwt.encode({"sub": "x", "exp": int(time.time()) + 60}, issuer, "EdDSA")
    async with served(create_app(settings)) as url, httpx.AsyncClient(base_url=url) as client:
        headers = {"Authorization": f"Bearer {token}"}
        assert (await client.get("/api/v1/agents", headers=headers)).status_code == 200
        assert (await client.post("/api/v1/auth/local-session")).status_code == 404
