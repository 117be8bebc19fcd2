"""Which network addresses a tenant's source may point at."""

import ipaddress
import socket

from weir.lake_runtime.faults import SourceError

# `is_global` of Python 3.11 takes these for public: protocol assignments, NAT64, 6to4, Teredo, and a
# cloud's wire server.
_DENIED = tuple(
    ipaddress.ip_network(text)
    for text in ("192.0.0.0/24", "64:ff9b::/96", "2002::/16", "2001::/32", "168.63.129.16/32")
)
# Never reachable, whatever the operator allows: the clouds' metadata services.
_METADATA = tuple(
    ipaddress.ip_network(text)
    for text in ("169.254.0.0/16", "fd00:ec2::254/128", "168.63.129.16/32", "192.0.0.192/32", "fe80::/10")
)


def refuse_private(dataset: str, host: str) -> None:
    """Raise `SourceError` unless every address of a host is public.

    The engine resolves the name again when it connects: network policy is the second wall.
    """
    resolve(dataset, host, allow_private=False)


def resolve(dataset: str, host: str, *, allow_private: bool) -> str:
    """An address of a host, to connect to; `SourceError` unless every address of it may be connected to."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise SourceError(dataset, f"the host {host} has no address") from None
    addresses = [str(address[0]) for *_, address in found]
    for address in addresses:
        if _is_metadata(address) or not (allow_private or is_public(address)):
            raise SourceError(dataset, f"the host {host} is not a public address")
    return addresses[0]


def is_public(address: str) -> bool:
    ip = _parsed(address)
    if not ip.is_global or ip.is_multicast:
        return False
    return not any(ip.version == network.version and ip in network for network in _DENIED)


def _is_metadata(address: str) -> bool:
    ip = _parsed(address)
    return any(ip.version == network.version and ip in network for network in _METADATA)


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return mapped or ip
