"""The public conformance suites: what is built passes, and what is not built yet is listed by name."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conformance import command_of, environment_of_a_platform, suites_folder

# Tests of features that later work brings, as `file.py::test`; each line goes when its feature comes.
LATER = Path(__file__).parent / "conformance_later.txt"

pytestmark = pytest.mark.skipif(
    not suites_folder().is_dir(), reason=f"the suites are not beside the project ({suites_folder()})"
)


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    with environment_of_a_platform() as told:
        yield told


def later(suite: str) -> set[str]:
    lines = LATER.read_text().splitlines()
    return {line.strip() for line in lines if line.startswith(f"test_{suite}_")}


@pytest.mark.timeout(420)
@pytest.mark.parametrize("suite", ["engine", "lake"])
def test_exactly_what_is_not_built_yet_does_not_pass(suite: str, environment: dict[str, str]) -> None:
    folder = suites_folder() / suite
    outcome = subprocess.run(
        command_of(folder, ["-rA", "--tb=line"]),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    told = re.findall(
        r"^(PASSED|FAILED|ERROR) (\S+?::\w+(?:\[.*?\])?)(?: - .*)?$", outcome.stdout, re.MULTILINE
    )
    passed = {name for verdict, name in told if verdict == "PASSED"}
    failed = {name for verdict, name in told if verdict != "PASSED"}
    assert passed, outcome.stdout[-3000:]
    assert failed - later(suite) == set(), "what should pass does not"
    assert later(suite) - failed == set(), f"passes now: take it out of {LATER.name}"
