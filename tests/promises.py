"""Promises of the platform (docs/operations/promises.md) and the figures of the tests that prove them.

A test that is marked `promise("P4")` says at its end `promise.held(figures)`; the run prints `PROMISE P04 held: …` for
each. One that passes without having said so has proved nothing, and fails. `FULL=1` asks for the full sizes.
"""

import os
from collections.abc import Generator
from typing import Any, TypeVar

import pytest

T = TypeVar("T")

FULL = os.environ.get("FULL") == "1"
FIGURES = pytest.StashKey[list[str]]()
_SAID = pytest.StashKey[list[str]]()


def size(smoke: T, full: T) -> T:
    """The size of a proof: for every run, or before a release."""
    return full if FULL else smoke


def line_of(promise: str, figures: str) -> str:
    return f"PROMISE P{int(promise.removeprefix('P')):02d} held: {figures}"


class Promise:
    """What a test says of the promise that it proves."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item
        self._names = [mark.args[0] for mark in item.iter_markers("promise")]

    def held(self, figures: str, promise: str | None = None) -> None:
        """`promise` only where the test is marked with several."""
        [name] = [promise] if promise else self._names
        assert name in self._names, f"the test is not marked with {name}"
        self._item.stash.setdefault(_SAID, []).append(line_of(name, figures))


@pytest.fixture
def promise(request: pytest.FixtureRequest) -> Promise:
    return Promise(request.node)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if item.get_closest_marker("promise") is None or call.when != "call" or not report.passed:
        return report
    said = item.stash.get(_SAID, [])
    if not said:
        report.outcome, report.longrepr = (
            "failed",
            "The proof of a promise tells its figures: promise.held(…)",
        )
    item.config.stash.setdefault(FIGURES, []).extend(said)
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    figures = config.stash.get(FIGURES, [])
    if figures:
        terminalreporter.section("promises")
        for line in sorted(figures):
            terminalreporter.write_line(line)
