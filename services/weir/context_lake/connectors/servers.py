"""What the connectors of database servers share: where the server is, and what a connection string says."""

import re
from collections.abc import Collection
from urllib.parse import parse_qsl, unquote, urlsplit

from weir.context_lake.connectors.declared import Findings, Params, Place, literal_of, reference_in
from weir.context_lake.connectors.kinds import wish_of
from weir.context_lake.connectors.urls import check_host
from weir.context_lake.surroundings import Surroundings

_PAIR = re.compile(r"\s*(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|[^\s']\S*)\s*")


def check_server(
    prefix: str,
    pairs: Collection[str],
    params: Params,
    at: Place,
    around: Surroundings,
    found: Findings,
    *,
    schemes: Collection[str],
    syntax: str,
) -> None:
    """The host, and the connection string when it is one that was not sealed before.

    `pairs` are the settings that a string may have besides the five parts of a URL.
    """
    host, name = params.get(f"{prefix}_host", ""), f"{prefix}_connection_string"
    if host and not wish_of("host", host, ()):
        check_host(f"{prefix}_host", host, at, around, found)
    text = literal_of(params, name)
    if not text or "${" in text:
        return
    parts = read_connection_string(text, schemes, has_pairs=bool(pairs))
    if parts is None:
        found.refuse(at.param(name), f"{name} must read {syntax}")
        return
    known = ["host", "port", "dbname", "user", "password", *pairs]
    if set(parts).difference(known):
        # Which other it sets is not said: the whole string is a credential, and may be a mistyped one.
        found.refuse(at.param(name), f"{name} must set nothing but {', '.join(known)}")
    for part in ("host", "user"):
        if not parts.get(part) and not params.get(f"{prefix}_{part}"):
            found.refuse(at.param(name), f"{name} must name a {part}", "required")
    if not host and parts.get("host"):
        if wish := wish_of("host", parts["host"], ()):
            found.refuse(at.param(name), f"{name} must name {wish}")
        else:
            check_host(name, parts["host"], at, around, found)


def read_connection_string(text: str, schemes: Collection[str], *, has_pairs: bool) -> dict[str, str] | None:
    """The parts of a URL or of `key=value` pairs; None when it is neither."""
    if "://" not in text.partition("=")[0]:
        if not has_pairs or _PAIR.sub("", text).strip():
            return None
        return {m[1]: re.sub(r"\\(.)", r"\1", m[2].strip("'")) for m in _PAIR.finditer(text)}
    try:
        url = urlsplit(text)
        parts = {
            "host": unquote(url.hostname or ""),
            "port": str(url.port or ""),
            "dbname": unquote(url.path[1:]),
            "user": unquote(url.username or ""),
            "password": unquote(url.password or ""),
        }
    except ValueError:
        return None
    return parts | dict(parse_qsl(url.query)) if url.scheme in schemes else None


def has_database(prefix: str, params: Params) -> bool:
    """Whether the database is named by a parameter, or may be by the connection string."""
    text = params.get(f"{prefix}_connection_string", "")
    return bool(params.get(f"{prefix}_db") or reference_in(text) or text)
