"""`weir <command>`: the map of the system, and the only place that imports the rooms lazily."""

import argparse
import os
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from weir import __version__
from weir.command_line.parser import add_lake, run_lake

if TYPE_CHECKING:
    from weir_shared.db.pool import Database
    from weir_shared.settings import Settings

Command = Callable[["Settings"], int]
T = TypeVar("T")


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns the exit code; a setting that is wrong stops it with one sentence."""
    chosen = build_parser()[0].parse_args(arguments)
    # Somebody who uses a lake waits for nothing of the platform's own, its settings included.
    return run_lake(chosen) if chosen.command == "lake" else _run(chosen)


def build_parser() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """The parser of everything, and that of `weir lake` in it."""
    parser = argparse.ArgumentParser(prog="weir", description=__doc__)
    parser.add_argument("--version", action="version", version=f"weir {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    lake = add_lake(commands)
    for name, (command, meaning) in COMMANDS.items():
        commands.add_parser(name, help=meaning, description=meaning).set_defaults(run=command)
    return parser, lake


def _run(chosen: argparse.Namespace) -> int:
    from weir_shared.auth.keys import UnusableKey  # noqa: PLC0415
    from weir_shared.sealing import SealError  # noqa: PLC0415
    from weir_shared.settings import SettingError, read_settings  # noqa: PLC0415

    try:
        return chosen.run(read_settings())
    except (SettingError, UnusableKey, SealError) as fault:
        print(f"weir {chosen.command}: {fault}", file=sys.stderr)  # noqa: T201
        return 1
    except ModuleNotFoundError as fault:
        missing = f"the package '{fault.name}' is missing here; `make clean` and `make up` install it again"
        print(f"weir {chosen.command}: {missing}", file=sys.stderr)  # noqa: T201
        return 1


def up(settings: "Settings") -> int:
    from weir.onebox.demo import add_demo  # noqa: PLC0415
    from weir.onebox.plan import OneboxSettings  # noqa: PLC0415
    from weir.onebox.up import Steps, run_up  # noqa: PLC0415
    from weir_shared.db.migrate import migrate  # noqa: PLC0415

    _prove_keys(settings)
    onebox = OneboxSettings(
        port=settings.port,
        host=settings.host,
        data_dir=settings.data_dir,
        database_url=settings.database_url,
        redis_url=settings.redis_url,
        demo=settings.demo,
        import_root=settings.imports,
        environment=dict(os.environ),
    )
    return run_up(onebox, Steps(migrate=migrate, seed=add_demo))


def _prove_keys(settings: "Settings") -> None:
    """Raises UnusableKey or SealError now rather than in the logs of services that cannot start."""
    from weir_shared.auth.keys import (  # noqa: PLC0415
        JWT_KEY,
        TICKET_KEY,
        load_or_create_key_pair,
        load_public_key,
    )
    from weir_shared.sealing import load_or_create_keys  # noqa: PLC0415

    if settings.jwt_public_key_path is not None and settings.auth_mode == "external":
        load_public_key(settings.jwt_public_key_path)
    for name in (JWT_KEY, TICKET_KEY):
        # Only what is there already: a first start makes them, in a directory that nobody else may open.
        if (settings.keys_dir / f"{name}.priv").exists():
            load_or_create_key_pair(settings.keys_dir, name)
    if (settings.keys_dir / "kek").exists():
        load_or_create_keys(settings.keys_dir / "kek")


def gateway(settings: "Settings") -> int:
    from weir.gateway.app import create_app  # noqa: PLC0415

    return _serve(create_app, "gateway", settings, (settings.host, settings.port))


def context_lake(settings: "Settings") -> int:
    from weir.context_lake.app import create_app  # noqa: PLC0415

    return _serve(create_app, "context-lake", settings, None)


def agent_engine(settings: "Settings") -> int:
    from weir.agent_engine.app import create_app  # noqa: PLC0415

    return _serve(create_app, "agent-engine", settings, None)


def worker(settings: "Settings") -> int:
    from weir.worker.app import run_worker  # noqa: PLC0415
    from weir_shared.telemetry.logs import configure_logs  # noqa: PLC0415

    configure_logs("worker", settings.log_level)
    return run_worker(settings)


def lake_host(settings: "Settings") -> int:
    from weir.lake_runtime.allocator import keep_freed_pages  # noqa: PLC0415

    keep_freed_pages()
    from weir.lake_runtime.box import BoxMissing  # noqa: PLC0415
    from weir.lake_runtime.zygote import HostSettings  # noqa: PLC0415
    from weir.lake_runtime.zygote import main as run_host  # noqa: PLC0415
    from weir_shared.settings import SettingError  # noqa: PLC0415

    try:
        run_host(HostSettings(control_socket=settings.host_socket, sandbox=settings.vm_sandbox))
    except BoxMissing as fault:
        raise SettingError(f"WEIR_VM_SANDBOX=bwrap: {fault}") from None
    return 0


def demo_model(settings: "Settings") -> int:
    from weir.demo_model.app import serve_demo_model  # noqa: PLC0415
    from weir_shared.telemetry.logs import configure_logs  # noqa: PLC0415

    configure_logs("demo-model", settings.log_level)
    return serve_demo_model(settings)


def migrate(settings: "Settings") -> int:
    import asyncio  # noqa: PLC0415

    from weir_shared.db.migrate import MigrationError, migrate  # noqa: PLC0415
    from weir_shared.settings import SettingError  # noqa: PLC0415

    if settings.database_url is None:
        raise SettingError("weir migrate needs WEIR_DATABASE_URL")
    try:
        applied = asyncio.run(migrate(settings.database_url))
    except (MigrationError, OSError) as fault:
        print(f"weir migrate: {fault}", file=sys.stderr)  # noqa: T201
        return 1
    print("\n".join(applied) or "nothing to apply")  # noqa: T201
    return 0


def settings_page(_: "Settings") -> int:
    from weir_shared.settings import document_settings  # noqa: PLC0415

    rows = [f"| `{doc.variable}` | `{doc.default}` | {doc.meaning} |" for doc in document_settings()]
    print("\n".join(["| variable | default | meaning |", "| --- | --- | --- |", *rows]))  # noqa: T201
    return 0


def connectors_page(_: "Settings") -> int:
    from weir.context_lake.connectors.documented import page  # noqa: PLC0415

    print(page(), end="")  # noqa: T201
    return 0


def commands_page(_: "Settings") -> int:
    from weir.command_line.documented import page  # noqa: PLC0415

    meanings = {name: meaning for name, (_, meaning) in COMMANDS.items()}
    print(page(build_parser()[1], meanings), end="")  # noqa: T201
    return 0


def rotate_keys(settings: "Settings") -> int:
    from weir_shared.sealing import rotate_keys  # noqa: PLC0415

    done = _with_database(settings, lambda database: rotate_keys(database, settings.keys_dir / "kek"))
    print(f"{done.rewrapped} data keys are wrapped with the key {done.newest}")  # noqa: T201
    return 0


def drop_keys(settings: "Settings") -> int:
    from weir_shared.sealing import drop_keys  # noqa: PLC0415

    dropped, needed = _with_database(
        settings, lambda database: drop_keys(database, settings.keys_dir / "kek")
    )
    print(f"dropped: {', '.join(dropped) or 'none'}")  # noqa: T201
    if needed:
        print(f"still needed: {', '.join(needed)}; run weir rotate-keys first", file=sys.stderr)  # noqa: T201
    return 1 if needed else 0


def _with_database(settings: "Settings", work: "Callable[[Database], Awaitable[T]]") -> T:
    """Runs something on the database and closes it."""
    import asyncio  # noqa: PLC0415

    from weir_shared.db.pool import open_database  # noqa: PLC0415
    from weir_shared.settings import SettingError  # noqa: PLC0415

    dsn = settings.database_url
    if dsn is None:
        raise SettingError("This command needs WEIR_DATABASE_URL")

    async def run() -> T:
        database = await open_database(dsn, size=2)
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(run())


def _serve(
    create_app: "Callable[[Settings], object]",
    service: str,
    settings: "Settings",
    address: tuple[str, int] | None,
) -> int:
    from weir_shared.telemetry.logs import configure_logs  # noqa: PLC0415
    from weir_shared.web.server import address_of, serve  # noqa: PLC0415

    configure_logs(service, settings.log_level)
    url = {"context-lake": settings.lake_url, "agent-engine": settings.engine_url}.get(service, "")
    host, port = address or address_of(url)
    # The gateway is the one that ends a caller who stalls; a room that waits for the gateway has a little more patience.
    patience = settings.stalled_reader_seconds + (0 if service == "gateway" else 10)
    serve(create_app(settings), host=host, port=port, stalled_reader_seconds=patience)
    return 0


COMMANDS: dict[str, tuple[Command, str]] = {
    "up": (up, "start the whole platform on this machine"),
    "gateway": (gateway, "serve the gateway"),
    "context-lake": (context_lake, "serve the context lake's control plane"),
    "agent-engine": (agent_engine, "serve the agent engine"),
    "worker": (worker, "run background jobs"),
    "lake-host": (lake_host, "fork and watch the lake's runtimes"),
    "demo-model": (demo_model, "serve the scripted demo model"),
    "migrate": (migrate, "bring the database to this version"),
    "settings": (settings_page, "print every setting as a table"),
    "connectors": (connectors_page, "print every connector's parameters as a page"),
    "commands": (commands_page, "print every command of this program as a page"),
    "rotate-keys": (rotate_keys, "wrap every tenant's data key with a new key-encryption key"),
    "drop-keys": (drop_keys, "set aside the older key-encryption keys that nothing needs"),
}

if __name__ == "__main__":
    sys.exit(main())
