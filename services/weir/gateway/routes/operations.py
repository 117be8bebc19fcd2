"""What an operator, a load balancer and Prometheus ask."""

from litestar import Response, Router, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec

from weir.gateway.health import Health, HealthReport, Readiness
from weir.gateway.scrape import Scraper
from weir_shared.auth.guards import open_to_all
from weir_shared.telemetry.metrics import CONTENT_TYPE


def _told(body: type, description: str) -> ResponseSpec:
    return ResponseSpec(data_container=body, description=description, generate_examples=False)


@get("/api/v1/health", responses={503: _told(HealthReport, "A part does not answer; the report says which")})
async def show_health(health: NamedDependency[Health]) -> Response[HealthReport]:
    """Whether the platform works as a whole: 200 `ok`, or 503 `degraded`."""
    report = await health.report()
    return Response(report, status_code=200 if report.status == "ok" else 503)


@get(["/live", "/api/v1/live"])
async def show_liveness() -> dict[str, str]:
    """Answers as long as the process turns; depends on nothing else."""
    return {"status": "ok"}


@get(
    ["/ready", "/api/v1/ready"], responses={503: _told(Readiness, "This gateway should not get traffic now")}
)
async def show_readiness(health: NamedDependency[Health]) -> Response[Readiness]:
    """Whether this gateway should get traffic: the database answers and holds this version's schema."""
    readiness = await health.readiness()
    return Response(readiness, status_code=200 if readiness.ready else 503)


@get("/metrics", include_in_schema=False)
async def show_metrics(scraper: NamedDependency[Scraper]) -> Response[bytes]:
    """The metrics of every service that this gateway reaches, in Prometheus' text format."""
    return Response(await scraper.scrape(), media_type=CONTENT_TYPE)


operations = Router(
    "/",
    route_handlers=[show_health, show_liveness, show_readiness, show_metrics],
    guards=[open_to_all],
    tags=["operations"],
)
