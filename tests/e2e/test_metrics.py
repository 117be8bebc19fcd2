"""The metrics of a started platform are true: they say what a client has counted, no more and no less."""

import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.e2e.reading import Event, chat, events
from tests.promises import Promise
from tests.unit.shared.test_metrics_page import OTHERS, PAGE, ROW

LAKE = "/v1/context-lake"
# The last line of an answer's bookkeeping is written after its last byte.
SETTLE_SECONDS = 15


@dataclass(frozen=True)
class Scrape:
    """One exposition, read by the official parser."""

    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def total(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        wanted = set(labels.items())
        return sum(value for (known, has), value in self.samples.items() if known == name and wanted <= has)


@dataclass(frozen=True)
class Watch:
    """What has been added since it began."""

    client: httpx.Client
    before: Scrape

    def added(self, name: str, **labels: str) -> float:
        return scrape(self.client).total(name, **labels) - self.before.total(name, **labels)

    def settles(self, expected: float, name: str, **labels: str) -> None:
        """It comes to exactly this, and stays there."""
        until(lambda: self.added(name, **labels) >= expected, f"{name} {labels} of {expected}")
        assert self.added(name, **labels) == expected, (name, labels)


def scrape(client: httpx.Client) -> Scrape:
    answered = client.get("/metrics")
    assert answered.status_code == 200
    families = list(text_string_to_metric_families(answered.text))
    names = [family.name for family in families]
    assert len(names) == len(set(names)), "a family is told in two places"
    samples = [sample for family in families for sample in family.samples]
    found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples), "a sample is told twice"
    return Scrape(found)


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"not within {SETTLE_SECONDS} s: {what}"
        time.sleep(0.1)


@pytest.fixture
def watch(admin: httpx.Client) -> Watch:
    """Begins when nothing is under way any more."""
    until(lambda: scrape(admin).total("weir_sse_open") == 0, "an end of other streams")
    return Watch(admin, scrape(admin))


@pytest.mark.promise("P27")
def test_requests_are_counted_by_template_method_and_status(
    watch: Watch, admin: httpx.Client, promise: Promise
) -> None:
    name = f"none-{uuid.uuid4().hex}"
    for _ in range(17):
        assert admin.get("/api/v1/agents").status_code == 200
    for n in range(5):
        assert admin.get(f"/api/v1/agents/{name}{n}").status_code == 404
    with httpx.Client(base_url=str(admin.base_url)) as nobody:
        for _ in range(3):
            assert nobody.get("/api/v1/agents").status_code == 401
    for n in range(4):
        assert admin.get(f"/nowhere/{name}{n}").status_code == 404
    of = {"name": "weir_http_requests_total", "service": "gateway", "method": "GET"}
    watch.settles(17, **of, route="/api/v1/agents", status="200")
    watch.settles(5, **of, status="404", route="/api/v1/agents/{name}")
    watch.settles(4, **of, status="404", route="unmatched")
    watch.settles(3, **of, status="401")
    watch.settles(3, "weir_auth_failures_total", reason="missing_api_key")
    watch.settles(0, "weir_auth_failures_unnoted_total")
    watch.settles(17, **{**of, "service": "agent-engine"}, route="/api/v1/agents", status="200")
    seconds = "weir_http_request_duration_seconds_count"
    # Those without a credential have been refused before a room could name their template.
    watch.settles(17, seconds, service="gateway", route="/api/v1/agents", method="GET")
    assert not [labels for _, labels in scrape(admin).samples if name in str(labels)]
    promise.held("29 requests of 4 outcomes, by route, method and status: equal, ±0")


@pytest.mark.promise("P27")
def test_turns_tools_and_tokens_are_what_their_reader_has_seen(
    watch: Watch, admin: httpx.Client, promise: Promise
) -> None:
    used = admin.get("/api/v1/usage").json()["total"]
    questions = ["How many flights are there?", "List the tables", "Please write me a poem"]
    told = [event for question in questions for event in chat(admin, question)]
    done = [event.data for event in told if event.name == "done"]
    calls = Counter(
        (event.data["tool"], "failed" if event.data["has_error"] else "completed")
        for event in told
        if event.name == "tool_result"
    )
    assert calls
    watch.settles(len(questions), "weir_turns_total", result="completed")
    assert watch.added("weir_turns_total") == len(questions)
    watch.settles(len(questions), "weir_llm_turn_seconds_count")
    for (tool, status), times in calls.items():
        watch.settles(times, "weir_tool_calls_total", tool=tool, status=status)
    watch.settles(calls.total(), "weir_tool_calls_total")
    watch.settles(calls.total(), "weir_tool_call_seconds_count")
    watch.settles(
        sum(tool == "lake_query" for tool, _ in calls.elements()), "weir_lake_sql_duration_seconds_count"
    )
    now = admin.get("/api/v1/usage").json()["total"]
    tokens = sum(data["total_tokens"] for data in done)
    assert tokens > 0
    assert now["total_tokens"] - used["total_tokens"] == tokens
    input_and_output = [watch.added("weir_llm_tokens_total", kind=kind) for kind in ("input", "output")]
    assert sum(input_and_output) == tokens
    asked = now["requests"] - used["requests"]
    watch.settles(asked, "weir_llm_requests_total", result="ok")
    assert watch.added("weir_llm_requests_total") == asked
    assert watch.added("weir_llm_request_duration_seconds_count") == asked
    # Each answer of a model is a step.
    assert watch.added("weir_agent_steps_sum") == asked
    assert watch.added("weir_agent_steps_count") == len(questions)
    promise.held(
        f"{len(questions)} turns, {calls.total()} tool calls, {asked} model calls, {tokens} tokens: equal, ±0"
    )


