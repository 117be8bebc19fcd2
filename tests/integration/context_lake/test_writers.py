"""Several writers of one lake: each change is made on what the one before it has left."""

import asyncio
from typing import Any

import pytest
from tests.promises import Promise, size

WRITERS, EACH = 8, 5


async def test_patch_concurrent_two_writers_serialised(caller: Any) -> None:
    """Two patches that exclude each other: one is made, the other is told of the state that it left."""
    for n in range(10):
        body = {"addDatasets": [{"name": f"t{n}", "from": "file:a.csv"}]}
        answers = await asyncio.gather(*(caller.http.patch("/config", json=body) for _ in range(2)))
        assert sorted(answer.status_code for answer in answers) == [200, 400]
        refused = next(answer for answer in answers if answer.status_code == 400)
        assert refused.json()["errors"][0]["code"] == "conflict"
        assert (await caller.http.get("/config")).json()["version"] == n + 1


@pytest.mark.promise("P3")
@pytest.mark.timeout(1800)
async def test_no_update_is_lost_when_many_writers_ask_for_their_version(
    caller: Any, promise: Promise
) -> None:
    """Each writer counts one up on what it has read; those that were too late are told so and read again."""
    writers, each = size(20, 50), size(5, 40)
    await caller.add("counter", "file:a.csv", description="0")
    refusals = 0

    async def count_up() -> None:
        nonlocal refusals
        while True:
            read = await caller.http.get("/datasets/counter")
            body = {"description": str(int(read.json()["description"]) + 1)}
            answer = await caller.http.patch(
                "/config",
                json={"updateDatasets": {"counter": body}},
                headers={"If-Match": read.headers["etag"]},
            )
            if answer.status_code == 200:
                return
            assert (answer.status_code, answer.json()["code"]) == (412, "version_conflict")
            refusals += 1

    async def writer() -> None:
        for _ in range(each):
            await count_up()

    await asyncio.gather(*(writer() for _ in range(writers)))
    read = await caller.http.get("/datasets/counter")
    assert read.json()["description"] == str(writers * each)
    assert read.headers["etag"] == f'"v{writers * each + 1}"'
    assert refusals, "the writers never met"
    promise.held(f"{writers} writers × {each} updates: {writers * each} counted, {refusals} told 412, 0 lost")


async def test_without_conditions_no_change_of_another_dataset_is_lost(caller: Any) -> None:
    for n in range(WRITERS):
        await caller.add(f"t{n}", "file:a.csv")

    async def describe(n: int) -> None:
        for round_ in range(EACH):
            body = {"updateDatasets": {f"t{n}": {"description": f"round {round_}"}}}
            assert (await caller.http.patch("/config", json=body)).status_code == 200

    await asyncio.gather(*(describe(n) for n in range(WRITERS)))
    listed = (await caller.http.get("/datasets")).json()["datasets"]
    assert {item["description"] for item in listed} == {f"round {EACH - 1}"}
    assert (await caller.http.get("/config")).json()["version"] == WRITERS * (EACH + 1)
