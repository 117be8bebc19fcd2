"""`mysql:[database.]table`: a table or view of a MySQL or MariaDB server."""

from weir.context_lake.connectors.declared import Findings, Param, Params, Place, When, options_of
from weir.context_lake.connectors.servers import check_server, has_database
from weir.context_lake.connectors.source import Connector, Source, SourceText
from weir.context_lake.connectors.table_names import check_names, read_names
from weir.context_lake.surroundings import Surroundings

SYNTAX = "mysql:[database.]table"

_WITHOUT_STRING = When("mysql_connection_string", "", "mysql_connection_string is not given")
_PARAMS = (
    Param(
        name="mysql_connection_string",
        credential=True,
        help="The server as a URL; parameters of their own win over it",
    ),
    Param(name="mysql_host", kind="host", required_when=_WITHOUT_STRING, help="The server's host"),
    Param(name="mysql_tcp_port", kind="port", default="3306", help="The server's port"),
    Param(
        name="mysql_db", help="The database; required when neither `from` nor a connection string names it"
    ),
    Param(name="mysql_user", required_when=_WITHOUT_STRING, help="The user that reads"),
    Param(name="mysql_pass", credential=True, help="The user's password"),
    Param(
        name="mysql_sslmode",
        kind="choice",
        choices=("required", "preferred", "disabled"),
        default="required",
        help="Encrypted with the server's certificate checked, encrypted only, or neither",
    ),
    Param(
        name="mysql_sslrootcert",
        kind="certificate",
        help="The certificates to trust, as PEM text; the system's when not given",
    ),
    Param(
        name="mysql_pool_max",
        kind="count",
        default="5",
        help="How many connections are kept for the next query",
    ),
    Param(
        name="mysql_pool_min",
        kind="count",
        without_effect=True,
        help="How many connections are kept at least",
    ),
    Param(
        name="mysql_zero_date_behavior",
        kind="choice",
        choices=("null", "error"),
        unavailable_choices=("error",),
        without_effect=True,
        help="Dates of zeros are null",
    ),
    Param(name="mysql_time_zone", unavailable=True, help="The session's time zone, which is UTC"),
    Param(
        name="query_federation",
        kind="choice",
        choices=("enabled", "disabled"),
        default="enabled",
        help="Whether the server is asked for whole queries of its tables, or for their rows only",
    ),
)


def check(text: SourceText, params: Params, at: Place, around: Surroundings, found: Findings) -> None:
    names = check_names(text, SYNTAX, 2, at, found)
    if len(names) < 2 and not has_database("mysql", params):
        found.refuse(at.param("mysql_db"), "mysql_db is required when from names no database", "required")
    check_server(
        "mysql",
        (),
        params,
        at,
        around,
        found,
        schemes=("mysql",),
        syntax="mysql://user:password@host:port/database",
    )


def locate(text: SourceText, params: Params, _: Surroundings) -> Source:
    return Source(options={"table": read_names(text.path) or []} | options_of(_PARAMS, params))


CONNECTOR = Connector(
    id="mysql",
    example="mysql:[database.]table",
    help="a table or view of a MySQL or MariaDB server",
    params=_PARAMS,
    check=check,
    locate=locate,
)
