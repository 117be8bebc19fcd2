"""A tool that is an HTTP request: what the model says fills it in, and the answer is the result."""

import base64
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

import aiohttp
from yarl import URL

from weir.agent_engine.http_tools import (
    AUTH,
    PLACEHOLDER,
    WITHOUT_BODY,
    parameters_of,
    placeholders,
)
from weir.agent_engine.models.base import ToolDefinition
from weir.agent_engine.signals import ToolFailed
from weir.agent_engine.studio import Studio
from weir.agent_engine.tables import http_tools
from weir.agent_engine.tables.http_tools import HttpToolRow
from weir.agent_engine.tools.base import Call
from weir.agent_engine.tools.names import KNOWN
from weir_shared.egress import ForbiddenAddress, check_url
from weir_shared.sealing import SealError

SECONDS = 30.0
CONNECT_SECONDS = 10.0
# The request ends by itself; this is for when it does not.
SLACK_SECONDS = 5.0
MOST_BYTES = 1024 * 1024
MOST_RESULT_CHARACTERS = 100_000
MOST_TOLD_CHARACTERS = 2000
# Shorter ones would be found in ordinary words.
LEAST_HIDDEN_CHARACTERS = 6
HIDDEN = "***"
_LEFT_OUT = object()


class HttpTool:
    """One tool of one tenant."""

    def __init__(self, row: HttpToolRow, studio: Studio, tenant_id: str) -> None:
        self._row = row
        self._studio = studio
        self._tenant_id = tenant_id
        self._definition = ToolDefinition(
            name=row.name,
            description=row.description or f"{row.config['method']} {row.config['url']}",
            parameters=parameters_of(row.config),
        )

    @property
    def definition(self) -> ToolDefinition:
        return self._definition

    async def run(self, call: Call) -> str:
        given = {name: value for name, value in call.arguments.items() if value is not None}
        lacking = [name for name in self._definition.parameters["required"] if name not in given]
        if lacking:
            raise ToolFailed(f"{call.tool} needs {', '.join(f'`{name}`' for name in lacking)}")
        try:
            secrets = await self._studio.http_tools.secrets(self._tenant_id, self._row)
        except SealError:
            raise ToolFailed(f"The secrets of the tool '{self._row.name}' cannot be opened") from None
        return await self._ask(given, secrets)

    async def _ask(self, given: dict[str, Any], secrets: dict[str, str]) -> str:
        config = self._row.config
        url, body = _filled_in(config, given)
        try:
            check_url(url, allow_private=self._studio.allow_private)
            async with self._studio.egress.request(
                config["method"],
                URL(url, encoded=True),
                data=None if body is None else json.dumps(body, ensure_ascii=False).encode(),
                headers=_headers(config, secrets, has_body=body is not None),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=SECONDS, sock_connect=CONNECT_SECONDS),
            ) as answer:
                return _told(answer, await _read(answer), secrets)
        except ForbiddenAddress as fault:
            raise ToolFailed(str(fault)) from None
        except TimeoutError:
            raise ToolFailed(f"The server did not answer within {SECONDS:g} s") from None
        except aiohttp.ClientConnectorError:
            raise ToolFailed("The server cannot be reached") from None
        except (aiohttp.ClientError, ValueError, OSError):
            raise ToolFailed("The server's answer broke off or is no HTTP") from None


async def http_tools_named(studio: Studio, tenant_id: str, names: Sequence[str]) -> list[HttpToolRow]:
    """Those of an agent's tools that are not the platform's own."""
    wanted = [name for name in names if name not in KNOWN]
    if not wanted:
        return []
    async with studio.database.tenant(tenant_id) as connection:
        return await http_tools.named(connection, tenant_id, wanted)


