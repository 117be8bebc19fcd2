"""The one way out: every address that a tenant names is checked, and the checked address is the one connected to.

Guards against server-side request forgery: names that resolve to private, loopback, link-local or metadata
addresses, and names that change their address between the check and the connection.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

# Python's is_global calls some of these global; none of them is anybody's public server.
_NEVER_PUBLIC = [
    ipaddress.ip_network(text)
    for text in (
        "::/96",
        "0.0.0.0/8",
        "100.64.0.0/10",
        "168.63.129.16/32",
        "192.0.0.0/24",
        "198.18.0.0/15",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2001::/32",
        "2002::/16",
        "ff00::/8",
    )
]
# Never reachable, whatever the operator allows: the clouds' metadata services.
_METADATA = [
    ipaddress.ip_network(text)
    for text in ("169.254.0.0/16", "fd00:ec2::254/128", "168.63.129.16/32", "192.0.0.192/32", "fe80::/10")
]


class ForbiddenAddress(Exception):
    """An address that the platform does not connect to; the message is fit for the caller."""


def check_url(url: str, *, allow_private: bool) -> None:
    """Refuses what can be refused without a look-up: scheme, user info, literal addresses.

    Raises ForbiddenAddress. The look-up itself is checked when the connection is made (`Egress`).
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ForbiddenAddress("The URL is not well formed") from None
    if parts.scheme not in ("http", "https"):
        raise ForbiddenAddress("The URL must begin with http:// or https://")
    if not host or any(ord(sign) <= 32 for sign in url):
        raise ForbiddenAddress("The URL names no host")
    if parts.username is not None or parts.password is not None:
        raise ForbiddenAddress("The URL must not carry a user name or a password")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if not allow_private and (
            host == "localhost" or host.endswith((".localhost", ".internal", ".local"))
        ):
            raise ForbiddenAddress(f"The host {host} is not a public one") from None
        return
    check_address(str(address), allow_private=allow_private)


def check_address(text: str, *, allow_private: bool) -> None:
    """Raises ForbiddenAddress for an IP address that is not to be connected to."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    if any(address in network for network in _METADATA if network.version == address.version):
        raise ForbiddenAddress(f"The address {address} is never reachable from here")
    if allow_private:
        return
    refused = any(address in network for network in _NEVER_PUBLIC if network.version == address.version)
    if refused or not address.is_global:
        raise ForbiddenAddress(f"The address {address} is not a public one")


class CheckedResolver(AbstractResolver):
    """Resolves a name once and hands on its addresses only when every one of them may be connected to."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        results: list[ResolveResult] = []
        for kind, _, protocol, _, address in found:
            check_address(str(address[0]), allow_private=self._allow_private)
            results.append(
                ResolveResult(
                    hostname=host, host=str(address[0]), port=port, family=kind, proto=protocol, flags=0
                )
            )
        return results

    async def close(self) -> None:
        """Holds nothing."""


def _checked_socket(allow_private: bool) -> Callable[[aiohttp.AddrInfoType], socket.socket]:
    """Makes sockets for addresses that may be connected to.

    A resolver is not asked about a literal address, and a host may turn out to be one only when the client reads it:
    `①②⑦.⓪.⓪.①` is 127.0.0.1.
    """

    def make(info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        check_address(str(address[0]), allow_private=allow_private)
        return socket.socket(family, kind, protocol)

    return make


def open_egress(*, allow_private: bool, **options: Any) -> aiohttp.ClientSession:
    """A client for addresses that tenants name. Check a URL with `check_url` first, and follow no redirect."""
    connector = aiohttp.TCPConnector(
        resolver=CheckedResolver(allow_private=allow_private),
        socket_factory=_checked_socket(allow_private),
        limit=0,
        ttl_dns_cache=0,
        use_dns_cache=False,
    )
    # One client serves all tenants: a cookie that one was given must not be sent for another.
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=True,
        **options,
    )
