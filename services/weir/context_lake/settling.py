"""The last step of an edit: what the engine says of the views that it changes or that read what it changes."""

from collections.abc import Mapping

from msgspec.structs import replace

from weir.context_lake import lineage, names
from weir.context_lake.columns import Verdict
from weir.context_lake.config import Edit
from weir.context_lake.connectors.declared import Place
from weir.context_lake.document import Revision, View
from weir_shared.errors import ValidationFailed


def views_to_judge(edit: Edit, revision: Revision) -> set[str]:
    """Views whose columns may come or go with this edit: those that it writes, and those that read what it
    moves. A dataset that is read as before is not moved, whatever else of it is written."""
    reads = lineage.lineage_of(revision.document.views)
    moved = {
        key
        for key in edit.datasets.changed
        if (before := edit.datasets.before.get(key)) is None
        or before.fingerprint != edit.datasets.kept[key].fingerprint
    }
    written = set(edit.views.changed)
    return written.union(*(lineage.dependents_of(key, reads) for key in moved | written))


def settle(edit: Edit, revision: Revision, verdicts: Mapping[str, Verdict]) -> Revision:
    """The revision with its views marked. Raises ValidationFailed when one of them cannot be planned."""
    settling = _Settling(edit, revision)
    views = [
        settling.settled(view, verdicts.get(names.key_of(view.name))) for view in revision.document.views
    ]
    if edit.found.errors:
        raise ValidationFailed(edit.found.errors)
    document = replace(revision.document, views=views)
    return replace(revision, document=document, warnings=edit.found.warnings)


class _Settling:
    def __init__(self, edit: Edit, revision: Revision) -> None:
        self._edit = edit
        self._found = edit.found
        self._reads = lineage.lineage_of(revision.document.views)

    def settled(self, view: View, verdict: Verdict | None) -> View:
        if verdict is None:
            return view
        key = names.key_of(view.name)
        changed = self._edit.views.changed.get(key)
        if changed is None:
            self._tell_of_reader(key, view, verdict)
        else:
            self._tell_of_written(key, verdict, changed[1])
        return replace(view, validation="checked" if verdict.state == "checked" else "deferred")

    def _tell_of_written(self, key: str, verdict: Verdict, at: Place) -> None:
        path = at.field("sql")
        if verdict.state == "faulty":
            self._found.refuse(path, verdict.message, verdict.code)
        elif verdict.state == "deferred":
            unread = f": {', '.join(verdict.unread)} has not been read yet" if verdict.unread else ""
            self._found.warn(path, f"schema not checked{unread}", "schema_not_checked")
        elif twice := sorted({name for name in verdict.columns if verdict.columns.count(name) > 1}):
            message = f"columns must have names of their own: {', '.join(twice)} is there twice"
            self._found.refuse(path, message, "duplicate_column")
        statement = self._edit.statements[key]
        for number in statement.unnamed:
            given = "" if statement.has_star or not verdict.columns else verdict.columns[number - 1]
            shown = f", so it is called {given!r}" if given else ""
            message = f"column {number} has no name of its own{shown}: give it one with AS"
            self._found.warn(path, message, "unnamed_column")

    def _tell_of_reader(self, key: str, view: View, verdict: Verdict) -> None:
        """A view that the request does not name, but reads what it changes."""
        at, field = self._cause_of(key)
        seen = self._edit.by.sees(view)
        name = f"view '{view.name}'" if seen else "a view that you cannot see"
        if verdict.state == "faulty":
            reason = f": {verdict.message}" if seen else ""
            self._found.refuse(
                at.field(field), f"{name} could not be planned any more{reason}", "view_broken"
            )
        elif verdict.state == "deferred" and seen:
            message = f"schema not checked: {name} is planned again when the lake has read its datasets"
            self._found.warn(at.field(field), message, "schema_not_checked")

    def _cause_of(self, key: str) -> tuple[Place, str]:
        """Where the request changes what a view reads."""
        under = lineage.bases_of(key, self._reads)
        for shelf, field in ((self._edit.views, "sql"), (self._edit.datasets, "from")):
            for changed, (_, at) in shelf.changed.items():
                if changed in under:
                    return at, field
        return Place(), ""
