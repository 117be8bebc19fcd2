"""An engine beside the platform: answers SQL over a folder of parquet files, a JSON line a statement.

Run by whatever interpreter has the engine: `python side.py duckdb|datafusion <folder>`. It imports nothing of ours.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Ask = Callable[[str], list[dict[str, Any]]]


def main() -> None:
    ask = {"duckdb": open_duckdb, "datafusion": open_datafusion}[sys.argv[1]](Path(sys.argv[2]))
    for line in sys.stdin:
        started = time.perf_counter()
        rows = ask(json.loads(line))
        taken = time.perf_counter() - started
        print(json.dumps({"seconds": taken, "rows": rows}, default=str), flush=True)


def open_duckdb(folder: Path) -> Ask:
    import duckdb
    import duckdb_extension_tpch  # pyright: ignore[reportMissingImports]

    connection = duckdb.connect()
    extension = next(Path(str(duckdb_extension_tpch.__file__)).parent.rglob("tpch.duckdb_extension"))
    connection.execute(f"load '{extension}'")
    connection.execute(f"set threads = {os.cpu_count()}")
    for path in folder.glob("*.parquet"):
        connection.execute(f"create view {path.stem} as select * from read_parquet('{path}')")

    def ask(sql: str) -> list[dict[str, Any]]:
        cursor = connection.execute(sql)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    return ask


def open_datafusion(folder: Path) -> Ask:
    import pyarrow as pa
    from datafusion import SessionConfig, SessionContext

    config = SessionConfig().with_batch_size(16_384).with_target_partitions(os.cpu_count() or 1)
    config = config.set("datafusion.execution.perfect_hash_join_small_build_threshold", str(4 * 1024 * 1024))
    config = config.set("datafusion.execution.perfect_hash_join_min_key_density", "0.05")
    for name, value in json.loads(os.environ.get("SIDE_SETTINGS", "{}")).items():
        config = config.set(name, value)
    context = SessionContext(config)
    for path in folder.glob("*.parquet"):
        context.register_parquet(path.stem, str(path))

    def ask(sql: str) -> list[dict[str, Any]]:
        batches = [batch.to_pyarrow() for batch in context.sql(sql).execute_stream()]
        return pa.Table.from_batches(batches).to_pylist() if batches else []

    return ask


if __name__ == "__main__":
    main()