@pytest.mark.promise("P27")
def test_queries_are_counted_by_how_they_went_and_their_bytes_are_the_clients(
    watch: Watch, admin: httpx.Client, promise: Promise
) -> None:
    size = 0
    for n in range(7):
        answered = admin.post(f"{LAKE}/sql", json={"query": f"select * from flights limit {n * 100}"})
        assert answered.status_code == 200
        size += int(answered.headers.get("content-length") or len(answered.content))
    for query in ("select * from nowhere", "selec 1", "select nothing from flights"):
        assert admin.post(f"{LAKE}/sql", json={"query": query}).json()["code"] == "sql_error"
    watch.settles(7, "weir_lake_sql_duration_seconds_count", result="ok")
    watch.settles(3, "weir_lake_sql_duration_seconds_count", result="sql_error")
    watch.settles(10, "weir_lake_sql_duration_seconds_count")
    assert watch.added("weir_lake_sql_bytes_total") == size
    watch.settles(0, "weir_lake_sql_running")
    counted = {"service": "gateway", "method": "POST"}
    assert watch.added("weir_http_requests_total", **counted, status="200") == 7
    assert watch.added("weir_http_requests_total", **counted, status="400") == 3
    promise.held(f"10 queries by outcome, {size} bytes of answers: equal, ±0")


def test_a_stream_that_its_reader_leaves_is_counted_and_the_turn_ends_all_the_same(
    watch: Watch, admin: httpx.Client
) -> None:
    chat(admin, "List the tables")
    body = {"message": "How many flights are there?"}
    with admin.stream("POST", "/api/v1/schemas/ask-the-lake/chat", json=body) as response:
        first: Event = next(events(response))
        assert first.name != "done"
    watch.settles(2, "weir_turns_total", result="completed")
    watch.settles(1, "weir_sse_aborted_total")
    until(lambda: scrape(admin).total("weir_sse_open") == 0, "the end of every stream")
    until(lambda: scrape(admin).total("weir_active_sessions") == 0, "the end of every turn")


def test_requests_that_a_rule_refuses_are_counted(watch: Watch, admin: httpx.Client) -> None:
    tiers = {"free": {"requests": 3, "window": "1h"}}
    rule = {"name": "few", "key_header": "X-Org-Id", "default_tier": "free", "tiers": tiers}
    assert admin.put("/api/v1/settings/rate_limits", json={"value": [rule]}).status_code == 200
    try:
        org = {"X-Org-Id": uuid.uuid4().hex}
        statuses = Counter(admin.get("/api/v1/agents", headers=org).status_code for _ in range(8))
    finally:
        assert admin.put("/api/v1/settings/rate_limits", json={"value": []}).status_code == 200
    assert statuses == {200: 3, 429: 5}
    watch.settles(5, "weir_rate_limited_total")
    watch.settles(5, "weir_http_requests_total", service="gateway", status="429")
    watch.settles(0, "weir_rate_limits_unavailable_total")


def test_the_gauges_of_the_ledger_say_what_the_ledger_says(admin: httpx.Client) -> None:
    admin.post(f"{LAKE}/sql", json={"query": "select 1"})
    # The worker counts every 5 s.
    until(lambda: scrape(admin).total("weir_lake_vm_state", state="running") == 1, "one runtime that runs")
    found = scrape(admin)
    assert found.total("weir_lake_vm_state") == 1
    assert found.total("weir_confirmations_pending") == 0
    assert found.total("weir_queue_depth") == 0
    assert found.total("weir_secrets_kek_refs") == 1
    assert (found.total("weir_database_up"), found.total("weir_redis_up")) == (1, 1)
    assert found.total("weir_up") == found.total("weir_build_info") == 4
    assert found.total("weir_database_connections", service="gateway") >= 1


def test_every_metric_that_is_told_is_documented(admin: httpx.Client) -> None:
    page = {name: kind for name, kind, *_ in ROW.findall(PAGE.read_text())}
    assert page.keys() >= OTHERS
    kinds = {
        line.split(" ")[2]: line.split(" ")[3]
        for line in admin.get("/metrics").text.splitlines()
        if line.startswith("# TYPE ") and not line.split(" ")[2].endswith("_created")
    }
    assert len(kinds) > 40
    assert kinds.items() <= page.items()
