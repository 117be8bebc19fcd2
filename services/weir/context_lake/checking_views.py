"""One view of a request held against every rule that needs no other view; what is left is a view that may be kept."""

from weir.context_lake import names
from weir.context_lake.checking import check_description, check_name, check_visibility
from weir.context_lake.connectors.declared import Findings, Place
from weir.context_lake.document import Authorship, View, WantedView
from weir.context_lake.statement import Statement, StatementFault, read_statement

_RESERVED_SCHEMAS = ("information_schema", "runtime")
_LATER = ("sql_ref", "columns", "metadata", "ready_state", "acceleration", "refresh")


def check_view(
    wanted: WantedView, at: Place, before: View | None, by: Authorship, found: Findings
) -> View | None:
    """The view as it is kept, or None when something is wrong with it. Parses: not for the event loop."""
    faults = len(found.errors)
    name = check_name(wanted.name, at, found)
    statement = _statement(wanted, at, found)
    description = check_description(wanted.description, at, found)
    visibility = check_visibility(wanted.visibility, at, found)
    for field in _LATER:
        if getattr(wanted, field):
            message = f"{field} is not available in this version"
            found.refuse(at.field(field), message, "not_available")
    if len(found.errors) > faults or statement is None:
        return None
    return View(
        name=name,
        sql=statement.text,
        reads=[names.key_of(relation) for relation in statement.relations],
        description=description,
        visibility=visibility,
        created_at=before.created_at if before else by.moment,
        updated_at=by.moment,
        created_by=before.created_by if before else by.author,
    )


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
    for number in statement.unnamed:
        message = f"column {number} has no name of its own: give it one with AS"
        found.warn(at.field("sql"), message, "unnamed_column")
    return statement
