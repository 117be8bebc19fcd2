"""The two walks of the architecture, on the platform as its user starts it."""

import json
import uuid

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.e2e.reading import chat
from tests.starting import StartedPlatform

LAKE = "/v1/context-lake"
FLIGHTS = 336_776


def rows(client: httpx.Client, query: str) -> list[dict]:
    answered = client.post(f"{LAKE}/sql", json={"query": query})
    assert answered.status_code == 200, answered.text
    return answered.json()["rows"]


def test_sql_asked_of_a_cold_lake_starts_it_and_answers(admin: httpx.Client) -> None:
    admin.post(f"{LAKE}/stop", params={"force": "true"})
    before = admin.get(f"{LAKE}/status").json()["vmStatus"]
    assert before in ("paused", "not_provisioned")
    cold = admin.post(f"{LAKE}/sql", json={"query": "SELECT count(*) AS n FROM flights"}).json()
    assert (cold["rows"], cold["coldStart"]) == ([{"n": FLIGHTS}], True)
    assert admin.get(f"{LAKE}/status").json()["vmStatus"] == "running"
    warm = admin.post(f"{LAKE}/sql", json={"query": "SELECT count(*) AS n FROM flights"}).json()
    assert (warm["rows"], warm["coldStart"]) == ([{"n": FLIGHTS}], False)


def test_a_dataset_added_now_answers_the_next_query(platform: StartedPlatform, admin: httpx.Client) -> None:
    name = f"towns_{uuid.uuid4().hex[:8]}"
    folder = platform.data_dir / "imports" / name
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"town": ["Oslo", "Lyon"]}), folder / "a.parquet")
    body = {"name": name, "from": f"file:{folder}/", "params": {"file_format": "parquet"}}
    assert admin.post(f"{LAKE}/datasets", json=body).status_code == 201
    assert rows(admin, f"SELECT town FROM {name} ORDER BY town") == [{"town": "Lyon"}, {"town": "Oslo"}]
    assert admin.delete(f"{LAKE}/datasets/{name}").status_code == 200
    gone = admin.post(f"{LAKE}/sql", json={"query": f"SELECT * FROM {name}"})
    assert (gone.status_code, gone.json()["code"]) == (400, "sql_error")


def test_an_agent_answers_by_querying_the_lake_as_its_caller(admin: httpx.Client) -> None:
    turn = chat(admin, "What is the average departure delay by carrier?")
    names = [event.name for event in turn]
    assert names[-1] == "done"
    assert names.count("done") == 1
    assert "error" not in names
    queries = [
        event.data for event in turn if event.name == "tool_call" and event.data["tool"] == "lake_query"
    ]
    results = [
        event.data for event in turn if event.name == "tool_result" and event.data["tool"] == "lake_query"
    ]
    assert queries
    assert results
    spoken = "".join(event.data["content"] for event in turn if event.name == "message_delta")
    [message] = [event.data["content"] for event in turn if event.name == "message"]
    assert spoken == message
    [worst] = rows(
        admin, "SELECT carrier, avg(dep_delay) AS d FROM flights GROUP BY carrier ORDER BY d DESC LIMIT 1"
    )
    assert worst["carrier"] in message


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("How many flights are there?", str(FLIGHTS)),
        ("What is the longest distance?", "4983"),
        ("Which 5 airlines have the most flights?", "UA"),
        ("List the tables", "airports"),
        ("select origin, count(*) from flights group by origin", "EWR"),
    ],
)
def test_the_demo_understands_its_handful_of_questions(
    admin: httpx.Client, question: str, expected: str
) -> None:
    turn = chat(admin, question)
    [message] = [event.data["content"] for event in turn if event.name == "message"]
    assert expected in message.replace(",", "").replace("_", "").replace("\u202f", "")


def test_the_demo_says_that_it_is_a_script(admin: httpx.Client) -> None:
    turn = chat(admin, "Please write me a poem about the sea")
    [message] = [event.data["content"] for event in turn if event.name == "message"]
    assert "script" in message.lower()


def test_a_conversation_is_kept_and_listed(admin: httpx.Client) -> None:
    session_id = chat(admin, "How many flights are there?")[-1].data["session_id"]
    chat(admin, "List the tables", session_id)
    listing = admin.get("/api/v1/sessions", params={"limit": 50}).json()
    [listed] = [session for session in listing["sessions"] if session["id"] == session_id]
    assert listed["message_count"] == 4
    kept = admin.get(f"/api/v1/sessions/{session_id}").json()["messages"]
    assert kept[0]["content"] == "How many flights are there?"


def test_an_agent_may_no_more_than_its_caller(platform: StartedPlatform, admin: httpx.Client) -> None:
    minted = admin.post("/api/v1/auth/tokens", json={"name": f"t-{uuid.uuid4().hex}", "scopes": ["chat"]})
    with platform.client(**{"API_KEY": minted.json()["token"]}) as talker:
        turn = chat(talker, "How many flights are there?")
    refused = [event.data for event in turn if event.name == "tool_result"]
    assert refused
    assert all("lake" in result["output"] for result in refused)
    assert str(FLIGHTS) not in json.dumps([event.data for event in turn]).replace(",", "")


def test_the_printed_commands_work_as_they_stand(platform: StartedPlatform) -> None:
    """What `make up` prints is copied into a shell and answers."""
    import subprocess

    lines = [line.strip() for line in platform.said().splitlines()]
    commands = [line for line in lines if line.startswith(("export TOKEN", "curl"))]
    assert len(commands) == 4
    script = "set -e\n" + "\n".join(commands)
    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert '"rows"' in ran.stdout
    assert "event: done" in ran.stdout
    assert '"vmStatus"' in ran.stdout
