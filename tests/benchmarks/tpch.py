"""TPC-H at scale factor 1: are the answers right, and how long do they take beside other engines."""

import asyncio
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
from tests.benchmarks.lake import sql
from tests.benchmarks.peers import BENCH, Side, environment, roapi
from tests.benchmarks.report import Report
from tests.benchmarks.standing import LAKE, Standing

ROUNDS = 3
_DECIMAL = re.compile(r"-?\d{1,38}(\.\d{1,38})?")
DUCKDB = ("duckdb==1.5.5", "duckdb-extension-tpch==1.5.5")


async def tpch(standing: Standing, report: Report) -> None:
    """The 22 queries, each asked of every engine in turn; the best of the rounds counts."""
    report.title(f"TPC-H, scale factor 1, 22 queries (best of {ROUNDS}, engines take turns)")
    folder = data()
    imports = standing.platform.data_dir / "imports" / "tpch"
    imports.mkdir(parents=True)
    for path in folder.glob("*.parquet"):
        os.link(path, imports / path.name)
        body = {"name": path.stem, "from": f"file:{(imports / path.name).resolve()}"}
        standing.client.post(f"{LAKE}/datasets", json=body).raise_for_status()
    duckdb = Side(environment("duckdb", *DUCKDB) / "python", "duckdb", folder)
    plain = Side(sys.executable, "datafusion", folder)
    try:
        queries = {row["query_nr"]: row["query"] for row in duckdb.ask("select * from tpch_queries()")[1]}
        with _roapi(folder) as url:
            engines: dict[str, Callable[[str], tuple[float, list[dict[str, Any]]]]] = {
                "weir": lambda text: _ask_weir(standing, text),
                "plain": plain.ask,
                "duckdb": duckdb.ask,
            }
            if url:
                engines["roapi"] = lambda text: _ask_roapi(url, text)
            await asyncio.to_thread(_compare, engines, queries, report)
    finally:
        plain.close()
        duckdb.close()


def _roapi(folder: Path) -> AbstractContextManager[str]:
    """It takes as long as all the others together: `BENCH_ROAPI=0` leaves it out."""
    if os.environ.get("BENCH_ROAPI") == "0":
        return nullcontext("")
    return roapi({path.stem: path for path in folder.glob("*.parquet")})


def _compare(engines: dict[str, Any], queries: dict[int, str], report: Report) -> None:
    best: dict[str, dict[int, float]] = {name: {} for name in engines}
    wrong: list[int] = []
    for number, text in sorted(queries.items()):
        for turn in range(ROUNDS):
            answers: dict[str, list[dict[str, Any]]] = {}
            for name, ask in engines.items():
                if name == "roapi" and turn:
                    continue  # it takes as long as all the others together
                taken, answers[name] = ask(text)
                best[name][number] = min(taken, best[name].get(number, taken))
            if not turn and not same(answers["weir"], answers["duckdb"]):
                wrong.append(number)
    told = f"{22 - len(wrong)}" + (f" (not {wrong})" if wrong else "")
    report.add("answers that are DuckDB's", told, "22", reached=not wrong)
    for number in queries:
        figures = "  ".join(f"{name} {best[name][number] * 1000:.0f}" for name in engines)
        ratio = best["weir"][number] / best["plain"][number]
        report.add(f"Q{number}, ms", figures, f"weir ÷ plain {ratio:.2f} ×")
    total = {name: sum(times.values()) for name, times in best.items()}
    report.add("in all", "  ".join(f"{name} {seconds:.2f} s" for name, seconds in total.items()))
    ratio = total["weir"] / total["plain"]
    report.add("through the gateway ÷ plain DataFusion", f"{ratio:.2f} ×", "≤ 1.10 ×", reached=ratio <= 1.1)
    report.add("through the gateway ÷ DuckDB", f"{total['weir'] / total['duckdb']:.2f} ×")
    report.add("plain DataFusion ÷ DuckDB", f"{total['plain'] / total['duckdb']:.2f} ×")
    if "roapi" in total:
        report.add("ROAPI ÷ through the gateway", f"{total['roapi'] / total['weir']:.2f} ×")


