"""What a message of a queue says, in any of the four shapes that S3's events come in. Pure, and believes nothing.

Whatever a message says is a hint: it names no tenant and no dataset, for the queue does.
"""

import hashlib
import re
from datetime import UTC, datetime
from typing import Any, Literal, cast
from urllib.parse import unquote_plus

import msgspec
from msgspec import Struct

Kind = Literal["created", "removed", "other"]

# S3's own messages have one or two KiB.
MAX_BODY_BYTES = 256 * 1024
MAX_RECORDS = 1000
MAX_KEY = 4096
# A topic in the way wraps a message once; more is nobody's.
MAX_WRAPS = 3

_SEQUENCER = re.compile(r"[0-9A-Fa-f]{1,64}")
_REMOVALS = ("ObjectRemoved", "Object Deleted", "LifecycleExpiration")


class Poison(Exception):
    """A message that is none of ours to read; its text says why."""


class S3Event(Struct, frozen=True, kw_only=True):
    """One thing that happened to one object."""

    kind: Kind
    bucket: str
    key: str
    """As S3 has it, decoded."""
    at: datetime | None
    version: str = ""
    """The object's version or content tag."""
    sequencer: str = ""
    """Sorts the events of one key: hexadecimal, padded to one length; '' when the message has none."""

    @property
    def identity(self) -> bytes:
        """The same for every delivery of this event, whichever way it came."""
        # Without a sequencer only the moment tells one removal of a key from the next.
        order = self.sequencer or (self.at.isoformat() if self.at else "")
        return _digest(self.kind, self.bucket, self.key, self.version, order)

    @property
    def object_identity(self) -> bytes:
        return _digest(self.bucket, self.key)


class Events(Struct, frozen=True):
    events: list[S3Event]


class TestEvent(Struct, frozen=True):
    """S3's word that the notification has been saved."""

    bucket: str


def read_message(body: str) -> Events | TestEvent:
    """Raises Poison for whatever is not one of S3's messages as a whole."""
    if len(body) > MAX_BODY_BYTES or len(body.encode(errors="replace")) > MAX_BODY_BYTES:
        raise Poison(f"it is larger than {MAX_BODY_BYTES} bytes")
    content = _parsed(body)
    for _ in range(MAX_WRAPS):
        inner = content.get("Message")
        if not isinstance(inner, str):
            break
        content = _parsed(inner)
    if "Records" in content:
        return Events(_direct(content["Records"]))
    if content.get("source") == "aws.s3":
        return Events([_from_event_bridge(content)])
    if "s3:TestEvent" in (content.get("Event"), content.get("eventName")):
        return TestEvent(_text(content.get("Bucket"), "Bucket"))
    raise Poison("it is no event of S3")


def _parsed(text: str) -> dict[str, Any]:
    try:
        content = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise Poison("it is not JSON") from None
    return _mapping(content, "it")


def _direct(records: Any) -> list[S3Event]:
    if not isinstance(records, list):
        raise Poison("Records is no list")
    found = cast(list[Any], records)
    if len(found) > MAX_RECORDS:
        raise Poison(f"it has more than {MAX_RECORDS} records")
    return [_from_record(_mapping(record, "a record")) for record in found]


def _from_record(record: dict[str, Any]) -> S3Event:
    if record.get("eventSource") != "aws:s3":
        raise Poison("a record is not of S3")
    s3 = _mapping(record.get("s3"), "s3")
    item = _mapping(s3.get("object"), "s3.object")
    return S3Event(
        kind=_kind_of(_text(record.get("eventName"), "eventName")),
        bucket=_text(_mapping(s3.get("bucket"), "s3.bucket").get("name"), "s3.bucket.name"),
        # Form-encoded, with a plus for a space. What is no UTF-8 stays itself and equals nothing else.
        key=unquote_plus(_key(item.get("key")), errors="surrogateescape"),
        at=_moment(record.get("eventTime")),
        version=_optional(item.get("versionId")) or _optional(item.get("eTag")),
        sequencer=_sequencer(item.get("sequencer")),
    )


def _from_event_bridge(content: dict[str, Any]) -> S3Event:
    detail = _mapping(content.get("detail"), "detail")
    item = _mapping(detail.get("object"), "detail.object")
    return S3Event(
        kind=_kind_of(_text(content.get("detail-type"), "detail-type")),
        bucket=_text(_mapping(detail.get("bucket"), "detail.bucket").get("name"), "detail.bucket.name"),
        key=_key(item.get("key")),  # verbatim: a plus is a plus
        at=_moment(content.get("time")),
        version=_optional(item.get("version-id")) or _optional(item.get("etag")),
        sequencer=_sequencer(item.get("sequencer")),
    )


def _kind_of(name: str) -> Kind:
    bare = name.removeprefix("s3:")
    if bare.startswith(("ObjectCreated", "Object Created")):
        return "created"
    return "removed" if bare.startswith(_REMOVALS) else "other"


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Poison(f"{what} is no object")
    return cast(dict[str, Any], value)


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise Poison(f"{what} is missing")
    return value


def _key(value: Any) -> str:
    key = _text(value, "the key")
    if len(key) > MAX_KEY:
        raise Poison("the key is longer than any in S3")
    return key


def _optional(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _sequencer(value: Any) -> str:
    if not isinstance(value, str) or not _SEQUENCER.fullmatch(value):
        return ""
    return value.lower().rjust(64, "0")


def _moment(value: Any) -> datetime | None:
    """RFC 3339 as S3 writes it. A message without a moment that can be read is still an event."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:
        return None


def _digest(*parts: str) -> bytes:
    # A length before each part, so that no two sequences of parts read alike.
    content = b"".join(
        len(raw).to_bytes(4, "big") + raw for part in parts for raw in (part.encode(errors="surrogatepass"),)
    )
    return hashlib.sha256(content).digest()[:20]
