"""A process that plans views over columns alone: it is given schemas, and has neither data nor secrets.

The desk starts it, and speaks JSON lines over its standard streams: `{"schemas": {name: Arrow IPC schema in
base64}, "views": [{"name", "sql"}]}`, the views in dependency order, is answered by one line a view, in their
order: `{"columns": [name, …]}` or `{"error": sentence, "code"}`. A view over a faulty one is faulty too.
It ends with its input. A statement that kills it is the first one without an answer.
"""

import base64
import resource
import signal
import sys
from typing import BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.dataset as pads
from datafusion.catalog import Table
from msgspec import Struct

from weir.lake_runtime import guard
from weir.lake_runtime.catalog import LakeCatalog, Scope, planning
from weir.lake_runtime.embed_function import register_embed
from weir.lake_runtime.embedder import Embedder
from weir.lake_runtime.faults import Fault, SqlError, translate
from weir.lake_runtime.relations import Opened, Relation
from weir.lake_runtime.session import CATALOG, QUERIES_ONLY, planning_session
from weir.lake_runtime.similarity import for_the_engine
from weir.lake_runtime.task_history import TaskHistory
from weir.lake_runtime.wire import Dataset, View

# An idle engine maps 2.5 GB: this only stops a single huge request.
ADDRESS_SPACE_BYTES = 6 * 1024**3


class Wanted(Struct, frozen=True):
    schemas: dict[str, str]
    views: list[View]


class Planned(Struct, frozen=True, omit_defaults=True):
    columns: list[str] | None = None
    error: str | None = None
    code: str | None = None


class Planner:
    """The relations of one request, and the session that plans over them."""

    def __init__(self, wanted: Wanted) -> None:
        self._relations: dict[str, Relation] = {}
        for name, schema in wanted.schemas.items():
            self._relations[name] = Relation(Dataset(name=name, connector="file"))
            self._relations[name].opened(Opened(_empty_table(base64.b64decode(schema))))
        self._relations |= {view.name: Relation(view) for view in wanted.views}
        self._session = planning_session()
        self._session.register_catalog_provider(CATALOG, LakeCatalog(self._relations, TaskHistory()))  # type: ignore[arg-type]
        # Only to be known: a view that is planned embeds nothing.
        register_embed(self._session, Embedder())

    def plan(self, view: View) -> Planned:
        relation = self._relations[view.name]
        try:
            table, expansion = self._plan(view)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            fault = translate(error)
            relation.failed(fault)
            return Planned(error=fault.message, code=_code_of(fault))
        relation.expansion = expansion
        relation.opened(Opened(table))
        return Planned(columns=list(table.schema.names))

    def _plan(self, view: View) -> tuple[Table, int]:
        expansions = {r.name: r.expansion for r in self._relations.values() if r.is_view}
        complexity = guard.check(view.sql, views=expansions)
        with planning(Scope(before=view.name)):
            return self._session.sql_with_options(
                for_the_engine(view.sql), QUERIES_ONLY
            ).into_view(), complexity.expansion + 1


def main(lines: BinaryIO, answers: BinaryIO) -> None:
    """Answers requests until there are no more."""
    for line in iter(lines.readline, b""):
        wanted = msgspec.json.decode(line, type=Wanted)
        planner = Planner(wanted)
        for view in wanted.views:
            answers.write(msgspec.json.encode(planner.plan(view)) + b"\n")
            answers.flush()


def _empty_table(schema: bytes) -> Table:
    return Table(pads.dataset(pa.ipc.read_schema(pa.py_buffer(schema)).empty_table()))


def _code_of(fault: Fault) -> str:
    # What the engine trips over is no statement that could be kept; the rest of its codes say which.
    return fault.code if fault.status in (400, 403) else SqlError.code


if __name__ == "__main__":
    # Ctrl-C reaches the whole group: the desk ends it when it has no more questions.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = ADDRESS_SPACE_BYTES if hard == resource.RLIM_INFINITY else min(ADDRESS_SPACE_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main(sys.stdin.buffer, sys.stdout.buffer)
