"""The reference page of the command line, written from the parser itself."""

import argparse
from collections.abc import Iterable, Mapping

from weir.command_line.failures import Exit
from weir.command_line.parser import DESCRIPTION


def page(lake: argparse.ArgumentParser, others: Mapping[str, str]) -> str:
    """The whole page in Markdown; `others` are the operator's commands with their meanings."""
    parts = [
        "# The command line",
        "",
        "What `weir` takes. This page is printed by `weir commands`, and a test keeps it equal to the parser.",
        "",
        "## For people who use a lake",
        "",
        DESCRIPTION,
        "",
        "Output goes to standard output, everything else to standard error; a bar is shown only where that is a",
        "terminal. What went wrong is one line, with the platform's code for it in brackets.",
    ]
    for name, verb in _verbs(lake).items():
        parts += ["", *_section(name, verb)]
    parts += ["", "### Exit codes", "", "| code | meaning |", "| --- | --- |"]
    parts += [f"| {code.value} | {code.meaning} |" for code in Exit]
    parts += ["", "## For operators", "", "| command | meaning |", "| --- | --- |"]
    parts += [f"| `weir {name}` | {meaning} |" for name, meaning in others.items()]
    return "\n".join(parts) + "\n"


def _section(name: str, verb: argparse.ArgumentParser) -> Iterable[str]:
    arguments = [action for action in verb._actions if action.dest != "help"]  # pyright: ignore[reportPrivateUsage]
    positional = "".join(f" <{action.dest}>" for action in arguments if not action.option_strings)
    yield f"### `weir lake {name}{positional}`"
    yield ""
    yield str(verb.description)
    yield ""
    yield "| argument | meaning |"
    yield "| --- | --- |"
    for action in sorted(arguments, key=lambda action: bool(action.option_strings)):
        yield f"| `{_shown(action)}` | {action.help} |"


def _shown(action: argparse.Action) -> str:
    if not action.option_strings:
        return action.dest
    if action.choices:
        return f"{action.option_strings[0]} {'/'.join(action.choices)}"
    value = f" {action.metavar}" if action.metavar else ""
    return f"{action.option_strings[0]}{value}"


def _verbs(lake: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    actions = lake._actions  # pyright: ignore[reportPrivateUsage]
    return next(
        dict(action.choices)
        for action in actions
        if isinstance(action, argparse._SubParsersAction)  # pyright: ignore[reportPrivateUsage]
    )
