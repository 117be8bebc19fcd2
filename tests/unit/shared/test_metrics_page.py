"""The metrics' page and the dashboard against the metrics that the code makes."""

import importlib
import json
import re
from pathlib import Path

import pytest

from weir_shared.telemetry.metrics import MADE, MetricDoc

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "reference" / "metrics.md"
DASHBOARD = ROOT / "deploy" / "grafana" / "weir.json"
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| ([^|]*) \|$", re.MULTILINE)
# Made by the joined scrape and by the client library, and not by a call of ours.
OTHERS = {
    "weir_up",
    "weir_process_cpu_seconds_total",
    "weir_process_max_fds",
    "weir_process_open_fds",
    "weir_process_resident_memory_bytes",
    "weir_process_start_time_seconds",
    "weir_process_virtual_memory_bytes",
}
MAKES = re.compile(r"^(?:[A-Z_]+ = )?(?:counter|gauge|histogram)\(", re.MULTILINE)


@pytest.fixture(scope="module")
def made() -> dict[str, MetricDoc]:
    """Every metric of the code, by its name."""
    for root in (ROOT / "services", ROOT / "shared"):
        for path in root.rglob("*.py"):
            if MAKES.search(path.read_text()):
                importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts))
    return {one.name: one for one in MADE}


def test_the_page_says_exactly_what_the_code_says(made: dict[str, MetricDoc]) -> None:
    told = {
        name: MetricDoc(name, kind, tuple(re.findall(r"`(\w+)`", labels)), meaning)
        for name, kind, labels, meaning in ROW.findall(PAGE.read_text())
    }
    assert {name: doc for name, doc in told.items() if name not in OTHERS} == made
    assert told.keys() >= OTHERS


def test_no_metric_is_made_twice_and_none_names_a_tenant(made: dict[str, MetricDoc]) -> None:
    assert len(MADE) == len(made)
    assert not [one for one in MADE if any("tenant" in label for label in one.labels)]
    assert all(one.name.endswith("_total") == (one.kind == "counter") for one in MADE)


def test_the_dashboard_shows_metrics_that_exist(made: dict[str, MetricDoc]) -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ()) if target]
    assert len(asked) >= 12
    for expression in asked:
        names = re.findall(r"\bweir_\w+", expression)
        assert names, expression
        for name in names:
            stem = re.sub(r"_(bucket|sum|count)$", "", name)
            known = name in made or name in OTHERS or (stem in made and made[stem].kind == "histogram")
            assert known, f"{name} in {expression}"


def test_the_dashboard_groups_by_labels_that_exist(made: dict[str, MetricDoc]) -> None:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            [stem] = {
                re.sub(r"_(bucket|sum|count)$", "", n) for n in re.findall(r"\bweir_\w+", target["expr"])
            }
            labels = {"service", "le", *(made[stem].labels if stem in made else ())}
            for group in re.findall(r"by \(([^)]*)\)", target["expr"]):
                assert set(group.split(", ")) <= labels, target["expr"]
