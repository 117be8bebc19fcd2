"""The multipart body of a file for a knowledge base, read as it comes and refused as soon as it is too large."""

from collections.abc import AsyncIterator
from email.message import Message
from typing import Any

from msgspec import Struct

from weir.agent_engine.naming import invalid
from weir_shared.errors import InvalidRequest, PayloadTooLarge
from weir_shared.web.multipart import MultipartError, ParserLimitReached, PushMultipartParser

MAX_FILE_BYTES = 50 * 1024 * 1024
FORM_BYTES = 64 * 1024
MAX_PARTS = 16
MAX_NAME = 255


class Uploaded(Struct, frozen=True):
    name: str
    content: bytes


class FileTooLarge(PayloadTooLarge):
    def __init__(self) -> None:
        super().__init__(f"A file of a knowledge base is at most {MAX_FILE_BYTES // 1024**2} MiB")


def boundary_of(content_type: str) -> str:
    """Raises InvalidRequest for what is no form."""
    header = Message()
    header["content-type"] = content_type
    boundary = header.get_param("boundary")
    if header.get_content_type() != "multipart/form-data" or not isinstance(boundary, str) or not boundary:
        raise InvalidRequest("A file is uploaded as multipart/form-data, in a part named file")
    return boundary


async def read_form(content_type: str, chunks: AsyncIterator[bytes]) -> Uploaded:
    """Raises InvalidRequest, FileTooLarge, ValidationFailed."""
    name: str | None = None
    content = bytearray()
    total = 0
    part: Any = None
    try:
        with PushMultipartParser(
            boundary_of(content_type), max_segment_count=MAX_PARTS, strict=True
        ) as parser:
            async for chunk in chunks:
                total += len(chunk)
                if total > MAX_FILE_BYTES + FORM_BYTES:
                    raise FileTooLarge
                for event in parser.parse(chunk):
                    if isinstance(event, bytes | bytearray):
                        if part.name == "file":
                            content += event
                    elif event is not None:
                        part = event
                        if part.name == "file" and name is not None:
                            raise InvalidRequest("A form has one part named file; upload files one by one")
                        name = (part.filename or "") if part.name == "file" else name
    except ParserLimitReached:
        raise InvalidRequest(f"A form has at most {MAX_PARTS} parts, and no long headers") from None
    except (MultipartError, UnicodeDecodeError) as fault:
        raise InvalidRequest(f"The body is not a whole multipart form: {fault}") from None
    if len(content) > MAX_FILE_BYTES:
        raise FileTooLarge
    if name is None:
        raise invalid("file", "is required: the file, in a part of this name")
    return Uploaded(_base_name(name), bytes(content))


def _base_name(name: str) -> str:
    """What comes after the last of any directories."""
    found = name.replace("\\", "/").rpartition("/")[2].strip()
    if not found or not found.isprintable() or len(found) > MAX_NAME:
        raise invalid("file", f"needs a filename of at most {MAX_NAME} printable characters")
    return found
