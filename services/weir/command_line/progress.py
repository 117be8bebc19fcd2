"""A bar for a person who waits; nothing where standard error is no terminal."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any


@contextmanager
def bar(title: str, total: int | None) -> Generator[Callable[[int], None], None, None]:
    """Told how much has been done. Without a total it only says that something is going on."""
    if not sys.stderr.isatty():
        yield _nothing
        return
    # Only here: loading it takes longer than most commands.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TransferSpeedColumn,
    )

    measures: list[Any] = [TimeElapsedColumn()]
    if total is not None:
        measures = [DownloadColumn(binary_units=True), TransferSpeedColumn(), *measures]
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), *measures, console=Console(stderr=True), transient=True
    )
    with progress:
        task = progress.add_task(title, total=total)

        def done(count: int) -> None:
            progress.advance(task, count)
            if total is not None and progress.tasks[0].finished:
                progress.update(task, description="reading it through", total=None)

        yield done


def _nothing(_: int) -> None:
    pass
