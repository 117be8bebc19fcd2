"""Reading an upload's multipart body as it comes, its file straight to the disk."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from msgspec import Struct

from weir.context_lake.uploads.naming import ending_of
from weir.context_lake.uploads.storage import Incoming
from weir_shared.errors import FieldError, InvalidRequest, PayloadTooLarge, ValidationFailed
from weir_shared.web.multipart import MultipartError, ParserLimitReached, PushMultipartParser

# What is written at once: a thread for every piece that comes would cost more than the disk.
PIECE_BYTES = 1024 * 1024
MAX_FIELD_BYTES = 1024
MAX_PARTS = 16
FIELDS = ("name", "replace")
_SWITCH = {"true": True, "1": True, "false": False, "0": False, "": False}


class BrokenForm(InvalidRequest):
    code = "invalid_form"


class FileTooLarge(PayloadTooLarge):
    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"A file to import is at most {max_bytes // 1024**2} MiB")


class Form(Struct, kw_only=True):
    """An upload that has arrived whole."""

    file: Incoming
    file_name: str
    name: str | None = None
    replace: bool = False


Open = Callable[[str], Incoming]


class FormReader:
    """Takes one upload in; `open` makes the file once its extension is known."""

    def __init__(self, boundary: str, *, open: Open, max_bytes: int) -> None:
        self._boundary = boundary
        self._open = open
        self._max_bytes = max_bytes
        self._fields: dict[str, str] = {}
        self._faults: list[FieldError] = []
        self._file_name = ""
        self._piece = bytearray()
        self.file: Incoming | None = None

    async def read(self, chunks: AsyncIterator[bytes]) -> Form:
        """Raises BrokenForm, FileTooLarge, UnsupportedFile, ValidationFailed, and whatever `chunks` does."""
        try:
            with PushMultipartParser(self._boundary, max_segment_count=MAX_PARTS, strict=True) as parser:
                part: Any = None
                async for chunk in chunks:
                    for event in parser.parse(chunk):
                        if event is None:
                            self._end(part)
                        elif isinstance(event, bytes | bytearray):
                            await self._take(part, event)
                        else:
                            part = event
                            await self._begin(part)
        except ParserLimitReached:
            raise BrokenForm(f"A form has at most {MAX_PARTS} parts, and no long headers") from None
        except (MultipartError, UnicodeDecodeError) as fault:
            raise BrokenForm(f"The body is not a whole multipart form: {fault}") from None
        await self._flush()
        return self._form()

    async def _begin(self, part: Any) -> None:
        if part.name == "file" and part.filename is not None:
            if self.file is not None:
                raise BrokenForm("A form has one part named file")
            self._file_name = part.filename
            self.file = await asyncio.to_thread(self._open, ending_of(part.filename))
        elif part.name in FIELDS:
            self._fields[part.name] = ""
        elif part.name == "file":
            raise BrokenForm("The part named file needs a filename")
        else:
            self._refuse(str(part.name)[:64], "is not a known field", "unknown_field")

    async def _take(self, part: Any, content: bytes | bytearray) -> None:
        if part.name in FIELDS:
            self._fields[part.name] += content.decode("latin-1")
            if len(self._fields[part.name]) > MAX_FIELD_BYTES:
                raise BrokenForm(f"{part.name} is at most {MAX_FIELD_BYTES} bytes")
        elif part.name == "file" and self.file is not None:
            self._piece += content
            if self.file.size + len(self._piece) > self._max_bytes:
                raise FileTooLarge(self._max_bytes)
            if len(self._piece) >= PIECE_BYTES:
                await self._flush()

    def _end(self, part: Any) -> None:
        if part is not None and part.name in self._fields:
            self._fields[part.name] = self._fields[part.name].encode("latin-1").decode().strip()

    async def _flush(self) -> None:
        if self._piece and self.file is not None:
            piece, self._piece = bytes(self._piece), bytearray()
            await asyncio.to_thread(self.file.write, piece)

    def _form(self) -> Form:
        replace = self._fields.get("replace", "").lower()
        if replace not in _SWITCH:
            self._refuse("replace", "must be true or false")
        if self.file is None:
            self._refuse("file", "is required", "required")
        if self._faults or self.file is None:
            raise ValidationFailed(self._faults)
        return Form(
            file=self.file,
            file_name=self._file_name,
            name=self._fields.get("name") or None,
            replace=_SWITCH[replace],
        )

    def _refuse(self, field: str, what: str, code: str = "invalid") -> None:
        self._faults.append(FieldError(path=field, message=f"{field} {what}", code=code))
