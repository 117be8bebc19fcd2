"""Whose an object is, and whether a dataset's rows may depend on it."""

import time

import pytest

from weir.context_lake.notifications.matching import Watched
from weir.context_lake.notifications.messages import S3Event


def watched(path: str, kind: str = "parquet", ending: str = "") -> Watched:
    return Watched(bucket="acme-lake", path=path, format=kind, ending=ending)


def at(key: str, bucket: str = "acme-lake") -> S3Event:
    return S3Event(kind="created", bucket=bucket, key=key, at=None)


@pytest.mark.parametrize(
    ("path", "key", "owns"),
    [
        ("events/", "events/a.parquet", True),
        ("events", "events/a.parquet", True),
        ("events", "events", True),
        ("events", "events2/a.parquet", False),
        ("events/", "events2/a.parquet", False),
        ("events", "Events/a.parquet", False),
        ("data/sales.parquet", "data/sales.parquet", True),
        ("data/sales.parquet", "data/sales.parquet2", False),
        ("data/sales.parquet", "data/sales.parquet/part-0.parquet", True),
        ("", "anything/at/all", True),
        ("a%20b/", "a b/x.parquet", True),
        ("a%20b/", "a%20b/x.parquet", True),
        ("a+b/", "a b/x.parquet", False),
        ("a/../b/", "b/x.parquet", False),
        ("a/../b/", "a/../b/x.parquet", True),
        ("logs/*/part-?.csv", "logs/2026/part-1.csv", True),
        ("logs/*/part-?.csv", "logs/2026/part-12.csv", False),
        ("logs/[ab].csv", "logs/a.csv", True),
        ("logs/[ab].csv", "logs/c.csv", False),
        ("logs/[.csv", "logs/[.csv", True),
    ],
)
def test_sqs_prefix_boundary_is_where_the_folder_ends(path: str, key: str, owns: bool) -> None:
    assert watched(path).owns(at(key)) is owns


@pytest.mark.parametrize("bucket", ["acme-lake2", "Acme-lake", "", "other"])
def test_another_bucket_is_never_its_own(bucket: str) -> None:
    assert not watched("events/").owns(at("events/a.parquet", bucket))


@pytest.mark.parametrize(
    ("key", "reads"),
    [
        ("events/a.parquet", True),
        ("events/a.PARQUET", True),
        ("events/deep/er/a.pq", True),
        ("events/_SUCCESS", False),
        ("events/_committed_7", False),
        ("events/a.parquet.crc", False),
        ("events/_temporary/0/a.parquet", False),
        ("events/.hidden.parquet", False),
        ("events/", False),
        ("events/README.md", False),
        ("events/a.csv", False),
        ("events/noending", False),
    ],
)
def test_sqs_success_marker_ignored_and_what_the_listing_does_not_read(key: str, reads: bool) -> None:
    assert watched("events/").reads(key) is reads


def test_an_ending_of_the_datasets_own_is_the_only_one() -> None:
    dataset = watched("events/", "csv", ".csv.gz")
    assert dataset.reads("events/a.csv.gz")
    assert not dataset.reads("events/a.csv")


def test_the_object_that_the_dataset_names_is_read_whatever_its_ending() -> None:
    assert watched("events/data.bin").reads("events/data.bin")


def test_no_path_makes_a_key_cost_more_than_length_by_length() -> None:
    started = time.perf_counter()
    assert not watched("*a" * 900 + "b").owns(at("a" * 4000))
    assert time.perf_counter() - started < 5
