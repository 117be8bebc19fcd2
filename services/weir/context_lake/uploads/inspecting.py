"""Having an uploaded file read once from end to end, in a process of the runtime's program that may die of it.

The desk has no engine, and a stranger's file is read nowhere near it: the process has no secrets, limits on its
memory and its time, and is killed when it takes too long.
"""

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog
from msgspec import Struct

from weir.context_lake.changing import FoundColumn
from weir.context_lake.uploads.looking import UnreadableFile
from weir_shared.errors import Unavailable

MODULE = "weir.lake_runtime.inspection"
AT_ONCE = 2
START_SECONDS = 30.0
BYTES_PER_SECOND = 12 * 1024 * 1024
ANSWER_BYTES = 8 * 1024 * 1024

log = structlog.get_logger(__name__)


class Found(Struct, frozen=True, kw_only=True):
    """What a file holds; `params` are what it must be read with besides what was asked."""

    columns: list[FoundColumn] = []
    rows: int = 0
    schema: bytes = b""
    params: dict[str, str] = {}
    error: str | None = None


class Inspector:
    """Reads files, a few at once."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(AT_ONCE)

    async def inspect(self, path: Path, format_: str, params: dict[str, str], size: int) -> Found:
        """Raises UnreadableFile with what is wrong with the file, Unavailable when no process can be had."""
        request = msgspec.json.encode(
            {"path": str(path), "format": format_, "options": params, "bytes": size}
        )
        async with self._free:
            answer = await _ask(request, seconds=START_SECONDS + size / BYTES_PER_SECOND)
        if answer is None:
            raise UnreadableFile("The file takes more memory to read than an import may have")
        found = msgspec.json.decode(answer, type=Found)
        if found.error is not None:
            raise UnreadableFile(f"The file cannot be read: {found.error}")
        return found


async def _ask(request: bytes, *, seconds: float) -> bytes | None:
    """The line that the process answers, or None when it died. Raises UnreadableFile when it takes too long."""
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            MODULE,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # Not with the environment of the desk, which holds the database's address.
            env={"PYTHONPATH": ":".join(filter(None, sys.path)), "LANG": "C.UTF-8", "TZ": "UTC"}
            | {"TOKIO_WORKER_THREADS": "2"},
            limit=ANSWER_BYTES,
        )
    except OSError as fault:
        raise Unavailable(f"No process could be started to read the file ({type(fault).__name__})") from None
    try:
        async with asyncio.timeout(seconds):
            answer, _ = await process.communicate(request)
    except TimeoutError:
        raise UnreadableFile(
            f"The file takes too long to read: more than {seconds:.0f} seconds for its size"
        ) from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(process.wait())
    if process.returncode != 0 or not answer:
        log.warning("inspection lost", status=process.returncode)
        return None
    return answer
