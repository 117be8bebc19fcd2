"""The release before this one lives on the schema of this one, as it must while a rollout replaces it."""

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from tests.promises import Promise, size
from tests.starting import ROOT

# The release before this one; a release that is published puts its own commit here.
OLDER = "adb37dfedd3df4c2a0e4b1b5dcfcebff08f62d22"
MIGRATIONS = Path("shared/weir_shared/db/migrations")
# What the newer migrations touch, and a little of everything else; the full size is all that uses a database.
CHOSEN = (
    "tests/integration/agent_engine/test_knowledge.py::test_meaning_and_words_are_both_found_and_a_threshold_keeps_the_far_away_out",
    "tests/integration/agent_engine/test_knowledge.py::test_a_file_is_indexed_anew_while_it_can_be_found",
    "tests/integration/agent_engine/test_knowledge.py::test_another_tenant_sees_nothing",
    "tests/integration/agent_engine/test_sessions.py",
    "tests/integration/context_lake/test_patch.py",
)
EVERYTHING = ("tests/integration/agent_engine", "tests/integration/context_lake", "tests/integration/gateway")


def older_release(folder: Path) -> None:
    """Its code and its tests, with the migrations of this one: skipped where the history is not there."""
    archive = subprocess.run(
        ["git", "archive", "--format=tar", OLDER], cwd=ROOT, capture_output=True, check=False
    )
    if archive.returncode != 0:
        pytest.skip(f"the release {OLDER[:7]} is not in this clone's history")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as packed:
        packed.extractall(folder, filter="data")


def newer_migrations(folder: Path) -> list[str]:
    theirs = {file.name for file in (folder / MIGRATIONS).glob("*.sql")}
    ours = {file.name for file in (ROOT / MIGRATIONS).glob("*.sql")}
    assert theirs <= ours
    for name in ours - theirs:
        shutil.copy(ROOT / MIGRATIONS / name, folder / MIGRATIONS / name)
    return sorted(ours - theirs)


@pytest.mark.promise("P25")
@pytest.mark.timeout(size(170, 3000))
def test_the_older_release_passes_its_tests_on_the_schema_of_this_one(
    tmp_path: Path, promise: Promise
) -> None:
    older_release(tmp_path)
    newer = newer_migrations(tmp_path)
    chosen = size(CHOSEN, EVERYTHING)
    paths = os.pathsep.join(str(tmp_path / name) for name in ("services", "shared", ""))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]

    outcome = subprocess.run(
        [*command, *chosen],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )

    assert outcome.returncode == 0, outcome.stdout[-6000:]
    passed = re.search(r"(\d+) passed", outcome.stdout)
    assert passed is not None
    promise.held(
        f"the release {OLDER[:7]} on a schema with {len(newer)} newer migrations: "
        f"{passed[1]} of its own tests, 0 failed"
    )
