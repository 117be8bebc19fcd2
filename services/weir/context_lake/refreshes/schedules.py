"""When a dataset or view is read again by itself: from its last success on, or at the times of its cron."""

import random
from collections.abc import Callable
from datetime import datetime, timedelta

from cronsim import CronSim

from weir.context_lake import names
from weir.context_lake.document import Dataset, Revision, View
from weir.context_lake.refreshes.acceleration import Acceleration
from weir.context_lake.refreshes.durations import seconds_of
from weir.context_lake.tables import lake_refreshes
from weir_shared import clock
from weir_shared.db.pool import Connection

# Of an interval, unless it is said otherwise.
JITTER_SHARE = 0.1
MOST_RETRY_SECONDS = 300.0


def next_time(
    acceleration: Acceleration | None, since: datetime, chance: Callable[[], float] = random.random
) -> datetime | None:
    """The first time after `since`, moved by the jitter; None when only somebody's wish reads it again."""
    if acceleration is None:
        return None
    if acceleration.refresh_cron:
        due = next(CronSim(acceleration.refresh_cron, since))
        interval = (next(CronSim(acceleration.refresh_cron, due)) - due).total_seconds()
    elif acceleration.refresh_check_interval:
        interval = seconds_of(acceleration.refresh_check_interval) or 0
        due = since + timedelta(seconds=interval)
    else:
        return None
    if not acceleration.refresh_jitter_enabled:
        return due
    most = seconds_of(acceleration.refresh_jitter_max or "") or interval * JITTER_SHARE
    return due + timedelta(seconds=chance() * most)


def retry_seconds(acceleration: Acceleration | None, failures: int) -> float | None:
    """How long after so many failures it is tried again: 1, 1, 2, 3, 5, … seconds; None: not at all."""
    if acceleration is not None:
        most = acceleration.refresh_retry_max_attempts
        if acceleration.refresh_retry_enabled is False or (most is not None and failures > most):
            return None
    this, following = 1.0, 1.0
    for _ in range(min(failures - 1, 20)):
        this, following = following, this + following
    return min(this, MOST_RETRY_SECONDS)


async def write_down(connection: Connection, tenant_id: str, revision: Revision) -> None:
    """The schedules of what a revision has changed; in its transaction."""
    changes = revision.changes
    gone = [names.key_of(name) for name in (*changes.datasets.removed, *changes.views.removed)]
    if gone:
        await lake_refreshes.forget(connection, tenant_id, gone)
    written = (
        *changes.datasets.added,
        *changes.datasets.updated,
        *changes.views.added,
        *changes.views.updated,
    )
    for name in sorted(written, key=names.key_of):
        item = revision.document.find(name)
        if item is not None:
            await _write_one(connection, tenant_id, item)


async def _write_one(connection: Connection, tenant_id: str, item: Dataset | View) -> None:
    key, now = names.key_of(item.name), clock.now()
    known = await lake_refreshes.read_refresh(connection, tenant_id, key)
    since = known.succeeded_at if known is not None and known.succeeded_at is not None else now
    due = next_time(item.kept, since)
    if due is not None or known is not None:
        await lake_refreshes.schedule(connection, tenant_id, key, None if due is None else max(due, now))
