"""One platform with its demo, started once for all the walks."""

from collections.abc import Iterator

import httpx
import pytest
from tests.starting import StartedPlatform, started


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedPlatform]:
    with started(tmp_path_factory.mktemp("weir")) as running:
        yield running


@pytest.fixture
def admin(platform: StartedPlatform) -> Iterator[httpx.Client]:
    with platform.client() as client:
        yield client
