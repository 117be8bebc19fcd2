"""The room's metrics."""

from weir_shared.telemetry.metrics import counter, gauge, histogram

BOOT_SECONDS = histogram(
    "lake_vm_boot_seconds",
    "From the wish for a runtime to its readiness, one observation a boot",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180),
)
TRANSITIONS = counter("lake_vm_transitions_total", "Moves of runtimes between states", "from", "to", "cause")
KILLED = counter("lake_vm_killed_total", "Runtimes that ended without being asked to", "reason")
STATES = gauge("lake_vm_state", "Lakes by the state of their runtime", "state")
SQL_SECONDS = histogram("lake_sql_duration_seconds", "From a query's receipt to its last byte", "result")
SQL_BYTES = counter("lake_sql_bytes_total", "Bytes of answers to queries")
SQL_REJECTED = counter("lake_sql_rejected_total", "Queries that were not let in", "reason")
SQL_RUNNING = gauge("lake_sql_running", "Queries that hold a place")
SQL_QUEUED = gauge("lake_sql_queued", "Queries that wait for a place")
APPLIED = counter("lake_config_applied_total", "Configurations handed to runtimes", "result")


def count_transition(before: str, after: str, cause: str) -> None:
    TRANSITIONS.labels(before, after, cause).inc()
