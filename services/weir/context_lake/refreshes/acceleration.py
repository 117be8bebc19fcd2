"""`acceleration` as a document keeps it: what was sent, and what it means."""

import re
from typing import Any

import msgspec
from msgspec import Struct

from weir.context_lake.refreshes.durations import seconds_of

DEFAULT_RETENTION_CHECK = "1h"


class Acceleration(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The block of a Spicepod; None is a field that was not sent. It has been checked."""

    enabled: bool | None = None
    engine: str | None = None
    mode: str | None = None
    refresh_mode: str | None = None
    refresh_check_interval: str | None = None
    refresh_cron: str | None = None
    refresh_sql: str | None = None
    refresh_data_window: str | None = None
    refresh_append_overlap: str | None = None
    refresh_retry_enabled: bool | None = None
    refresh_retry_max_attempts: int | None = None
    refresh_on_startup: str | None = None
    refresh_jitter_enabled: bool | None = None
    refresh_jitter_max: str | None = None
    on_zero_results: str | None = None
    retention_check_enabled: bool | None = None
    retention_check_interval: str | None = None
    retention_period: str | None = None
    retention_sql: str | None = None
    indexes: dict[str, str] | None = None
    primary_key: str | None = None
    on_conflict: dict[str, str] | None = None

    @property
    def is_on(self) -> bool:
        return self.enabled is not False

    @property
    def has_keys(self) -> bool:
        return bool(self.indexes or self.primary_key or self.on_conflict)

    def appends(self, time_column: str | None) -> bool:
        """Append when a time column is named and nothing else is said."""
        return (self.refresh_mode or ("append" if time_column else "full")) == "append"

    def shown(self) -> dict[str, Any]:
        """As it was sent; `enabled` is always said."""
        return {"enabled": self.is_on} | msgspec.to_builtins(self)


# The intervals of a view's `refresh`; `manual` is when somebody asks.
VIEW_REFRESHES: dict[str, str | None] = {
    "manual": None,
    "5m": "5m",
    "15m": "15m",
    "1h": "1h",
    "6h": "6h",
    "24h": "24h",
}


def acceleration_of_view(refresh: str | None, given: Acceleration | None) -> Acceleration | None:
    """`refresh` is short for a file that is read again so often, with some jitter."""
    if refresh is None:
        return given if given is not None and given.is_on else None
    interval = VIEW_REFRESHES[refresh]
    return Acceleration(
        enabled=True,
        engine="duckdb",
        mode="file",
        refresh_mode="full",
        refresh_check_interval=interval,
        refresh_jitter_enabled=None if interval is None else True,
    )


def keeping_of(
    acceleration: Acceleration | None,
    *,
    time_column: str | None,
    time_format: str | None,
    ready_state: str | None,
) -> dict[str, Any] | None:
    """In the runtime's words (`wire.Keeping`); None for what is not accelerated."""
    if acceleration is None or not acceleration.is_on:
        return None
    return {
        "store": _store_of(acceleration),
        "appends": acceleration.appends(time_column),
        "timeColumn": time_column or "",
        "timeFormat": time_format or "",
        "overlapSeconds": _seconds(acceleration.refresh_append_overlap) or 0,
        "windowSeconds": _seconds(acceleration.refresh_data_window),
        "refreshSql": acceleration.refresh_sql or "",
        "primaryKey": columns_in(acceleration.primary_key or ""),
        "indexes": [
            {"columns": columns_in(target), "unique": kind == "unique"}
            for target, kind in (acceleration.indexes or {}).items()
        ],
        "readyAtOnce": ready_state == "on_registration",
    } | _retention(acceleration) | _conflict(acceleration)  # fmt: skip


def columns_in(target: str) -> list[str]:
    """`id` and `(a, b)` name columns."""
    inner = target.strip()
    if inner.startswith("(") and inner.endswith(")"):
        inner = inner[1:-1]
    return [column.strip() for column in inner.split(",") if column.strip()]


def condition_of(retention_sql: str) -> str:
    """What stands behind WHERE; the statement has been checked."""
    return re.split(r"(?i)\swhere\s", retention_sql.strip().rstrip(";"), maxsplit=1)[1].strip()


def _store_of(acceleration: Acceleration) -> str:
    if (acceleration.engine or "arrow") == "arrow":
        return "memory"
    return "duckdb" if acceleration.has_keys else "parquet"


def _retention(acceleration: Acceleration) -> dict[str, Any]:
    if not acceleration.retention_check_enabled:
        return {}
    return {
        "retentionSeconds": _seconds(acceleration.retention_period),
        "retentionCondition": condition_of(acceleration.retention_sql) if acceleration.retention_sql else "",
        "retentionEverySeconds": _seconds(acceleration.retention_check_interval or DEFAULT_RETENTION_CHECK),
    }


def _conflict(acceleration: Acceleration) -> dict[str, Any]:
    wanted = acceleration.on_conflict or {}
    if not wanted:
        return {}
    if all(deed == "drop" for deed in wanted.values()):
        targets = [columns_in(target) for target in wanted]
        return {"onConflict": "drop", "conflictColumns": targets[0] if len(targets) == 1 else []}
    [target] = wanted
    return {"onConflict": "upsert", "conflictColumns": columns_in(target)}


def _seconds(text: str | None) -> float | None:
    return None if text is None else seconds_of(text)
