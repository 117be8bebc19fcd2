"""A bucket and its queue as their owners see them, on the tests' own S3 and SQS."""

import io
import json
import secrets
from dataclasses import dataclass
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq


@dataclass
class Cloud:
    """S3 and SQS of one moto server."""

    url: str

    def __post_init__(self) -> None:
        options: dict[str, Any] = {
            "endpoint_url": self.url,
            "region_name": "us-east-1",
            "aws_access_key_id": "testing",
            "aws_secret_access_key": "testing",
        }
        self.s3 = boto3.client("s3", **options)
        self.sqs = boto3.client("sqs", **options)

    def bucket(self) -> str:
        name = f"weir-{secrets.token_hex(6)}"
        self.s3.create_bucket(Bucket=name)
        return name

    def put(self, bucket: str, key: str, *numbers: int) -> None:
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist([{"n": number} for number in numbers]), buffer)
        self.s3.put_object(Bucket=bucket, Key=key, Body=buffer.getvalue(), ACL="public-read")

    def remove(self, bucket: str, key: str) -> None:
        self.s3.delete_object(Bucket=bucket, Key=key)

    def connect(self, bucket: str, queue_arn: str) -> None:
        """What the instructions ask the owner of a bucket to do."""
        events = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]
        self.s3.put_bucket_notification_configuration(
            Bucket=bucket,
            NotificationConfiguration={"QueueConfigurations": [{"QueueArn": queue_arn, "Events": events}]},
        )

    def queue_url(self, queue_arn: str) -> str:
        return self.sqs.get_queue_url(QueueName=queue_arn.rpartition(":")[2])["QueueUrl"]

    def send(self, queue_arn: str, *bodies: Any) -> None:
        """Messages as they are, or as JSON."""
        for body in bodies:
            text = body if isinstance(body, str) else json.dumps(body)
            self.sqs.send_message(QueueUrl=self.queue_url(queue_arn), MessageBody=text)

    def attributes(self, queue_arn: str) -> dict[str, str]:
        answer = self.sqs.get_queue_attributes(QueueUrl=self.queue_url(queue_arn), AttributeNames=["All"])
        return answer["Attributes"]

    def depth(self, queue_arn: str) -> int:
        """Messages that wait or are in somebody's hands."""
        found = self.attributes(queue_arn)
        return int(found["ApproximateNumberOfMessages"]) + int(found["ApproximateNumberOfMessagesNotVisible"])

    def queues(self) -> set[str]:
        return {url.rpartition("/")[2] for url in self.sqs.list_queues().get("QueueUrls", [])}
