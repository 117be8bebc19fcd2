"""Turns that run on other replicas: followed, stopped; and their readers elsewhere fed from here.

A turn is told to other replicas only while somebody there reads it: a reader's replica writes to the one that
runs the turn, which copies the events from its memory into a feed, everything so far at once and what comes in
batches. A turn that nobody elsewhere reads costs nothing.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from weir.agent_engine.events import EventLog
from weir.agent_engine.running import Key, RunningTurns
from weir.agent_engine.tables import turns
from weir_shared.db.pool import Database, DatabaseUnavailable
from weir_shared.ids import new_id
from weir_shared.queue.feeds import Feeds

BATCH_SECONDS = 0.05
# A reader's replica asks again and again; whoever has not asked for so long does not read any more.
ASK_SECONDS = 5.0
WANTED_SECONDS = 20.0
# After so much silence the ledger is asked whether the turn still runs.
SILENCE_SECONDS = 0.5
STOP_SECONDS = 5.0

log = structlog.get_logger(__name__)


class Letter(Struct, frozen=True, kw_only=True):
    """What one replica asks of another: to tell a turn, or to stop it."""

    wish: str
    tenant_id: str
    session_id: str
    number: int

    @property
    def key(self) -> Key:
        return (self.tenant_id, self.session_id)

    @property
    def feed(self) -> str:
        return f"{self.tenant_id}:{self.session_id}:{self.number}"


class Batch(Struct, frozen=True):
    """Events of a turn from a place on; `ended` with the last ones."""

    first: int
    frames: list[bytes]
    ended: bool


class Mirror:
    """A turn that runs elsewhere, as far as it has been told here."""

    def __init__(self, letter: Letter, replica: str) -> None:
        self.letter = letter
        self.replica = replica
        self.log = EventLog(letter.number)
        self.readers = 0
        self.place = "0"
        self.is_whole = False
        self.asked_at = 0.0
        self.heard_at = time.monotonic()

    def take(self, batch: Batch) -> None:
        """A feed that began anew tells again what is known already."""
        self.heard_at = time.monotonic()
        missing = batch.first - len(self.log)
        if missing > 0 or self.log.ended:
            return
        self.log.add(batch.frames[-missing:])
        if batch.ended:
            self.is_whole = True
            self.log.end()


class Elsewhere:
    """The correspondence of this replica with the others."""

    def __init__(self, database: Database, running: RunningTurns, feeds: Feeds) -> None:
        self.replica_id = new_id()
        self._database = database
        self._running = running
        self._feeds = feeds
        self._wanted: dict[str, float] = {}
        self._mirrors: dict[str, Mirror] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._copying: asyncio.Task[None] | None = None

    async def follow(self, letter: Letter, replica: str, after: int) -> AsyncGenerator[bytes, None]:
        """The events of a turn as another replica tells them, from the one after the number given.

        Ends without `done` when the turn is not told any more: the ledger has the rest.
        """
        mirror = self._mirrors.get(letter.feed)
        if mirror is None:
            mirror = self._mirrors[letter.feed] = Mirror(letter, replica)
        mirror.readers += 1
        if self._copying is None:
            self._copying = self._spawn(self._copy())
        try:
            async with aclosing(mirror.log.follow(after)) as parts:
                async for part in parts:
                    yield part
        finally:
            mirror.readers -= 1
            if not mirror.readers and self._mirrors.get(letter.feed) is mirror:
                del self._mirrors[letter.feed]

    async def stop(self, letter: Letter, replica: str) -> None:
        """Has the turn stopped where it runs, and waits until the ledger says that it has ended."""
        if not await self._feeds.send(replica, letter):
            return
        for _ in range(round(STOP_SECONDS / BATCH_SECONDS)):
            if not await self._is_running(letter):
                return
            await asyncio.sleep(BATCH_SECONDS)
        log.warning("a turn elsewhere was not stopped in time", session_id=letter.session_id)

    async def answer_letters(self) -> None:
        """Does what other replicas ask, until it is cancelled."""
        async for content in self._feeds.letters(self.replica_id):
            try:
                letter = msgspec.convert(content, Letter)
            except msgspec.ValidationError as fault:
                log.warning("letter is not understood", fault=str(fault))
                continue
            if letter.wish == "stop":
                self._spawn(self._running.stop(letter.key))
            elif letter.wish == "tell":
                self._tell(letter)

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _tell(self, letter: Letter) -> None:
        events = self._running.log_of(letter.key)
        if events is None or events.turn_number != letter.number:
            return
        is_told = letter.feed in self._wanted
        self._wanted[letter.feed] = time.monotonic() + WANTED_SECONDS
        if not is_told:
            self._spawn(self._feed(letter.feed, events))

    async def _feed(self, feed: str, events: EventLog) -> None:
        """Copies a turn from memory into its feed while it is wanted, in batches."""
        try:
            await self._feeds.open(feed)
            position, ended = 0, False
            while not ended and time.monotonic() < self._wanted[feed]:
                ended, frames = events.ended, events.each_since(position)
                if frames or ended:
                    await self._feeds.append(feed, Batch(position, frames, ended))
                    position += len(frames)
                if not ended:
                    await asyncio.sleep(BATCH_SECONDS)
        finally:
            del self._wanted[feed]

    async def _copy(self) -> None:
        """Fills the mirrors while there are any; one reading for all of them."""
        try:
            while self._mirrors:
                await self._ask()
                places = {
                    feed: mirror.place for feed, mirror in self._mirrors.items() if not mirror.log.ended
                }
                if not places:
                    await asyncio.sleep(BATCH_SECONDS)
                    continue
                for piece in await self._feeds.read(places, wait_seconds=BATCH_SECONDS):
                    mirror = self._mirrors.get(piece.feed)
                    if mirror is not None:
                        mirror.place = piece.place
                        mirror.take(msgspec.convert(piece.content, Batch))
                await self._give_up_silent()
        finally:
            self._copying = None
            for mirror in self._mirrors.values():
                mirror.log.end()

    async def _ask(self) -> None:
        now = time.monotonic()
        for mirror in list(self._mirrors.values()):
            if not mirror.log.ended and now - mirror.asked_at >= ASK_SECONDS:
                mirror.asked_at = now
                await self._feeds.send(mirror.replica, mirror.letter)

    async def _give_up_silent(self) -> None:
        """A silent turn may have ended with its process: then its readers are sent to the ledger."""
        for mirror in list(self._mirrors.values()):
            if mirror.log.ended or time.monotonic() - mirror.heard_at < SILENCE_SECONDS:
                continue
            try:
                if not await self._is_running(mirror.letter):
                    mirror.log.end()
            except DatabaseUnavailable as fault:
                log.warning("turn elsewhere not looked up", fault=str(fault))
            mirror.heard_at = time.monotonic()

    async def _is_running(self, letter: Letter) -> bool:
        async with self._database.tenant(letter.tenant_id) as connection:
            return await turns.is_running(connection, letter.tenant_id, letter.session_id, letter.number)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
