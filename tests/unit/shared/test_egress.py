"""Where the platform connects to on a tenant's word, and where it never does."""

import asyncio
import socket
from typing import Any

import aiohttp
import pytest
from tests.promises import Promise

from weir_shared.egress import CheckedResolver, ForbiddenAddress, check_address, check_url, open_egress

NEVER = [
    "http://169.254.169.254/latest/meta-data",
    "http://[fd00:ec2::254]/",
    "http://[::ffff:169.254.169.254]/",
    "http://168.63.129.16/",
    "http://192.0.0.192/",
    "http://[fe80::1]/",
    "ftp://example.com/x",
    "file:///etc/passwd",
    "gopher://example.com",
    "http://user@example.com/",
    "http://user:pass@example.com/",
    "http:///nohost",
    "http://",
    "//example.com",
    "example.com",
    "",
    "http://exa mple.com/",
    "http://example.com:99999/",
    "http://[::1",
    "http://example.com/\r\nX: y",
]
PRIVATE = [
    "http://localhost/",
    "http://LOCALHOST:80/",
    "http://foo.localhost/",
    "http://metadata.google.internal/",
    "http://127.0.0.1/",
    "http://127.1.2.3/",
    "http://0.0.0.0/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://[::1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[fc00::1]/",
    "http://198.18.0.1/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
]


@pytest.mark.parametrize("url", NEVER)
@pytest.mark.parametrize("allow_private", [True, False])
def test_some_urls_are_never_connected_to(url: str, allow_private: bool) -> None:
    with pytest.raises(ForbiddenAddress):
        check_url(url, allow_private=allow_private)


@pytest.mark.parametrize("url", PRIVATE)
def test_private_addresses_need_the_operators_leave(url: str) -> None:
    with pytest.raises(ForbiddenAddress):
        check_url(url, allow_private=False)
    check_url(url, allow_private=True)


@pytest.mark.parametrize("url", ["https://api.example.com/v1", "http://8.8.8.8/", "https://[2606:4700::1]/x"])
def test_public_addresses_pass(url: str) -> None:
    check_url(url, allow_private=False)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.1.1.1", "fe80::1%eth0", "169.254.169.254"])
def test_what_a_name_resolves_to_is_checked_too(address: str) -> None:
    with pytest.raises(ForbiddenAddress):
        check_address(address, allow_private=False)


# Other spellings of this machine and of its neighbours, and names that lead to it.
SPELLINGS = [
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "127.1",
    "0",
    "127.0.0.1.",
    "localhost.",
    "%6cocalhost",
    "127。0。0。1",
    "①②⑦.⓪.⓪.①",
    "[::]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[::127.0.0.1]",
    "127.0.0.1.rebound.example.com",
]


@pytest.mark.promise("P12")
async def test_no_address_of_the_list_and_no_name_that_changes_its_address_is_connected_to(
    monkeypatch: pytest.MonkeyPatch, promise: Promise
) -> None:
    seen: list[Any] = []
    canary = await asyncio.start_server(lambda _, writer: (seen.append(1), writer.close()), "127.0.0.1", 0)
    port = canary.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()
    look_up, lookups = loop.getaddrinfo, list[str]()

    async def rebinding(host: Any, *arguments: Any, **options: Any) -> list[Any]:
        """A public address for whoever looks first, this machine's for whoever looks again."""
        if not str(host).endswith("rebound.example.com"):
            return await look_up(host, *arguments, **options)
        lookups.append(str(host))
        address = "127.0.0.1" if len(lookups) % 2 == 0 or str(host)[0].isdigit() else "8.8.8.8"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    connect, connected = loop.sock_connect, list[str]()

    async def noted(held: socket.socket, address: Any) -> None:
        connected.append(address[0])
        if address[0] == "8.8.8.8":
            raise ConnectionRefusedError
        await connect(held, address)

    monkeypatch.setattr(loop, "getaddrinfo", rebinding, raising=False)
    monkeypatch.setattr(loop, "sock_connect", noted, raising=False)
    hosts = [url.split("/")[2].split("@")[-1] for url in NEVER + PRIVATE if url.count("/") > 2]
    urls = list(
        dict.fromkeys([*NEVER, *PRIVATE, *(f"http://{host}:{port}/" for host in (*hosts, *SPELLINGS))])
    )
    rebound = [f"http://a{n}.rebound.example.com:{port}/" for n in range(20)]
    timeout = aiohttp.ClientTimeout(total=10)
    async with open_egress(allow_private=False, timeout=timeout) as session:
        for url in urls + rebound:
            with pytest.raises((ForbiddenAddress, aiohttp.ClientError, ValueError, OSError)):
                # As every caller does.
                check_url(url, allow_private=False)
                await session.get(url, allow_redirects=False)
        assert (seen, set(connected)) == ([], {"8.8.8.8"})
    async with open_egress(allow_private=True, timeout=timeout) as session:
        with pytest.raises((aiohttp.ClientError, TimeoutError)):
            await session.get(f"http://127.0.0.1:{port}/")
    canary.close()
    # The canary hears who is let through.
    assert seen
    assert len(lookups) >= len(rebound)
    promise.held(
        f"{len(urls)} URLs, {len(lookups)} look-ups of a name that changes its address: 0 connections"
    )


async def test_a_name_with_one_private_address_among_public_ones_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def resolve(*_: Any, **__: Any) -> list[Any]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 80)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80)),
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve, raising=False)
    with pytest.raises(ForbiddenAddress):
        await CheckedResolver(allow_private=False).resolve("rebound.example.com", 80)


async def test_a_client_of_this_kind_connects_to_no_private_address() -> None:
    seen: list[Any] = []
    server = await asyncio.start_server(lambda *_: seen.append(1), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with open_egress(allow_private=False) as session:
        with pytest.raises((ForbiddenAddress, aiohttp.ClientError)):
            await session.get(f"http://localhost.localdomain.test:{port}/")
        with pytest.raises((ForbiddenAddress, aiohttp.ClientError)):
            await session.get(f"http://localhost:{port}/")
    server.close()
    assert seen == []
