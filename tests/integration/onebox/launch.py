"""`weir up` as a process of its own, with stand-ins for the services: launch.py <port> <data dir>."""

import os
import sys
from pathlib import Path

import asyncpg

from weir.onebox.plan import OneboxSettings
from weir.onebox.up import Steps, run_up


async def migrate(dsn: str) -> None:
    if os.environ.get("MIGRATION_FAILS"):
        raise RuntimeError("migration 0001 is wrong\nwith details")
    connection = await asyncpg.connect(dsn)
    await connection.execute("create table if not exists starts (at timestamptz default now())")
    await connection.execute("insert into starts default values")
    count = await connection.fetchval("select count(*) from starts")
    await connection.close()
    print(f"start number {count}", flush=True)


async def seed(settings: OneboxSettings) -> None:
    print(f"seeding {settings.port}", flush=True)


port, data_dir = int(sys.argv[1]), Path(sys.argv[2])
sys.exit(
    run_up(
        OneboxSettings(
            port=port,
            data_dir=data_dir,
            database_url=os.environ.get("WEIR_DATABASE_URL"),
            redis_url=os.environ.get("WEIR_REDIS_URL"),
            demo=os.environ.get("WEIR_DEMO", "1") == "1",
            import_root=data_dir / "imports",
            environment=dict(os.environ),
        ),
        Steps(
            migrate=migrate,
            seed=seed,
            program=(sys.executable, str(Path(__file__).with_name("stand_in.py"))),
        ),
    )
)
