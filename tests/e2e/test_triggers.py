"""Triggers through the door: a dataset that the lake has refreshed, and a delivery from outside, are worked on by an agent."""

import time
import uuid
from typing import Any

import httpx
from tests.starting import StartedPlatform

LAKE = "/v1/context-lake"


def made(admin: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    answer = admin.post(path, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def ended(admin: httpx.Client, trigger: dict[str, Any]) -> dict[str, Any]:
    """The only task of a trigger, once it has ended."""
    for _ in range(600):
        shown = admin.get(f"/api/v1/triggers/{trigger['id']}").json()
        if shown["last_task_id"]:
            task = admin.get(f"/api/v1/tasks/{shown['last_task_id']}").json()
            if task["completed_at"]:
                return task
        time.sleep(0.1)
    raise AssertionError("no task has ended")


def test_a_refresh_of_a_dataset_is_worked_on_by_an_agent(
    platform: StartedPlatform, admin: httpx.Client
) -> None:
    name = f"sales_{uuid.uuid4().hex[:8]}"
    path = platform.data_dir / "imports" / f"{name}.csv"
    path.write_text("a,b\n1,2\n")
    made(admin, f"{LAKE}/datasets", {"name": name, "from": f"file:{path.resolve()}"})
    body = {"type": "dataset_refreshed", "title": "Look", "agent": "lake-analyst", "datasets": [name]}
    trigger = made(admin, "/api/v1/triggers", body)
    asked = admin.post(f"{LAKE}/datasets/{name}/refresh")
    assert asked.status_code in (200, 201, 202), asked.text
    task = ended(admin, trigger)
    assert (task["status"], task["source"]) == ("completed", "dataset")
    assert f"The dataset {name} was refreshed" in task["description"]
    firings = admin.get(f"/api/v1/triggers/{trigger['id']}/firings").json()
    assert [one["task_id"] for one in firings] == [task["id"]]


def test_a_delivery_needs_no_credential_but_the_secret(
    platform: StartedPlatform, admin: httpx.Client
) -> None:
    trigger = made(
        admin, "/api/v1/triggers", {"type": "webhook", "title": "Sort it", "agent": "lake-analyst"}
    )
    url = f"{platform.url}/api/v1/webhooks/{trigger['webhook_path']}"
    assert httpx.post(url, json={"order": 17}).status_code == 401
    taken = httpx.post(url, json={"order": 17}, headers={"X-Webhook-Secret": trigger["secret"]})
    assert taken.status_code == 202, taken.text
    task = ended(admin, trigger)
    assert (task["id"], task["status"]) == (taken.json()["task_id"], "completed")
    assert '{"order":17}' in task["description"]
