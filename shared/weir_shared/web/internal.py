"""The route that every service has for its operator."""

from litestar import Response, get

from weir_shared.auth.guards import open_to_all
from weir_shared.telemetry.metrics import CONTENT_TYPE, exposition


@get("/metrics", guards=[open_to_all], include_in_schema=False, sync_to_thread=False)
def metrics_route() -> Response[bytes]:
    """The metrics of this process in Prometheus' text format."""
    return Response(exposition(), media_type=CONTENT_TYPE)
