"""Talking to a platform: its address and the key from the environment, one connection a request."""

import http.client
import json
import os
import select
import ssl
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode, urlsplit

from weir.command_line.failures import Exit, Failure

DEFAULT_URL = "http://localhost:8443"
PREFIX = "/v1/context-lake"
# Above the platform's own budget for a query, so that it is the one that says what took too long.
ANSWER_SECONDS = 240
PIECE_BYTES = 256 * 1024
_NO_ADDRESS = f"WEIR_URL must be the address of a platform such as {DEFAULT_URL}"
_NO_KEY = (
    "WEIR_API_KEY is not set: a token (POST /api/v1/auth/tokens), or on a machine of your own the access_token of "
    "POST /api/v1/auth/local-session"
)

Progress = Callable[[int], None]


class Platform:
    """A platform, and who asks."""

    def __init__(self, url: str, key: str) -> None:
        try:
            parts = urlsplit(url if "//" in url else f"http://{url}")
            self._host, self._port = parts.hostname, parts.port
        except ValueError:
            raise Failure(Exit.USAGE, _NO_ADDRESS) from None
        if parts.scheme not in ("http", "https") or not self._host:
            raise Failure(Exit.USAGE, _NO_ADDRESS)
        self.url = url.rstrip("/")
        self._is_secure = parts.scheme == "https"
        self._base = parts.path.rstrip("/")
        if not key.isascii() or not key.isprintable() or " " in key:
            raise Failure(Exit.NOT_AUTHORISED, "WEIR_API_KEY holds no token")
        self._headers = {"Authorization": f"Bearer {key}", "User-Agent": "weir-lake"}

    def ask(self, method: str, path: str, **query: Any) -> Any:
        """A whole answer in JSON. Raises Failure."""
        with self.open(method, path, query=query) as response:
            return _json_of(response.read(), self.url)

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        accept: str = "application/json",
    ) -> Generator[http.client.HTTPResponse, None, None]:
        """An answer that has begun; leaving early closes the connection, which ends the work behind it.

        Raises Failure, also for what goes wrong while the answer is read.
        """
        content = None if body is None else json.dumps(body).encode()
        headers = {"Accept": accept} | ({"Content-Type": "application/json"} if content is not None else {})
        with self._connected() as connection:
            connection.request(
                method, self._target(path, query), body=content, headers=self._headers | headers
            )
            response = self._begun(connection.getresponse())
            yield response
            if response.length:
                # Read in pieces, an answer that ends before its announced length raises nothing by itself.
                raise http.client.IncompleteRead(b"", response.length)

    def upload(self, path: str, file: Path, fields: Mapping[str, str], *, sent: Progress) -> tuple[int, Any]:
        """Sends a file as a form, piece by piece; `sent` is told how many bytes of it have gone. Raises Failure."""
        try:
            stream = file.open("rb")
        except OSError as fault:
            raise Failure(Exit.USAGE, f"{file} cannot be read: {fault.strerror}") from None
        with stream, self._connected() as connection:
            boundary = uuid.uuid4().hex
            head, tail = _form(boundary, file.name, fields)
            size = os.fstat(stream.fileno()).st_size
            connection.putrequest("POST", self._target(path, None))
            headers = {
                "Accept": "application/json",
                "Content-Type": f"multipart/form-data; boundary={boundary}",
                "Content-Length": str(len(head) + size + len(tail)),
            }
            for name, value in (self._headers | headers).items():
                connection.putheader(name, value)
            connection.endheaders(head)
            if _send_file(connection, stream, size, sent):
                connection.send(tail)
            response = self._begun(connection.getresponse())
            return response.status, _json_of(response.read(), self.url)

    @contextmanager
    def _connected(self) -> Generator[http.client.HTTPConnection, None, None]:
        kind = http.client.HTTPSConnection if self._is_secure else http.client.HTTPConnection
        connection = kind(self._host or "", self._port, timeout=ANSWER_SECONDS)
        try:
            yield connection
        except TimeoutError:
            raise Failure(Exit.UNREACHABLE, f"{self.url} did not answer in time") from None
        except http.client.IncompleteRead:
            raise Failure(
                Exit.UNREACHABLE, "the answer broke off: what has been printed is not whole"
            ) from None
        except http.client.HTTPException:
            raise Failure(Exit.UNREACHABLE, f"what answers at {self.url} is not a platform") from None
        except ssl.SSLError as fault:
            raise Failure(Exit.UNREACHABLE, f"{self.url}: {fault.reason or fault}") from None
        except OSError as fault:
            reason = fault.strerror or str(fault)
            raise Failure(Exit.UNREACHABLE, f"{self.url} cannot be reached: {reason}") from None
        finally:
            connection.close()

    def _target(self, path: str, query: Mapping[str, Any] | None) -> str:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        return self._base + PREFIX + path + (f"?{urlencode(given)}" if given else "")

    def _begun(self, response: http.client.HTTPResponse) -> http.client.HTTPResponse:
        if 200 <= response.status < 300:
            return response
        content = response.read(256 * 1024)
        body = _json_of(content, self.url)
        message = str(body.get("error") or body.get("message") or http.client.responses.get(response.status))
        # What a field error says is the reason; the sentence above it only says that there is one.
        faults = [
            f"{error['path']}: {error['message']}" if error.get("path") else error["message"]
            for error in body.get("errors", ())
        ]
        if faults:
            message = "; ".join(faults)
        raise Failure(_exit_of(response.status), message, code=str(body.get("code") or ""))


def platform_of(environment: Mapping[str, str]) -> Platform:
    """The platform that the environment names. Raises Failure."""
    key = environment.get("WEIR_API_KEY", "").strip()
    if not key:
        raise Failure(Exit.NOT_AUTHORISED, _NO_KEY)
    return Platform(environment.get("WEIR_URL", "").strip() or DEFAULT_URL, key)


def named(path: str, name: str) -> str:
    """The path of one thing by its name."""
    return f"{path}/{quote(name, safe='')}"


def _send_file(connection: http.client.HTTPConnection, stream: BinaryIO, size: int, sent: Progress) -> bool:
    """False when the platform has answered before the end: then it wants no more."""
    left = size
    while left:
        piece = stream.read(min(PIECE_BYTES, left))
        if not piece:
            raise Failure(Exit.USAGE, "the file has become shorter while it was read")
        if connection.sock is not None and select.select([connection.sock], [], [], 0)[0]:
            return False
        try:
            connection.send(piece)
        except (BrokenPipeError, ConnectionResetError):
            return False
        left -= len(piece)
        sent(len(piece))
    return True


def _form(boundary: str, file_name: str, fields: Mapping[str, str]) -> tuple[bytes, bytes]:
    """What goes before the file and after it."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    quoted = file_name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{quoted}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return "".join(parts).encode("utf-8", "replace"), f"\r\n--{boundary}--\r\n".encode()


def _json_of(content: bytes, url: str) -> Any:
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Failure(Exit.UNREACHABLE, f"what answers at {url} is not a platform")
    return body


def _exit_of(status: int) -> Exit:
    if status in (401, 403):
        return Exit.NOT_AUTHORISED
    return Exit.REFUSED if 400 <= status < 500 and status != 408 else Exit.UNREACHABLE
