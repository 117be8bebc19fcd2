"""`postgres:[database.]schema.table`: a table or view of a PostgreSQL server."""

from weir.context_lake.connectors.declared import Findings, Param, Params, Place, When, options_of
from weir.context_lake.connectors.servers import check_server, has_database
from weir.context_lake.connectors.source import Connector, Source, SourceText
from weir.context_lake.connectors.table_names import check_names, read_names
from weir.context_lake.surroundings import Surroundings

SYNTAX = "postgres:[database.]schema.table"

_WITHOUT_STRING = When("pg_connection_string", "", "pg_connection_string is not given")
_PARAMS = (
    Param(
        name="pg_connection_string",
        credential=True,
        help="The server as a URL or as key=value pairs; parameters of their own win over it",
    ),
    Param(name="pg_host", kind="host", required_when=_WITHOUT_STRING, help="The server's host"),
    Param(name="pg_port", kind="port", default="5432", help="The server's port"),
    Param(name="pg_db", help="The database; required when neither `from` nor a connection string names it"),
    Param(name="pg_user", required_when=_WITHOUT_STRING, help="The user that reads"),
    Param(name="pg_pass", credential=True, help="The user's password"),
    Param(
        name="pg_sslmode",
        kind="choice",
        choices=("verify-full", "verify-ca", "require", "prefer", "disable"),
        default="verify-full",
        help="Whether the connection is encrypted, and whether the server's certificate is checked",
    ),
    Param(
        name="pg_sslrootcert",
        kind="certificate",
        help="The certificates to trust, as PEM text; the system's when not given",
    ),
    Param(
        name="connection_pool_size",
        kind="count",
        default="10",
        also=("pg_connection_pool_size",),
        help="How many connections are kept for the next query",
    ),
    Param(
        name="query_federation",
        kind="choice",
        choices=("enabled", "disabled"),
        default="enabled",
        help="Whether the server is asked for whole queries of its tables, or for their rows only",
    ),
    Param(
        name="connection_pool_min_idle",
        kind="count",
        without_effect=True,
        help="How many connections are kept at least",
    ),
)


def check(text: SourceText, params: Params, at: Place, around: Surroundings, found: Findings) -> None:
    names = check_names(text, SYNTAX, 3, at, found)
    if len(names) == 3 and params.get("pg_db", names[0]) != names[0]:
        found.refuse(at.param("pg_db"), "pg_db must equal the database that from names", "mismatch")
    elif len(names) < 3 and not has_database("pg", params):
        found.refuse(at.param("pg_db"), "pg_db is required when from names no database", "required")
    check_server(
        "pg",
        ("sslmode",),
        params,
        at,
        around,
        found,
        schemes=("postgres", "postgresql"),
        syntax="postgresql://user:password@host:port/database, or key=value pairs",
    )


def locate(text: SourceText, params: Params, _: Surroundings) -> Source:
    return Source(options={"table": read_names(text.path) or []} | options_of(_PARAMS, params))


CONNECTOR = Connector(
    id="postgres",
    example="postgres:[database.]schema.table",
    help="a table or view of a PostgreSQL server; names with dots stand in double quotes",
    params=_PARAMS,
    check=check,
    locate=locate,
)
