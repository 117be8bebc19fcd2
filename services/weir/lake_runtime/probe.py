"""Opening a source once, to see whether it can be read: its columns, or why not."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from weir.lake_runtime.faults import SourceError
from weir.lake_runtime.register import aliases, fault_of
from weir.lake_runtime.relations import Relation, columns_of
from weir.lake_runtime.settings import RuntimeSettings
from weir.lake_runtime.sources.opening import open_source
from weir.lake_runtime.wire import Column, Dataset

PROBE_SECONDS = 15.0


async def probe(
    dataset: Dataset, settings: RuntimeSettings, threads: ThreadPoolExecutor, *, seconds: float
) -> list[Column]:
    """The source's columns. Raises `SourceError`, scrubbed of the dataset's secrets."""
    alias = next(aliases)
    work = asyncio.get_running_loop().run_in_executor(threads, lambda: open_source(dataset, alias, settings))
    try:
        opened = await asyncio.wait_for(work, seconds)
    except TimeoutError:
        raise SourceError(dataset.name, f"no answer within {max(seconds, 1):.0f} s") from None
    except Exception as error:  # noqa: BLE001 - a source may fail in any way; the caller is told which
        raise fault_of(Relation(dataset), error) from None
    return columns_of(opened.table.schema)
