"""What the owner of a dataset is told of its queue."""

from msgspec import Struct

from weir.context_lake.tables.lake_notifications import Notification, Queue, State

# The reference's own words.
INSTRUCTIONS = [
    "Go to S3 → your bucket → Properties → Event notifications",
    "Create notification with events: ObjectCreated:*, ObjectRemoved:*",
    "Destination = SQS queue, paste the ARN above",
]


class ToldQueue(Struct, frozen=True, kw_only=True):
    """The queue to which the bucket is to send its events, and how it comes to do so."""

    queueArn: str
    region: str
    instructions: list[str]


class NotificationsInfo(ToldQueue, frozen=True, kw_only=True):
    state: State
    """`pending` until something has arrived, `connected` with S3's test event, `receiving` with the first event."""


def told(queue: Queue) -> ToldQueue:
    return ToldQueue(queueArn=queue.queue_arn, region=queue.region, instructions=INSTRUCTIONS)


def info_of(notification: Notification) -> NotificationsInfo:
    return NotificationsInfo(
        queueArn=notification.queue_arn,
        region=notification.region,
        instructions=INSTRUCTIONS,
        state=notification.state,
    )
