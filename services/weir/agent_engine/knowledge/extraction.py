"""Has a file read by a process that can be killed, and believes nothing but its answer."""

import asyncio
import os
import sys
from contextlib import suppress

import msgspec
from msgspec import Struct

SECONDS = 120.0
MODULE = "weir.agent_engine.knowledge.extracting"
# It needs no secret of ours.
_KEPT = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "VIRTUAL_ENV")


class Extracted(Struct):
    """The passages, or a sentence that says why there are none."""

    chunks: list[str] = []
    error: str | None = None


async def extract(type: str, content: bytes, *, seconds: float = SECONDS) -> Extracted:
    """The passages of a file or the reason why there are none; the process has ended when this has."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        MODULE,
        type,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={name: os.environ[name] for name in _KEPT if name in os.environ},
    )
    try:
        async with asyncio.timeout(seconds):
            answer, _ = await process.communicate(content)
    except TimeoutError:
        return Extracted(error=f"Reading the file took longer than {seconds:g} s; split it")
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    try:
        return msgspec.msgpack.decode(answer, type=Extracted)
    except msgspec.MsgspecError:
        return Extracted(
            error="The file could not be read: its reader broke off over it; save it anew and try again"
        )