def data() -> Path:
    """The eight tables as parquet, made when first wanted."""
    folder = BENCH / "tpch-sf1"
    if not (folder / "lineitem.parquet").exists():
        program = environment("tpchgen", "tpchgen-cli") / "tpchgen-cli"
        subprocess.run([program, "parquet", "-s", "1", "-q", f"--output-dir={folder}"], check=True)
    return folder


def _ask_weir(standing: Standing, text: str) -> tuple[float, list[dict[str, Any]]]:
    started = time.perf_counter()
    answer = standing.client.post(
        f"{LAKE}/sql", content=sql(text, maxRows=100_000), headers={"cache-control": "no-cache"}
    )
    taken = time.perf_counter() - started
    answer.raise_for_status()
    body = json.loads(answer.text, parse_float=Decimal)
    # A JSON number does not say whether it is a decimal; the schema beside it does.
    floats = {column["name"] for column in body["schema"] if not column["type"].lower().startswith("decimal")}
    return taken, [{name: _plain(row[name], name in floats) for name in row} for row in body["rows"]]


def _plain(value: Any, is_float: bool) -> Any:
    return float(value) if is_float and isinstance(value, Decimal) else value


def _ask_roapi(url: str, text: str) -> tuple[float, list[dict[str, Any]]]:
    started = time.perf_counter()
    answer = httpx.post(f"{url}/api/sql", content=text, timeout=600)
    return time.perf_counter() - started, answer.json() if answer.status_code == 200 else []


def same(mine: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> bool:
    """Equal as lists of rows without order, names aside, number by number as `is_same` has it."""
    ours, others = _ordered(mine), _ordered(theirs)
    return len(ours) == len(others) and all(
        len(a) == len(b) and all(map(is_same, a, b)) for a, b in zip(ours, others, strict=True)
    )


def is_same(mine: Any, theirs: Any) -> bool:
    """Decimals of one scale exactly, of two after rounding to the shorter, which must keep some digits to compare.

    Beside a float a decimal is rounded likewise: an average of decimals has six places here, and is a float in
    DuckDB. Two floats are one within a part in a thousand million, for sums depend on their order.
    """
    if isinstance(mine, float) and isinstance(theirs, float):
        return math.isclose(mine, theirs, rel_tol=1e-9)
    if isinstance(mine, Decimal | float) and isinstance(theirs, Decimal | float):
        return _within_a_last_place(mine, theirs)
    return mine == theirs


def _within_a_last_place(mine: Decimal | float, theirs: Decimal | float) -> bool:
    exact = [value for value in (mine, theirs) if isinstance(value, Decimal)]
    places = min(-int(value.as_tuple().exponent) for value in exact)
    if len(exact) == 2:
        step = Decimal(1).scaleb(-places)
        return exact[0].quantize(step) == exact[1].quantize(step)
    # The engine cuts an average off where a float goes on.
    return math.isclose(mine, theirs, rel_tol=1e-9, abs_tol=10.0**-places)


def _ordered(rows: list[dict[str, Any]]) -> list[list[Any]]:
    """By their texts and whole numbers first: other numbers may differ a little."""
    listed = [[_value(value) for value in row.values()] for row in rows]
    return sorted(
        listed, key=lambda row: ([str(v) for v in row if not isinstance(v, float | Decimal)], str(row))
    )


def _value(value: Any) -> Any:
    """A number as what it is: decimals arrive as text, floats and whole numbers as themselves."""
    if isinstance(value, int | float | Decimal | None):
        return value
    text = str(value)
    if not _DECIMAL.fullmatch(text):
        return text
    return Decimal(text) if "." in text else int(text)
