"""A file's passages, made in a process of its own: `python -m … TYPE`, the file on stdin, the answer on stdout.

What a stranger has put into a file may take all the memory and time there is; this process has little of either.
"""

import csv
import io
import json
import resource
import sys
import zipfile
from collections.abc import Callable, Iterator

import msgspec
from bs4 import BeautifulSoup
from docx import Document
from docx.table import Table
from markdownify import MarkdownConverter
from pypdfium2 import PdfDocument, PdfiumError
from semantic_text_splitter import MarkdownSplitter, TextSplitter

from weir.agent_engine.knowledge.extraction import Extracted

MEMORY_BYTES = 1536 * 1024 * 1024
CPU_SECONDS = 110
MAX_PAGES = 5_000
MAX_CHARACTERS = 20_000_000
MAX_CHUNKS = 20_000
MAX_UNPACKED_BYTES = 256 * 1024 * 1024
# A thousand tokens of four characters.
CHUNK_CHARACTERS = 4_000
MARKDOWN = frozenset({"md", "html", "docx"})
TOO_LONG = f"The file holds more than {MAX_CHARACTERS // 1_000_000} million characters; split it"


class Unreadable(Exception):
    """The file cannot be read; the sentence is fit for a person."""


def extract(type: str, content: bytes) -> Extracted:
    try:
        text = READERS[type](content)
        if len(text) > MAX_CHARACTERS:
            raise Unreadable(TOO_LONG)
        chunks = chunks_of(text.replace("\0", ""), markdown=type in MARKDOWN)
    except Unreadable as fault:
        return Extracted(error=str(fault))
    except MemoryError:
        return Extracted(error="Reading the file takes more memory than a file may take; split it")
    except RecursionError:
        return Extracted(error="The file is nested too deeply to be read")
    return Extracted(chunks=chunks)


def chunks_of(text: str, *, markdown: bool) -> list[str]:
    """The passages of a text, cut where it pauses. Raises Unreadable."""
    text = text.encode("utf-8", "replace").decode()
    splitter = MarkdownSplitter(CHUNK_CHARACTERS) if markdown else TextSplitter(CHUNK_CHARACTERS)
    chunks = [chunk for chunk in splitter.chunks(text) if chunk.strip()]
    if len(chunks) > MAX_CHUNKS:
        raise Unreadable(f"The file makes more than {MAX_CHUNKS} passages; split it")
    return chunks


def decode(content: bytes) -> str:
    """A text in the encoding that its beginning tells, else UTF-8, else Windows-1252. Raises Unreadable."""
    for mark, encoding in (
        (b"\xff\xfe\0\0", "utf-32"),
        (b"\0\0\xfe\xff", "utf-32"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
    ):
        if content.startswith(mark):
            try:
                return content.decode(encoding)
            except UnicodeDecodeError:
                raise Unreadable(
                    f"The file begins as {encoding.upper()} but is not; save it as UTF-8"
                ) from None
    if b"\0" in content:
        raise Unreadable("The file is not a text; upload the kind of file that its name says")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def _csv(content: bytes) -> str:
    """Each row with the names of its columns, so that a passage can be understood by itself."""
    text = decode(content)
    try:
        dialect = csv.Sniffer().sniff(text[:65_536], delimiters=",;\t|")
    except csv.Error:
        dialect = csv.excel
    csv.field_size_limit(MAX_CHARACTERS)
    try:
        rows = csv.reader(io.StringIO(text, newline=""), dialect)
        header = next(rows, [])
        lines = _gathered("; ".join(_cells(header, row)) for row in rows)
    except csv.Error as fault:
        raise Unreadable(f"The file is not whole CSV: {fault}") from None
    return lines or ", ".join(header)


def _cells(header: list[str], row: list[str]) -> Iterator[str]:
    for position, cell in enumerate(row):
        if cell.strip():
            yield f"{header[position]}: {cell}" if position < len(header) else cell


def _json(content: bytes) -> str:
    try:
        return json.dumps(json.loads(decode(content)), indent=1, ensure_ascii=False)
    except ValueError as fault:
        raise Unreadable(f"The file is not JSON: {fault}") from None


def _html(content: bytes) -> str:
    page = BeautifulSoup(content, "html.parser")
    for unseen in page(["script", "style", "template", "noscript"]):
        unseen.decompose()
    return MarkdownConverter(heading_style="ATX").convert_soup(page)


def _pdf(content: bytes) -> str:
    try:
        document = PdfDocument(content)
    except PdfiumError as fault:
        if "password" in str(fault).lower():
            raise Unreadable("The PDF is protected by a password; upload it without one") from None
        raise Unreadable("The file is not a whole PDF") from None
    pages = len(document)
    if pages > MAX_PAGES:
        raise Unreadable(f"The PDF has {pages} pages, more than the {MAX_PAGES} that one may have; split it")
    try:
        text = _gathered((document[page].get_textpage().get_text_bounded() for page in range(pages)), "\n\n")
    except PdfiumError:
        raise Unreadable("A page of the PDF is damaged") from None
    if not text.strip():
        raise Unreadable("The PDF holds no text, only pictures: recognise its text (OCR) and upload it again")
    return text


def _docx(content: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > MAX_UNPACKED_BYTES:
            raise Unreadable("The document unpacks to far more than a document holds; it is not read")
        document = Document(io.BytesIO(content))
        return _gathered(
            (
                _table(part) if isinstance(part, Table) else _paragraph(part)
                for part in document.iter_inner_content()
            ),
            "\n\n",
        )
    except (Unreadable, MemoryError, RecursionError):
        raise
    # A damaged archive fails in as many ways as the parsers under it have.
    except Exception:  # noqa: BLE001
        raise Unreadable(
            "The file is not a whole Word document (docx); save it again and upload that"
        ) from None


def _paragraph(paragraph: "object") -> str:
    text = str(getattr(paragraph, "text", ""))
    style = getattr(getattr(paragraph, "style", None), "name", None) or ""
    level = style.removeprefix("Heading ")
    return f"{'#' * int(level)} {text}" if level != style and level.isdecimal() and text else text


def _table(table: "object") -> str:
    rows = getattr(table, "rows", ())
    return "\n".join("| " + " | ".join(cell.text for cell in row.cells) + " |" for row in rows)


def _gathered(pieces: Iterator[str], between: str = "\n") -> str:
    found: list[str] = []
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_CHARACTERS:
            raise Unreadable(TOO_LONG)
        found.append(piece)
    return between.join(found)


READERS: dict[str, Callable[[bytes], str]] = {
    "txt": decode,
    "md": decode,
    "csv": _csv,
    "json": _json,
    "html": _html,
    "pdf": _pdf,
    "docx": _docx,
}


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answer = extract(sys.argv[1], sys.stdin.buffer.read())
    sys.stdout.buffer.write(msgspec.msgpack.encode(answer))


if __name__ == "__main__":
    main()
