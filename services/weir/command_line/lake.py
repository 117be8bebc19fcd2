"""`weir lake …`: one function a command, each the shortest way to the platform's own route."""

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from weir.command_line.failures import Exit, Failure
from weir.command_line.platform import Platform, named
from weir.command_line.printing import Form, form_of, say, show, show_json, write, write_bytes
from weir.command_line.progress import bar

ENDINGS = (".csv", ".tsv", ".parquet", ".json", ".jsonl", ".ndjson")
PAGE = 1000


def tables(platform: Platform, chosen: Namespace) -> None:
    """What a query may name, read from the catalogue: it wakes nothing."""
    rows = [
        (item["name"], "dataset", item["connectorId"], item["visibility"], item.get("description"))
        for item in _all(platform, "datasets")
    ]
    rows += [
        (item["name"], "view", None, item["visibility"], item.get("description"))
        for item in _all(platform, "views")
    ]
    rows.sort(key=lambda row: str(row[0]).lower())
    show(form_of(chosen.output), ("name", "kind", "connector", "visibility", "description"), rows)


def schema(platform: Platform, chosen: Namespace) -> None:
    with _waking(platform):
        found: list[dict[str, Any]] = platform.ask("GET", "/tables")["tables"]
    wanted = chosen.table.lower().removeprefix("public.")
    table = next((table for table in found if table["name"].lower() == wanted), None)
    if table is None:
        raise Failure(Exit.REFUSED, f"There is no table '{chosen.table}'", code="not_found")
    if table["columns"] is None:
        raise Failure(
            Exit.REFUSED, f"'{table['name']}' cannot be read: {table['error']}", code="source_error"
        )
    _show_columns(form_of(chosen.output), table["columns"])


def query(platform: Platform, chosen: Namespace) -> None:
    statement = sys.stdin.read() if chosen.sql == "-" else chosen.sql
    if not statement.strip():
        raise Failure(Exit.USAGE, "the query is empty")
    body = {"query": statement} | ({"maxRows": chosen.max_rows} if chosen.max_rows is not None else {})
    ask = {"table": _query_table, "csv": _query_csv, "json": _query_json}[form_of(chosen.output)]
    ask(platform, body)


def import_(platform: Platform, chosen: Namespace) -> None:
    file = Path(chosen.file)
    try:
        size = file.stat().st_size
    except OSError as fault:
        raise Failure(Exit.USAGE, f"{file} cannot be read: {fault.strerror}") from None
    if not file.is_file() or file.suffix.lower() not in ENDINGS:
        raise Failure(Exit.USAGE, f"{file} is no {', '.join(ENDINGS)} file")
    fields = {"name": chosen.name} if chosen.name else {}
    fields |= {"replace": "true"} if chosen.replace else {}
    with bar(file.name, size) as sent:
        _, answer = platform.upload("/imports", file, fields, sent=sent)
    say(f"{answer['dataset']['name']}: {answer['rowCount']} rows from {file.name}")
    for warning in answer["warnings"]:
        say(f"note: {warning['message']}")
    form = form_of(chosen.output)
    if form == "json":
        show_json(answer)
    else:
        _show_columns(form, answer["columns"])


def drop(platform: Platform, chosen: Namespace) -> None:
    cascade = "true" if chosen.cascade else None
    try:
        answer = platform.ask("DELETE", named("/datasets", chosen.table), cascade=cascade)
    except Failure as failure:
        if failure.code != "dataset_not_found":
            raise
        try:
            answer = platform.ask("DELETE", named("/views", chosen.table), cascade=cascade)
        except Failure as second:
            if second.code != "view_not_found":
                raise
            raise Failure(Exit.REFUSED, f"There is no table '{chosen.table}'", code="not_found") from None
    say(f"{chosen.table} is dropped")
    for view in answer.get("removed", {}).get("views", ()):
        if view != chosen.table:
            say(f"{view}, which read it, is dropped too")
    if chosen.output == "json":
        show_json(answer)


def status(platform: Platform, chosen: Namespace) -> None:
    answer = platform.ask("GET", "/status")
    form = form_of(chosen.output)
    if form == "json":
        show_json(answer)
        return
    if form == "table":
        write(f"runtime: {answer['vmStatus']}, configuration {answer['configVersion']}\n\n")
    columns = ("name", "status", "connector", "loaded", "error")
    rows = [
        (
            name,
            item["status"],
            item["connectorId"],
            item["lastLoadedAt"],
            item.get("error", {}).get("message"),
        )
        for name, item in answer["datasets"].items()
    ]
    show(form, columns, rows)


COMMANDS: dict[str, Callable[[Platform, Namespace], None]] = {
    "tables": tables,
    "schema": schema,
    "query": query,
    "import": import_,
    "drop": drop,
    "status": status,
}


def _query_table(platform: Platform, body: dict[str, Any]) -> None:
    with _answer(platform, body, "application/json") as response:
        answer = json.loads(response.read())
    columns = [column["name"] for column in answer["schema"]]
    show("table", columns, [[row[column] for column in columns] for row in answer["rows"]])
    if answer["truncated"]:
        say(f"only the first {answer['rowCount']} rows are shown: --max-rows or --output csv has more")
    elif sys.stderr.isatty():
        say(f"{answer['rowCount']} rows in {answer['durationMs']:.0f} ms")


def _query_csv(platform: Platform, body: dict[str, Any]) -> None:
    with _answer(platform, body, "text/csv") as response:
        while piece := response.read1(65536):
            write_bytes(piece)


def _query_json(platform: Platform, body: dict[str, Any]) -> None:
    """One array, written as the rows come."""
    separator = b"[\n"
    with _answer(platform, body, "application/x-ndjson") as response:
        for line in response:
            if line.strip():
                write_bytes(separator + line.rstrip(b"\n"))
                separator = b",\n"
    write_bytes(b"\n]\n" if separator == b",\n" else b"[]\n")


@contextmanager
def _answer(platform: Platform, body: dict[str, Any], accept: str) -> Generator[Any, None, None]:
    """A query's answer; the bar of a cold start is gone when its first byte is there."""
    waking = _waking(platform)
    waking.__enter__()
    try:
        with platform.open("POST", "/sql", body=body, accept=accept) as response:
            waking.__exit__(None, None, None)
            waking = nullcontext(None)
            yield response
    finally:
        waking.__exit__(None, None, None)


def _waking(platform: Platform) -> Any:
    """A bar while a lake that sleeps is woken; asked for only where somebody could see it."""
    if not sys.stderr.isatty():
        return nullcontext(None)
    try:
        state = platform.ask("GET", "/status")["vmStatus"]
    except Failure:
        return nullcontext(None)  # what is asked next tells what is wrong, or this key may not look
    return nullcontext(None) if state == "running" else bar("waking the lake", None)


def _all(platform: Platform, kind: str) -> Generator[dict[str, Any], None, None]:
    cursor: str | None = None
    while True:
        page = platform.ask("GET", f"/{kind}", limit=PAGE, cursor=cursor)
        yield from page[kind]
        cursor = page.get("nextCursor")
        if cursor is None:
            return


def _show_columns(form: Form, columns: list[dict[str, Any]]) -> None:
    show(form, ("name", "type", "nullable"), [(c["name"], c["type"], c["nullable"]) for c in columns])
