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


def refuse_private(dataset: str, host: str) -> None:
    """Raise `SourceError` unless every address of a host is public.

    The engine resolves the name again when it connects: network policy is the second wall.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        raise SourceError(dataset, f"the host {host} has no address") from None
    for *_, address in found:
        if not is_public(str(address[0])):
            raise SourceError(dataset, f"the host {host} is not a public address")


def is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if not ip.is_global or ip.is_multicast:
        return False
    return not any(ip.version == network.version and ip in network for network in _DENIED)
