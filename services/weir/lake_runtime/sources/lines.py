"""An HTTP connection to a tenant's server: its address is checked, and that one is connected to.

A name that changes its mind in between gains nothing.
"""

import http.client
import socket
import ssl
from urllib.parse import SplitResult, quote, urlsplit

from weir.lake_runtime.faults import SourceError
from weir.lake_runtime.sources.addresses import resolve

_CONNECT_SECONDS = 10
_READ_SECONDS = 30


def open_line(
    dataset: str, url: str, *, allow_private: bool, seconds: float = _READ_SECONDS
) -> http.client.HTTPConnection:
    """Raises `SourceError` for what may not be connected to, `OSError` for what cannot."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise SourceError(dataset, "the URL is not well formed") from None
    if parts.scheme not in ("http", "https") or not host or any(ord(sign) <= 32 for sign in url):
        raise SourceError(dataset, "the location must be an http or https URL")
    if parts.username is not None:
        raise SourceError(dataset, "the URL must not carry a user name: it belongs in params")
    is_tls = parts.scheme == "https"
    port = port or (443 if is_tls else 80)
    address = resolve(dataset, host, allow_private=allow_private)
    line = socket.create_connection((address, port), min(_CONNECT_SECONDS, seconds))
    line.settimeout(min(_READ_SECONDS, seconds))
    connection = (http.client.HTTPSConnection if is_tls else http.client.HTTPConnection)(host, port)
    connection.sock = ssl.create_default_context().wrap_socket(line, server_hostname=host) if is_tls else line
    return connection


def target_of(parts: SplitResult) -> str:
    """What stands in a request's first line."""
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~") or "/"
    query = quote(parts.query, safe="/?%:@!$&'()*+,;=~")
    return f"{path}?{query}" if query else path
