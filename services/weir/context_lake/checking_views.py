"""One view of a request held against every rule that needs no other view; what is left is a view that may be kept."""

from typing import Any

from weir.context_lake import names
from weir.context_lake.checking import (
    check_description,
    check_metadata,
    check_name,
    check_visibility,
    refuse_not_yet,
)
from weir.context_lake.connectors.declared import Findings, Place
from weir.context_lake.document import Authorship, View, WantedView
from weir.context_lake.refreshes.checking import check_acceleration, check_times, check_view_refresh
from weir.context_lake.statement import Statement, StatementFault, read_statement

_RESERVED_SCHEMAS = ("information_schema", "runtime")
NOT_YET: dict[str, Any] = dict.fromkeys(("sql_ref", "columns"))


def check_view(
    wanted: WantedView, at: Place, before: View | None, by: Authorship, found: Findings
) -> tuple[View, Statement] | None:
    """The view as it is kept and its statement, or None when something is wrong with it.

    Parses: not for the event loop.
    """
    faults = len(found.errors)
    name = check_name(wanted.name, at, found)
    statement = _statement(wanted, at, found)
    description = check_description(wanted.description, at, found)
    visibility = check_visibility(wanted.visibility, at, found)
    metadata = check_metadata(wanted.metadata, at, found)
    times = check_times(wanted, at, found)
    refresh = check_view_refresh(wanted.refresh, wanted.acceleration, at, found)
    acceleration = check_acceleration(wanted.acceleration, times, name, at, found, is_view=True)
    refuse_not_yet(wanted, NOT_YET, at, found)
    if len(found.errors) > faults or statement is None:
        return None
    view = View(
        name=name,
        sql=statement.text,
        reads=[names.key_of(relation) for relation in statement.relations],
        description=description,
        visibility=visibility,
        metadata=metadata,
        refresh=refresh,
        acceleration=acceleration,
        time_column=times.column,
        time_format=times.form,
        ready_state=times.ready_state,
        created_at=before.created_at if before else by.moment,
        updated_at=by.moment,
        created_by=before.created_by if before else by.author,
    )
    return view, statement


def _statement(wanted: WantedView, at: Place, found: Findings) -> Statement | None:
    if not isinstance(wanted.sql, str) or not wanted.sql.strip():
        found.refuse(at.field("sql"), "sql is required", "required")
        return None
    if "\0" in wanted.sql:
        found.refuse(at.field("sql"), "sql must not hold the NUL character")
        return None
    try:
        statement = read_statement(wanted.sql)
    except StatementFault as fault:
        found.refuse(at.field("sql"), str(fault), fault.code)
        return None
    for relation in statement.relations:
        schema = relation.rpartition(".")[0].lower()
        if schema in _RESERVED_SCHEMAS:
            message = f"a view must not read from {schema}"
            found.refuse(at.field("sql"), message, "relation_not_allowed")
    return statement
