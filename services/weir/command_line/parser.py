"""The words of `weir lake`, and what each command is."""

import argparse
import os
import sys
from typing import Any

from weir.command_line.failures import Exit, Failure
from weir.command_line.printing import FORMS, ReaderGone, flush

MAX_ROWS = 1_000_000
DESCRIPTION = (
    "Ask a lake, and bring files to it. WEIR_URL is the platform's address (http://localhost:8443 unless told), "
    "WEIR_API_KEY a token of it."
)
EPILOG = "Exit codes: " + "; ".join(f"{code.value} {code.meaning}" for code in Exit) + "."


def add_lake(commands: Any) -> argparse.ArgumentParser:
    """Adds `lake` to the commands of `weir`."""
    lake = commands.add_parser(
        "lake", help="ask a lake, and bring files to it", description=DESCRIPTION, epilog=EPILOG
    )
    verbs = lake.add_subparsers(dest="verb", required=True, metavar="command")
    _add(verbs, "tables", "list what a query may name; wakes nothing")
    schema = _add(verbs, "schema", "show a table's columns")
    schema.add_argument("table", help="the table's name")
    query = _add(verbs, "query", "run one query; Ctrl-C cancels it")
    query.add_argument("sql", help="the query, or - to read it from standard input")
    query.add_argument(
        "--max-rows",
        type=_rows,
        metavar="N",
        help="at most so many rows; a table has 10000 unless told, csv and json have all",
    )
    import_ = _add(verbs, "import", "make a table of a .csv, .tsv, .parquet, .json, .jsonl or .ndjson file")
    import_.add_argument("file", help="the file")
    import_.add_argument("--name", metavar="NAME", help="the table's name; made from the file's unless told")
    import_.add_argument(
        "--replace", action="store_true", help="put it in the place of an import of that name"
    )
    drop = _add(verbs, "drop", "remove a dataset or a view; an import's file goes with it")
    drop.add_argument("table", help="the table's name")
    drop.add_argument("--cascade", action="store_true", help="also the views that read it")
    _add(verbs, "status", "show what the lake's runtime does, and each dataset's state")
    return lake


def run_lake(chosen: argparse.Namespace) -> int:
    """Runs a command; what went wrong is one line on standard error."""
    from weir.command_line import lake  # noqa: PLC0415
    from weir.command_line.platform import platform_of  # noqa: PLC0415

    try:
        try:
            lake.COMMANDS[chosen.verb](platform_of(os.environ), chosen)
        finally:
            flush()
    except Failure as failure:
        sys.stderr.write(f"weir lake {chosen.verb}: {failure}\n")
        return failure.exit
    except ReaderGone:
        # Who reads has seen enough; what is left must not be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE
    except KeyboardInterrupt:
        sys.stderr.write(f"weir lake {chosen.verb}: interrupted\n")
        return Exit.INTERRUPTED
    return Exit.DONE


def _add(verbs: Any, name: str, meaning: str) -> argparse.ArgumentParser:
    verb = verbs.add_parser(
        name, help=meaning, description=f"{meaning[0].upper()}{meaning[1:]}.", epilog=EPILOG
    )
    verb.add_argument(
        "--output",
        choices=FORMS,
        help="how it is printed: a table on a terminal and csv elsewhere, unless told",
    )
    return verb


def _rows(text: str) -> int:
    count = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= count <= MAX_ROWS:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {MAX_ROWS}")
    return count
