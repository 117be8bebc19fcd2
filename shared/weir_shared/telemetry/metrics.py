"""The metrics of a process. Every name begins with `weir_`; no label ever names a tenant."""

from importlib.metadata import version

from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
REGISTRY = CollectorRegistry()
ProcessCollector(namespace="weir", registry=REGISTRY)

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180)


class MetricDoc(Struct, frozen=True):
    """A metric as `docs/reference/metrics.md` has it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


MADE: list[MetricDoc] = []


def counter(name: str, meaning: str, *labels: str) -> Counter:
    MADE.append(MetricDoc(f"weir_{name}", "counter", labels, meaning))
    return Counter(f"weir_{name}", meaning, labels, registry=REGISTRY)


def gauge(name: str, meaning: str, *labels: str) -> Gauge:
    MADE.append(MetricDoc(f"weir_{name}", "gauge", labels, meaning))
    return Gauge(f"weir_{name}", meaning, labels, registry=REGISTRY)


def histogram(
    name: str, meaning: str, *labels: str, buckets: tuple[float, ...] = LATENCY_BUCKETS
) -> Histogram:
    """A histogram of seconds unless its buckets say otherwise."""
    MADE.append(MetricDoc(f"weir_{name}", "histogram", labels, meaning))
    return Histogram(f"weir_{name}", meaning, labels, registry=REGISTRY, buckets=buckets)


def exposition() -> bytes:
    """Every metric of this process in Prometheus' text format."""
    return generate_latest(REGISTRY)


HTTP_REQUESTS = counter(
    "http_requests_total", "HTTP requests answered", "service", "route", "method", "status"
)
HTTP_SECONDS = histogram(
    "http_request_duration_seconds",
    "Time from request to the end of its answer",
    "service",
    "route",
    "method",
)
HTTP_IN_FLIGHT = gauge("http_requests_in_flight", "HTTP requests being answered", "service")
gauge("build_info", "1, with the version that runs", "version").labels(version("weir")).set(1)
# Each room's sweep in the worker sets its own queues.
QUEUE_DEPTH = gauge("queue_depth", "What waits for a worker, by the ledger", "queue")
QUEUE_OLDEST = gauge("queue_oldest_seconds", "How long the oldest of it has waited", "queue")
