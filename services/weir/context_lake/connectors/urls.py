"""What a tenant's URLs may say: no private addresses, no credentials, and http only by leave."""

import re
from urllib.parse import parse_qsl

from weir.context_lake.connectors.declared import Findings, Params, Place
from weir.context_lake.connectors.kinds import is_on
from weir.context_lake.surroundings import Surroundings
from weir_shared.egress import ForbiddenAddress, check_url

_SECRET = re.compile(
    r"^x-(amz|goog)-|^awsaccesskeyid$|^googleaccessid$|^sig$|^auth$|(^|[-_.]|api|access)key(id)?$"
    r"|token|secret|passw|pwd|credential|signature",
    re.IGNORECASE,
)


def carries_credentials(location: str) -> bool:
    """Whether the query of a location has a parameter that is named like a secret."""
    query = location.partition("?")[2]
    return any(_SECRET.search(name) for name, _ in parse_qsl(query, keep_blank_values=True))


def refuse_credentials(at: Place, found: Findings) -> None:
    found.refuse(at.field("from"), "from must carry no credentials: put them in params", "credentials")


def check_endpoint(
    name: str,
    params: Params,
    at: Place,
    around: Surroundings,
    found: Findings,
    *,
    leave: str | None = "allow_http",
    path: str = "",
) -> None:
    """An endpoint of http:// needs the switch `leave`; without such a switch there is none.

    `path` is where it stands in the request when it is no parameter.
    """
    path = path or at.param(name)
    endpoint = params.get(name, "")
    if not endpoint.startswith(("http://", "https://")):
        return  # told by its kind
    if endpoint.startswith("http://") and leave is None:
        found.refuse(path, f"{name} must begin with https://", "insecure")
    elif endpoint.startswith("http://") and not is_on(params.get(leave or "")):
        message = f"{name} begins with http://, which needs {leave} set to true"
        found.refuse(path, message, "insecure")
    try:
        check_url(endpoint, allow_private=around.allow_private_addresses)
    except ForbiddenAddress as fault:
        found.refuse(path, f"{name} is not allowed: {fault}", "address_not_allowed")


def check_host(name: str, host: str, at: Place, around: Surroundings, found: Findings) -> None:
    """Refuses a host that is an address nobody may connect to; names are looked up when they are used."""
    shown = f"[{host}]" if ":" in host else host
    try:
        check_url(f"https://{shown}", allow_private=around.allow_private_addresses)
    except ForbiddenAddress as fault:
        found.refuse(at.param(name), f"{name} is not allowed: {fault}", "address_not_allowed")
