"""The queue service: one client a region, opened when it is first needed, and every failure in one family.

Uses the platform's own credentials, the usual `AWS_…` of this process, never a dataset's.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
from msgspec import Struct

from weir.context_lake.tables.lake_notifications import Queue

# The seed of what a message costs at most: a receiver that died gives its messages back after this.
VISIBILITY_SECONDS = 300
WAIT_SECONDS = 20
RETENTION_SECONDS = 14 * 24 * 3600
MOST_RECEIVES = 5
MOST_MESSAGES = 10
CONNECT_SECONDS = 3
# Beyond the time that a poll waits at the service.
ANSWER_SECONDS = 15
CONNECTIONS = 64
# What fits a dead-letter queue of any make.
DEAD_BODY_CHARACTERS = 60_000

_GONE = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "NonExistentQueue")
_CREDENTIALS = (
    "AccessDenied",
    "AccessDeniedException",
    "InvalidClientTokenId",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
    "AuthFailure",
    "ExpiredToken",
)


class QueueServiceFailed(Exception):
    """The queue service cannot be reached or refuses; the text is for the operator and the owner of a dataset."""


class QueueGone(QueueServiceFailed):
    """There is no such queue."""


class Message(Struct, frozen=True, kw_only=True):
    id: str
    receipt: str
    body: str


class Wanted(Struct, frozen=True, kw_only=True):
    """A queue as it is to be: for one dataset, with the buckets that may send to it."""

    name: str
    region: str
    buckets: Collection[str]
    account: str = ""
    """The only AWS account whose buckets may send, when the dataset's owner names it."""


def name_of(tenant_id: str, notification_id: str) -> str:
    """Tells an operator whose queue it is, and tells queues of other datasets and platforms apart."""
    return f"lake-{tenant_id[:8]}-{hashlib.sha256(notification_id.encode()).hexdigest()[:12]}"


def dead_name_of(name: str) -> str:
    return f"{name}-dlq"


class Queues:
    """The clients of this process. Every method raises QueueServiceFailed."""

    def __init__(self, endpoint_url: str | None) -> None:
        self._endpoint_url = endpoint_url
        self._stack = AsyncExitStack()
        self._clients: dict[str, Any] = {}
        self._opening = asyncio.Lock()

    async def ensure(self, wanted: Wanted) -> Queue:
        """The queue with its dead-letter queue, made where they are not there, with exactly this policy."""
        async with self._calling(wanted.region, "ensure") as client:
            dead_url = await _url_of(client, dead_name_of(wanted.name), DEAD_ATTRIBUTES)
            queue_url = await _url_of(client, wanted.name, ATTRIBUTES)
            dead_arn, queue_arn = await _arn_of(client, dead_url), await _arn_of(client, queue_url)
            redrive = {"deadLetterTargetArn": dead_arn, "maxReceiveCount": str(MOST_RECEIVES)}
            changed = {
                "Policy": _json(policy_of(queue_arn, wanted.buckets, wanted.account)),
                "RedrivePolicy": _json(redrive),
            }
            await client.set_queue_attributes(QueueUrl=queue_url, Attributes=ATTRIBUTES | changed)
        return Queue(region=wanted.region, queue_arn=queue_arn, queue_url=queue_url, dead_url=dead_url)

    async def receive(
        self, region: str, queue_url: str, *, wait_seconds: int, hidden_seconds: int
    ) -> list[Message]:
        """Up to ten messages; those that are not deleted come again after `hidden_seconds`."""
        async with self._calling(region, "receive") as client:
            answer = await client.receive_message(
                QueueUrl=queue_url,
                MaxNumberOfMessages=MOST_MESSAGES,
                WaitTimeSeconds=wait_seconds,
                VisibilityTimeout=hidden_seconds,
            )
        return [
            Message(id=item["MessageId"], receipt=item["ReceiptHandle"], body=item.get("Body", ""))
            for item in answer.get("Messages", ())
        ]

    async def delete(self, region: str, queue_url: str, messages: list[Message]) -> None:
        if not messages:
            return
        entries = [{"Id": str(n), "ReceiptHandle": message.receipt} for n, message in enumerate(messages)]
        async with self._calling(region, "delete") as client:
            # One that is not deleted comes again and is found in the ledger.
            await client.delete_message_batch(QueueUrl=queue_url, Entries=entries)

    async def bury(self, region: str, dead_url: str, body: str) -> None:
        """Puts what cannot be read where an operator finds it; more than its beginning is not kept."""
        async with self._calling(region, "bury") as client:
            await client.send_message(QueueUrl=dead_url, MessageBody=body[:DEAD_BODY_CHARACTERS] or "(empty)")

    async def count(self, region: str, queue_url: str) -> int:
        async with self._calling(region, "count") as client:
            answer = await client.get_queue_attributes(
                QueueUrl=queue_url, AttributeNames=["ApproximateNumberOfMessages"]
            )
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])

    async def remove(self, region: str, name: str) -> None:
        """The queue and its dead-letter queue; does nothing where they are gone already."""
        for each in (name, dead_name_of(name)):
            try:
                async with self._calling(region, "remove") as client:
                    queue_url = (await client.get_queue_url(QueueName=each))["QueueUrl"]
                    await client.delete_queue(QueueUrl=queue_url)
            except QueueGone:
                continue

    async def close(self) -> None:
        self._clients.clear()
        await self._stack.aclose()

    @asynccontextmanager
    async def _calling(self, region: str, call: str) -> AsyncGenerator[Any, None]:
        # Here and not at the top: it takes half a second to import, and most processes never need it.
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError  # noqa: PLC0415

        from weir.context_lake import measures  # noqa: PLC0415

        try:
            yield await self._client(region)
        except ClientError as fault:
            error: Mapping[str, Any] = fault.response.get("Error", {})
            code = str(error.get("Code", ""))
            if code.endswith(_GONE):
                raise QueueGone("the queue does not exist") from None
            measures.SQS_FAILURES.labels(call).inc()
            raise QueueServiceFailed(_sentence(code)) from None
        except NoCredentialsError:
            measures.SQS_FAILURES.labels(call).inc()
            raise QueueServiceFailed(
                "the platform has no AWS credentials: its operator sets AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY (or a role) for the context-lake service and the worker"
            ) from None
        except (BotoCoreError, OSError, TimeoutError) as fault:
            measures.SQS_FAILURES.labels(call).inc()
            raise QueueServiceFailed(
                f"the queue service cannot be reached ({type(fault).__name__})"
            ) from None

    async def _client(self, region: str) -> Any:
        async with self._opening:
            if region not in self._clients:
                self._clients[region] = await self._stack.enter_async_context(self._open(region))
            return self._clients[region]

    def _open(self, region: str) -> Any:
        from aiobotocore.config import AioConfig  # noqa: PLC0415
        from aiobotocore.session import get_session  # noqa: PLC0415

        config = AioConfig(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=WAIT_SECONDS + ANSWER_SECONDS,
            max_pool_connections=CONNECTIONS,
            # A poll is made again by the poller, which knows more of when.
            retries={"mode": "standard", "total_max_attempts": 2},
        )
        return get_session().create_client(
            "sqs", region_name=region, endpoint_url=self._endpoint_url, config=config
        )