def _filled_in(config: dict[str, Any], given: dict[str, Any]) -> tuple[str, Any]:
    """The address and the body of the request. Raises ToolFailed for what cannot stand in a path."""
    known = parameters_of(config)["properties"]
    placed = {*placeholders(config["url"]), *placeholders(config["query"]), *placeholders(config["body"])}
    rest = {name: value for name, value in given.items() if name in known and name not in placed}
    path, mark, query = config["url"].partition("?")
    path = PLACEHOLDER.sub(lambda found: _segment(found[1], given[found[1]]), path)
    query = PLACEHOLDER.sub(lambda found: quote(_text(given[found[1]]), safe=""), query)
    parts = urlsplit(path + mark + query)
    pairs = {}
    for name, template in config["query"].items():
        value = _filled(template, given)
        if value is not _LEFT_OUT:
            pairs[name] = _text(value)
    body = _filled(config["body"], given)
    if config["method"] in (*WITHOUT_BODY, "DELETE"):
        pairs |= {name: _text(value) for name, value in rest.items()}
    elif body is None:
        body = rest
    elif isinstance(body, dict):
        body = rest | body
    query = "&".join(part for part in (parts.query, urlencode(pairs)) if part)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, "")), body


def _filled(template: Any, given: dict[str, Any]) -> Any:
    """A template whose whole text is a parameter becomes its value; one that was not given is left out."""
    if isinstance(template, str):
        if (whole := PLACEHOLDER.fullmatch(template.strip())) is not None:
            return given.get(whole[1], _LEFT_OUT)
        return PLACEHOLDER.sub(lambda found: _text(given.get(found[1], "")), template)
    if isinstance(template, dict):
        filled = {name: _filled(part, given) for name, part in template.items()}
        return {name: value for name, value in filled.items() if value is not _LEFT_OUT}
    if isinstance(template, list):
        return [value for part in template if (value := _filled(part, given)) is not _LEFT_OUT]
    return template


def _segment(name: str, value: Any) -> str:
    text = _text(value)
    # A server would take these for other places than the one that its tool is for.
    if text in ("", ".", ".."):
        raise ToolFailed(f"`{name}` must not be empty, nor . or ..")
    return quote(text, safe="")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _headers(config: dict[str, Any], secrets: dict[str, str], *, has_body: bool) -> dict[str, str]:
    headers = {"accept": "application/json, text/*;q=0.9, */*;q=0.1", "user-agent": "weir"}
    if has_body:
        headers["content-type"] = "application/json"
    for name in config["headers"]:
        if (value := secrets.get(f"header:{name}")) is not None:
            headers[name] = value
    auth, secret = config["auth"], secrets.get(AUTH)
    if secret is not None and auth["type"] == "bearer":
        headers["authorization"] = f"Bearer {secret}"
    elif secret is not None and auth["type"] == "basic":
        pair = base64.b64encode(f"{auth['username']}:{secret}".encode()).decode()
        headers["authorization"] = f"Basic {pair}"
    elif secret is not None and auth["type"] == "header":
        headers[auth["header"]] = secret
    return headers


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    """As much of the answer as is shown at most."""
    content = bytearray()
    async for chunk in answer.content.iter_any():
        content += chunk
        if len(content) > MOST_BYTES:
            break
    return bytes(content[:MOST_BYTES])


def _told(answer: aiohttp.ClientResponse, content: bytes, secrets: dict[str, str]) -> str:
    kind = answer.content_type
    is_text = kind.startswith("text/") or kind.endswith(("json", "xml")) or b"\0" not in content
    text = _without(content.decode(errors="replace"), secrets) if is_text else f"[{kind}, not shown]"
    if not 200 <= answer.status < 300:
        said = f": {text[:MOST_TOLD_CHARACTERS]}" if text.strip() else ""
        raise ToolFailed(f"The server answered with the status {answer.status}{said}")
    if len(text) > MOST_RESULT_CHARACTERS or len(content) == MOST_BYTES:
        return f"{text[:MOST_RESULT_CHARACTERS]}\n[cut off after {MOST_RESULT_CHARACTERS} characters]"
    return text or f"[status {answer.status}, no content]"


def _without(text: str, secrets: dict[str, str]) -> str:
    """The answer without the secrets that a server may say back."""
    for value in secrets.values():
        if len(value) >= LEAST_HIDDEN_CHARACTERS:
            text = text.replace(value, HIDDEN)
    return text
