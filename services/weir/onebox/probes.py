"""Is it there? Short questions to servers over the network, each answered within seconds."""

import asyncio
from urllib.parse import parse_qs, urlsplit

import redis.asyncio
from redis.exceptions import RedisError

from weir.onebox.errors import OneboxError

_PATIENCE_SECONDS = 5.0


async def answers_ok(url: str) -> bool:
    """Whether `GET url` (plain HTTP) is answered with 200."""
    parts = urlsplit(url)
    request = f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
            try:
                writer.write(request.encode())
                status_line = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return status_line.split(b" ")[1:2] == [b"200"]


async def valkey_answers(url: str) -> bool:
    return await _ping_refusal(url) is None


async def require_redis(url: str) -> None:
    """Says which server does not answer, never the password in its address."""
    try:
        refusal = await _ping_refusal(url)
    except ValueError as error:
        raise OneboxError(f"WEIR_REDIS_URL is not the address of a Redis: {error}") from None
    if refusal is not None:
        raise OneboxError(f"WEIR_REDIS_URL: the server at {_shown(url, 6379)} cannot be reached ({refusal}).")


async def require_database(url: str) -> None:
    """Whether something listens there; the login itself is tried by the migrations, which follow."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "localhost", parts.port or 5432
    except ValueError as error:
        raise OneboxError(f"WEIR_DATABASE_URL is not the address of a Postgres: {error}") from None
    socket_dir = parse_qs(parts.query).get("host", [""])[0]
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            if socket_dir.startswith("/"):
                _, writer = await asyncio.open_unix_connection(f"{socket_dir}/.s.PGSQL.{port}")
            else:
                _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as error:
        where = socket_dir or _shown(url, 5432)
        raise OneboxError(
            f"WEIR_DATABASE_URL: the server at {where} cannot be reached ({_reason(error)})."
        ) from None
    writer.close()


async def _ping_refusal(url: str) -> str | None:
    client = redis.asyncio.from_url(
        url, socket_connect_timeout=_PATIENCE_SECONDS, socket_timeout=_PATIENCE_SECONDS
    )
    try:
        await client.ping()
    except (RedisError, OSError) as error:
        return _reason(error)
    finally:
        await client.aclose()
    return None


def _shown(url: str, default_port: int) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname or parts.path or 'localhost'}:{parts.port or default_port}"


def _reason(error: BaseException) -> str:
    return (
        "no answer in time"
        if isinstance(error, TimeoutError)
        else str(error).rstrip(".") or type(error).__name__
    )