ATTRIBUTES = {
    "VisibilityTimeout": str(VISIBILITY_SECONDS),
    "ReceiveMessageWaitTimeSeconds": str(WAIT_SECONDS),
    "MessageRetentionPeriod": str(RETENTION_SECONDS),
    "SqsManagedSseEnabled": "true",
}
DEAD_ATTRIBUTES = {"MessageRetentionPeriod": str(RETENTION_SECONDS), "SqsManagedSseEnabled": "true"}


def policy_of(queue_arn: str, buckets: Collection[str], account: str) -> dict[str, Any]:
    """Who may send: S3, for these buckets (of one account, when it is known), and nobody in the clear."""
    arns = [f"arn:aws:s3:::{bucket}" for bucket in sorted(buckets)]
    condition: dict[str, Any] = {"ArnLike": {"aws:SourceArn": arns[0] if len(arns) == 1 else arns}}
    if account:
        condition["StringEquals"] = {"aws:SourceAccount": account}
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "AllowBucket",
                "Effect": "Allow",
                "Principal": {"Service": "s3.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": queue_arn,
                "Condition": condition,
            },
            {
                "Sid": "TlsOnly",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "sqs:*",
                "Resource": queue_arn,
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            },
        ],
    }


async def _url_of(client: Any, name: str, attributes: Mapping[str, str]) -> str:
    try:
        return (await client.get_queue_url(QueueName=name))["QueueUrl"]
    except client.exceptions.QueueDoesNotExist:
        made = await client.create_queue(QueueName=name, Attributes=dict(attributes))
        return made["QueueUrl"]


async def _arn_of(client: Any, queue_url: str) -> str:
    answer = await client.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])
    return answer["Attributes"]["QueueArn"]


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _sentence(code: str) -> str:
    if code.endswith("QueueDeletedRecently"):
        return "the queue was deleted less than a minute ago; try again in a minute"
    if code in _CREDENTIALS:
        return (
            f"the platform's AWS credentials may not do this ({code}); see docs/operations/notifications.md"
        )
    return f"the queue service refused ({code or 'no reason given'})"
