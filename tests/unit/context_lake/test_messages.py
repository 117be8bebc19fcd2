"""The four shapes of S3's messages, what they say, and everything that is none of them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from weir.context_lake.notifications.messages import Events, Poison, S3Event, read_message
from weir.context_lake.notifications.messages import TestEvent as SavedEvent


def record(key: str = "events/a.parquet", **changes: Any) -> dict[str, Any]:
    item = {"key": key, "size": 10, "eTag": "9b2c", "sequencer": "0055AED6DCD90281E5"}
    body = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "us-east-1",
        "eventTime": "2026-04-01T08:30:00.000Z",
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": "acme-lake"}, "object": item},
    }
    return body | changes


def direct(*records: dict[str, Any]) -> str:
    return json.dumps({"Records": list(records)})


def bridged(key: str = "events/a+b c.parquet", **changes: Any) -> dict[str, Any]:
    detail = {"bucket": {"name": "acme-lake"}, "object": {"key": key, "etag": "77", "sequencer": "00"}}
    body = {
        "version": "0",
        "source": "aws.s3",
        "detail-type": "Object Created",
        "time": "2026-04-01T08:30:00Z",
        "detail": detail,
    }
    return body | changes


def events(body: str) -> list[S3Event]:
    said = read_message(body)
    assert isinstance(said, Events)
    return said.events


def test_sqs_direct_plus_and_percent_keys_are_form_decoded() -> None:
    [event] = events(direct(record("events/year%3D2026/data+file%2B1.parquet")))
    assert event.key == "events/year=2026/data file+1.parquet"
    assert (event.kind, event.bucket) == ("created", "acme-lake")


def test_sqs_sns_wrapped_is_read_like_what_it_wraps() -> None:
    inner = direct(record("a+b"))
    wrapped = json.dumps({"Type": "Notification", "TopicArn": "arn:aws:sns:us-east-1:1:t", "Message": inner})
    assert events(wrapped) == events(inner)
    verbatim = json.dumps({"Type": "Notification", "Message": json.dumps(bridged())})
    assert events(verbatim)[0].key == "events/a+b c.parquet"


def test_sqs_eventbridge_verbatim_key_keeps_its_plus() -> None:
    [event] = events(json.dumps(bridged("events/a+b%20c.parquet")))
    assert (event.key, event.kind) == ("events/a+b%20c.parquet", "created")


def test_eventbridge_without_a_detail_type_is_poison() -> None:
    with pytest.raises(Poison):
        read_message(json.dumps(bridged(**{"detail-type": ""})))


def test_the_test_event_names_its_bucket() -> None:
    body = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "acme-lake"}
    assert read_message(json.dumps(body)) == SavedEvent("acme-lake")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ObjectCreated:Put", "created"),
        ("s3:ObjectCreated:CompleteMultipartUpload", "created"),
        ("ObjectCreated:Copy", "created"),
        ("ObjectRemoved:Delete", "removed"),
        ("ObjectRemoved:DeleteMarkerCreated", "removed"),
        ("s3:LifecycleExpiration:Delete", "removed"),
        ("ObjectRestore:Completed", "other"),
        ("ObjectTagging:Put", "other"),
        ("ObjectAcl:Put", "other"),
    ],
)
def test_kinds_are_told_by_the_event_names(name: str, kind: str) -> None:
    assert events(direct(record(eventName=name)))[0].kind == kind


def test_sqs_batch_mixed_kinds_are_all_read() -> None:
    names = ("ObjectCreated:Put", "ObjectRemoved:Delete", "ObjectTagging:Put")
    found = events(direct(*(record(eventName=name) for name in names)))
    assert [event.kind for event in found] == ["created", "removed", "other"]


def test_an_empty_list_of_records_says_nothing() -> None:
    assert events(direct()) == []


def test_a_removal_has_neither_size_nor_tag() -> None:
    body = record(eventName="ObjectRemoved:Delete")
    body["s3"]["object"] = {"key": "events/a.parquet", "sequencer": "0A"}
    assert events(direct(body))[0].sequencer.endswith("0a")


def test_one_event_is_the_same_whichever_way_it_came() -> None:
    there = record("events/a.parquet")
    there["s3"]["object"] |= {"eTag": "77", "sequencer": "0F"}
    here = bridged("events/a.parquet", time="2026-04-01T08:30:01Z")
    here["detail"]["object"] |= {"etag": "77", "sequencer": "0f"}
    assert events(direct(there))[0].identity == events(json.dumps(here))[0].identity


def test_without_a_sequencer_the_moment_tells_two_removals_of_a_key_apart() -> None:
    first, second = (
        record(eventName="ObjectRemoved:Delete", eventTime=f"2026-04-01T08:30:0{n}.000Z") for n in range(2)
    )
    for body in (first, second):
        body["s3"]["object"] = {"key": "a.parquet"}
    assert events(direct(first))[0].identity != events(direct(second))[0].identity


def test_sequencers_of_different_lengths_sort_as_numbers() -> None:
    short, long = record(), record()
    short["s3"]["object"]["sequencer"] = "FF"
    long["s3"]["object"]["sequencer"] = "0100"
    assert events(direct(short))[0].sequencer < events(direct(long))[0].sequencer


def deep(levels: int) -> str:
    return '{"Records":' + "[" * levels + "]" * levels + "}"


HOSTILE: dict[str, Any] = {
    "empty": "",
    "no JSON": "not json at all",
    "a number": "17",
    "a list": "[]",
    "an empty object": "{}",
    "another service": direct(record(eventSource="aws:dynamodb")),
    "records of nothing": json.dumps({"Records": [None]}),
    "records as text": json.dumps({"Records": "all"}),
    "no bucket": direct(record(s3={"object": {"key": "a"}})),
    "no key": direct(record(s3={"bucket": {"name": "acme-lake"}, "object": {}})),
    "a key that is a number": direct(record(s3={"bucket": {"name": "b"}, "object": {"key": 1}})),
    "no name of the event": direct(record(eventName=None)),
    "one bad record among good ones": direct(record(), {"eventSource": "aws:s3"}),
    "an endless key": direct(record("k" * 5000)),
    "a megabyte": direct(record("k" * 1_000_000)),
    "a quarter of a megabyte": json.dumps({"Records": [], "padding": "x" * 256 * 1024}),
    "wide signs": json.dumps({"Records": [], "padding": "\U0001f600" * 70_000}, ensure_ascii=False),
    "deep": deep(50_000),
    "too many records": direct(*[{}] * 1001),
    "wrapped for ever": json.dumps({"Message": json.dumps({"Message": json.dumps({"Message": "{}"})})}),
    "half a surrogate": '{"Records": [{"eventSource": "\\ud800"}]}',
    "a test event without a bucket": json.dumps({"Event": "s3:TestEvent"}),
    "a test event whose bucket is none": json.dumps({"Event": "s3:TestEvent", "Bucket": {}}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_message_of_s3_is_poison(name: str) -> None:
    with pytest.raises(Poison):
        read_message(HOSTILE[name])


@pytest.mark.parametrize(
    "moment", [None, 17, "", "yesterday", "99999-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59"]
)
def test_a_moment_that_cannot_be_read_is_none(moment: Any) -> None:
    [event] = events(direct(record(eventTime=moment)))
    assert event.at is None
    assert event.identity


def test_a_key_of_any_bytes_has_an_identity_of_its_own() -> None:
    odd = [events(direct(record(key)))[0] for key in ("%ff", "%fe", "%00", "%EF%BF%BD", "a%ZZ")]
    assert len({event.identity for event in odd}) == len({event.object_identity for event in odd}) == 5


JSON: Any = some.recursive(
    some.none() | some.booleans() | some.integers() | some.text(),
    lambda inner: some.lists(inner) | some.dictionaries(some.text(), inner),
)
WORDS = some.sampled_from(
    [
        "Records",
        "Message",
        "source",
        "aws.s3",
        "detail",
        "detail-type",
        "Event",
        "s3:TestEvent",
        "s3",
        "object",
    ]
)


@given(some.dictionaries(WORDS | some.text(), JSON | WORDS))
def test_any_json_is_either_read_or_poison(content: Any) -> None:
    try:
        read_message(json.dumps(content))
    except Poison:
        return


@given(some.text(max_size=300))
def test_any_text_is_either_read_or_poison(content: str) -> None:
    try:
        read_message(content)
    except Poison:
        return
