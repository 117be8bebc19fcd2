"""What is missing on a machine is said in one sentence, with what to do about it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.starting import ROOT


def install(venv: Path, python: str, lock: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(ROOT / "deploy" / "install.sh"), python, str(venv), str(lock)]
    return subprocess.run(
        command,
        cwd=venv.parent,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """A lock file of one package that no index holds."""
    path = tmp_path / "requirements.lock"
    path.write_text("weir-has-no-such-package==1.0 \\\n    --hash=sha256:" + "0" * 64 + "\n")
    return path


def test_a_python_that_is_not_there_is_said(tmp_path: Path, lock: Path) -> None:
    outcome = install(tmp_path / "venv", "python9.99", lock)
    assert outcome.returncode != 0
    assert "Python 3.11 or newer is needed and 'python9.99' was not found" in outcome.stderr


def test_a_python_that_is_too_old_is_said(tmp_path: Path, lock: Path) -> None:
    old = tmp_path / "python-old"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.8.1"\nexit 1\n')
    old.chmod(0o755)
    outcome = install(tmp_path / "venv", str(old), lock)
    assert outcome.returncode != 0
    assert "Python 3.8.1 is too old" in outcome.stderr


def test_an_index_that_does_not_answer_is_said(tmp_path: Path, lock: Path) -> None:
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:1/", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull}
    nowhere |= {"PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": ""}
    outcome = install(tmp_path / "venv", "python3", lock, **nowhere)
    assert outcome.returncode != 0
    assert "is a package index reachable?" in outcome.stderr
    assert (tmp_path / "venv" / "install.log").exists()


def test_a_package_that_went_missing_is_said(tmp_path: Path) -> None:
    """The rooms are imported when their command runs; one whose library is gone names it."""
    (tmp_path / "litestar.py").write_text(
        "raise ModuleNotFoundError('No module named litestar', name='litestar')"
    )
    paths = os.pathsep.join([str(tmp_path), str(ROOT / "services"), str(ROOT / "shared")])
    outcome = subprocess.run(
        [sys.executable, "-m", "weir", "gateway"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert outcome.returncode == 1
    assert "the package 'litestar' is missing here" in outcome.stderr
    assert "Traceback" not in outcome.stderr
