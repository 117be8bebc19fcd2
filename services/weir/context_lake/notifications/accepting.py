"""What has been received becomes counted events and wishes for refreshes, in one transaction; then it may go.

A message is a hint. Whose it is, the queue says by our own table; what it says about another bucket or another
place than the dataset's changes nothing.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

import structlog
from msgspec import Struct, field

from weir.context_lake import measures
from weir.context_lake.notifications.matching import Watched
from weir.context_lake.notifications.messages import Events, Poison, S3Event, read_message
from weir.context_lake.notifications.messages import TestEvent as SavedEvent
from weir.context_lake.notifications.queues import Message
from weir.context_lake.tables import lake_event_ledger, lake_notifications, lake_refreshes
from weir.context_lake.tables.lake_notifications import Notification, Polled
from weir_shared.db.pool import Connection, Database

log = structlog.get_logger(__name__)


class _NobodyAsks(Exception):
    """The notification has been switched off or removed meanwhile; nothing is written."""


class Accepted(Struct, kw_only=True):
    """What became of a batch of messages."""

    done: list[Message] = field(default_factory=list[Message])
    """They may be deleted: what they say is written down, or says nothing to us."""
    poison: list[Message] = field(default_factory=list[Message])
    """They cannot be read and are to be put aside."""


async def accept(
    database: Database, polled: Polled, messages: Sequence[Message], *, quiet_seconds: float
) -> Accepted:
    """Writes down what the messages say. Raises DatabaseUnavailable: then they come again."""
    accepted, events, saved = _read(polled, messages)
    if not events and not saved:
        return accepted
    with suppress(_NobodyAsks):
        async with database.tenant(polled.tenant_id) as connection:
            # In the order of whoever notes that a refresh succeeded, or the two could wait for each other.
            await lake_refreshes.hold(connection, polled.tenant_id, polled.name)
            notification = await lake_notifications.lock(connection, polled.tenant_id, polled.id)
            if notification is None:
                raise _NobodyAsks
            if notification.bucket in saved:
                await lake_notifications.note_connected(connection, polled.tenant_id, polled.id)
            await _write_down(connection, notification, events, quiet_seconds)
    return accepted


def _read(polled: Polled, messages: Sequence[Message]) -> tuple[Accepted, list[S3Event], set[str]]:
    """What can be read, the events in it, and the buckets whose notifications have been saved."""
    accepted, events, saved = Accepted(), list[S3Event](), set[str]()
    for message in messages:
        try:
            said = read_message(message.body)
        except Poison as fault:
            log.warning(
                "message not understood",
                tenant_id=polled.tenant_id,
                dataset=polled.name,
                message_id=message.id,
                length=len(message.body),
                reason=str(fault),
            )
            measures.SQS_POISON.inc()
            measures.SQS_MESSAGES.labels("poison").inc()
            accepted.poison.append(message)
            continue
        accepted.done.append(message)
        match said:
            case Events(found):
                events += found
            case SavedEvent(bucket):
                measures.SQS_MESSAGES.labels("test").inc()
                saved.add(bucket)
    return accepted, events, saved


async def _write_down(
    connection: Connection, notification: Notification, events: Sequence[S3Event], quiet_seconds: float
) -> None:
    """Counts what is new, and wishes for a refresh when the dataset's rows may depend on it."""
    watched = Watched(
        bucket=notification.bucket,
        path=notification.path,
        format=notification.format,
        ending=notification.ending,
    )
    own = [event for event in events if watched.owns(event)]
    measures.SQS_MESSAGES.labels("foreign").inc(len(events) - len(own))
    changes = {event.identity: event for event in own if event.kind != "other"}
    measures.SQS_MESSAGES.labels("other").inc(sum(event.kind == "other" for event in own))
    tenant_id, id_ = notification.tenant_id, notification.id
    fresh = await lake_event_ledger.enter(connection, tenant_id, id_, changes) if changes else set[bytes]()
    duplicates = sum(event.kind != "other" for event in own) - len(fresh)
    measures.SQS_DUPLICATES.inc(duplicates)
    measures.SQS_MESSAGES.labels("duplicate").inc(duplicates)
    if not fresh:
        return
    new = [changes[identity] for identity in fresh]
    for event in new:
        measures.SQS_MESSAGES.labels(event.kind).inc()
    is_wanted = any(watched.reads(event.key) for event in await _newer(connection, tenant_id, id_, new))
    await lake_notifications.note_events(
        connection, tenant_id, id_, count=len(new), last_at=_latest(new), is_wanted=is_wanted
    )
    if is_wanted:
        await lake_refreshes.want(
            connection, tenant_id, notification.name, trigger="sqs", quiet_seconds=quiet_seconds
        )


async def _newer(
    connection: Connection, tenant_id: str, id_: str, events: Sequence[S3Event]
) -> list[S3Event]:
    """Without those that tell of a time before what is known of their object: they are counted, no more.

    How many events there were must not depend on the order in which they come; what to read does.
    """
    newest: dict[bytes, str] = {}
    for event in events:
        if event.sequencer:
            known = newest.get(event.object_identity, "")
            newest[event.object_identity] = max(known, event.sequencer)
    if not newest:
        return list(events)
    ahead = await lake_event_ledger.advance(connection, tenant_id, id_, newest)
    return [event for event in events if not event.sequencer or event.object_identity in ahead]


def _latest(events: Sequence[S3Event]) -> datetime | None:
    return max((event.at for event in events if event.at), default=None)
