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
DRIFT = gauge(
    "lake_config_version_drift", "Running runtimes that work with another version than their lake's newest"
)
SQL_SECONDS = histogram("lake_sql_duration_seconds", "From a query's receipt to its last byte", "result")
SQL_BYTES = counter("lake_sql_bytes_total", "Bytes of answers to queries")
SQL_REJECTED = counter("lake_sql_rejected_total", "Queries that were not let in", "reason")
SQL_RUNNING = gauge("lake_sql_running", "Queries that hold a place")
SQL_QUEUED = gauge("lake_sql_queued", "Queries that wait for a place")
APPLIED = counter("lake_config_applied_total", "Configurations handed to runtimes", "result")
REFRESHES = counter(
    "lake_refresh_total",
    "Refreshes of datasets and views, by why and with what outcome",
    "trigger",
    "outcome",
)
REFRESH_SECONDS = histogram(
    "lake_refresh_seconds",
    "From the start of a refresh to its end",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600),
)
SQS_MESSAGES = counter(
    "lake_sqs_messages_total", "What messages of S3's queues amounted to, event by event", "kind"
)
SQS_POISON = counter(
    "lake_sqs_poison_total", "Messages that could not be read and went to the dead-letter queue"
)
SQS_DUPLICATES = counter("lake_sqs_duplicate_total", "Events that had been counted before")
SQS_FAILURES = counter("lake_sqs_failures_total", "Calls of the queue service that failed", "call")
SQS_DEAD = gauge("lake_sqs_dead_letters", "Messages in dead-letter queues, as last looked at")
SQS_QUEUES = gauge("lake_sqs_queues", "Queues that this worker polls", "runtime")
EVENT_TO_REFRESH = histogram(
    "lake_event_to_refresh_seconds",
    "From an event's acceptance to the refreshed dataset, quiet time included",
    buckets=(0.5, 1, 2, 2.5, 3, 4, 5, 7, 10, 20, 30, 60, 300, 3600),
)


def count_transition(before: str, after: str, cause: str) -> None:
    TRANSITIONS.labels(before, after, cause).inc()
