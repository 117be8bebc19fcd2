"""Who may import whom: the house rules that import-linter's contracts and these tests enforce."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"weir": ROOT / "services", "weir_shared": ROOT / "shared"}

# Each library, and the only places that may import it.
KEPT_LIBRARIES = {
    "datafusion": ("weir.lake_runtime",),
    "asyncpg": ("weir_shared.db", "weir.onebox"),
    "arq": ("weir_shared.queue", "weir.worker"),
}
# What starts a room's app stands above it.
STARTERS = ("app", "serve", "zygote")
MAY_SPEAK_HTTP = ("routes", "app", "relay", "web", "auth", "telemetry")


def modules() -> Iterator[tuple[str, Path]]:
    for folder in PACKAGES.values():
        for path in sorted(folder.rglob("*.py")):
            name = ".".join(path.relative_to(folder).with_suffix("").parts)
            yield name.removesuffix(".__init__"), path


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def under(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def test_the_import_contracts_are_kept() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()"]
    environment = {"PYTHONPATH": ":".join(str(folder) for folder in PACKAGES.values()), "PATH": "/usr/bin"}
    outcome = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


@pytest.mark.parametrize("library", KEPT_LIBRARIES)
def test_a_kept_library_is_imported_only_where_it_belongs(library: str) -> None:
    importers = {name for name, path in modules() if any(under(found, library) for found in imports_of(path))}
    strangers = {name for name in importers if not name.startswith(KEPT_LIBRARIES[library])}
    assert strangers == set()
    assert importers, f"nobody imports {library}: this rule guards nothing"


def test_verbs_and_tables_know_nothing_of_http() -> None:
    speakers = {
        name for name, path in modules() if any(under(found, "litestar") for found in imports_of(path))
    }
    assert {name for name in speakers if not set(name.split(".")) & set(MAY_SPEAK_HTTP)} == set()


def test_the_worker_imports_only_the_rooms_jobs() -> None:
    rooms = ("weir.context_lake", "weir.agent_engine", "weir.gateway", "weir.lake_runtime")
    reached = {
        found
        for name, path in modules()
        if under(name, "weir.worker")
        for found in imports_of(path)
        if found.startswith(rooms)
    }
    assert {found for found in reached if found.split(".")[2:3] != ["jobs"]} - set(rooms) == set()


@pytest.mark.parametrize("lower", ["tables", "verbs"])
def test_within_a_room_nobody_imports_upwards(lower: str) -> None:
    offenders: list[str] = []
    for name, path in modules():
        parts = name.split(".")
        room = ".".join(parts[:2])
        in_tables = "tables" in parts
        in_verbs = not in_tables and "routes" not in parts and parts[-1] not in STARTERS and len(parts) > 2
        if not (in_tables if lower == "tables" else in_verbs):
            continue
        upper = (f"{room}.routes", f"{room}.app")
        offenders += [f"{name} imports {found}" for found in imports_of(path) if found.startswith(upper)]
    assert offenders == []
