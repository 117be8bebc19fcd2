"""`acceleration` of a request held against every rule at once; what is left is a block that may be kept."""

import difflib
import re
from typing import Any, cast

from cronsim import CronSim, CronSimError
from msgspec import UNSET, Struct

from weir.context_lake.connectors.declared import Findings, Place
from weir.context_lake.refreshes.acceleration import VIEW_REFRESHES, Acceleration, columns_in
from weir.context_lake.refreshes.durations import seconds_of
from weir.context_lake.refreshes.statements import delete_fault, select_fault
from weir_shared import clock

ENGINES = ("arrow", "duckdb", "sqlite")
TIME_FORMATS = ("timestamp", "timestamptz", "unix_seconds", "unix_millis", "ISO8601", "date")
READY_STATES = ("on_load", "on_registration")
LEAST_INTERVAL_SECONDS = 1
MOST_SQL = 16 * 1024
MOST_TARGETS = 32
_COLUMN = re.compile(r"[^\x00-\x1f\"]{1,255}")
# Known to a Spicepod, and refused by name.
_NOT_YET = ("params", "snapshots", "snapshots_trigger", "snapshots_trigger_threshold", "snapshots_compaction", "partition_by")  # fmt: skip
_CHOICES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "engine": (ENGINES, ()),
    "mode": (("memory", "file"), ("file_create", "file_update")),
    "refresh_mode": (("full", "append"), ("changes", "caching", "snapshot")),
    "refresh_on_startup": (("auto", "always"), ()),
    "on_zero_results": (("return_empty",), ("use_source",)),
}
_DURATIONS = (
    "refresh_check_interval",
    "refresh_data_window",
    "refresh_append_overlap",
    "refresh_jitter_max",
    "retention_check_interval",
    "retention_period",
)
_SWITCHES = ("enabled", "refresh_retry_enabled", "refresh_jitter_enabled", "retention_check_enabled")
_TEXTS = ("refresh_cron", "refresh_sql", "retention_sql", "primary_key")
_MAPS: dict[str, tuple[str, ...]] = {
    "indexes": ("enabled", "unique"),
    "on_conflict": ("upsert", "upsert_dedup", "upsert_dedup_by_row_id", "drop"),
}
_FIELDS = (*Acceleration.__struct_fields__, *_NOT_YET)


class Times(Struct, frozen=True):
    """What a dataset or view says of time beside its acceleration."""

    column: str | None = None
    form: str | None = None
    ready_state: str | None = None


def check_times(wanted: Any, at: Place, found: Findings) -> Times:
    """`time_column`, `time_format` and `ready_state` of a request."""
    column = _given(wanted.time_column)
    if column is not None and not (isinstance(column, str) and _COLUMN.fullmatch(column)):
        found.refuse(at.field("time_column"), "time_column must be the name of a column")
        column = None
    form = _one_of(_given(wanted.time_format), TIME_FORMATS, at.field("time_format"), "time_format", found)
    if form is not None and column is None:
        found.refuse(at.field("time_format"), "time_format needs a time_column", "conflict")
    ready = _given(wanted.ready_state)
    return Times(column, form, _one_of(ready, READY_STATES, at.field("ready_state"), "ready_state", found))


def check_acceleration(
    sent: object, times: Times, name: str, at: Place, found: Findings, *, is_view: bool = False
) -> Acceleration | None:
    """The block as it is kept; None when there is none, or when something is wrong with it."""
    sent = _given(sent)
    if sent is None:
        return None
    check = _Check(sent, at.field("acceleration"), found)
    faults = len(found.errors)
    fields = check.fields()
    if len(found.errors) > faults:
        return None
    acceleration = Acceleration(**fields)
    _Rules(acceleration, times, name, at, found).check(is_view=is_view)
    return None if len(found.errors) > faults else acceleration


def check_view_refresh(sent: object, acceleration: object, at: Place, found: Findings) -> str | None:
    refresh = _one_of(_given(sent), tuple(VIEW_REFRESHES), at.field("refresh"), "refresh", found)
    if refresh is not None and _given(acceleration) is not None:
        message = "refresh and acceleration exclude each other: give one of them"
        found.refuse(at.field("refresh"), message, "conflict")
    return refresh


class _Check:
    """Each field by itself."""

    def __init__(self, sent: object, path: str, found: Findings) -> None:
        self._sent = sent
        self._path = path
        self._found = found

    def fields(self) -> dict[str, Any]:
        if not isinstance(self._sent, dict):
            self._found.refuse(self._path, "acceleration must be an object")
            return {}
        sent = cast(dict[str, Any], self._sent)
        return {
            field: kept
            for field, value in sent.items()
            if value is not None and (kept := self._kept(field, value)) is not None
        }

    def _kept(self, field: str, value: Any) -> Any:  # noqa: PLR0911 - a table of kinds
        path = f"{self._path}.{field[:64]}"
        if field in _NOT_YET:
            if value not in ({}, [], "disabled"):
                self._found.refuse(path, f"{field} is not available in this version", "not_available")
        elif field in _CHOICES:
            return self._choice(path, field, value)
        elif field in _DURATIONS:
            return self._duration(path, field, value)
        elif field in _SWITCHES:
            return self._switch(path, field, value)
        elif field in _TEXTS:
            return self._text(path, field, value)
        elif field in _MAPS:
            return self._map(path, field, value)
        elif field == "refresh_retry_max_attempts":
            if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1_000_000:
                return value
            self._found.refuse(path, f"{field} must be a whole number of at least 1")
        else:
            close = difflib.get_close_matches(field[:64], _FIELDS, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            self._found.refuse(path, f"{field[:64]} is an unknown field{hint}", "unknown_field")
        return None

    def _choice(self, path: str, field: str, value: Any) -> str | None:
        choices, later = _CHOICES[field]
        if isinstance(value, str) and value in choices:
            return value
        if isinstance(value, str) and value in later:
            self._found.refuse(path, f"{field} {value} is not available in this version", "not_available")
        elif field == "engine":
            message = f"engine must be one of {', '.join(choices)}"
            self._found.refuse(path, message, "unsupported_engine")
        else:
            self._found.refuse(path, f"{field} must be one of {', '.join(choices)}")
        return None

    def _duration(self, path: str, field: str, value: Any) -> str | None:
        seconds = seconds_of(value) if isinstance(value, str) else None
        if seconds is None or seconds <= 0:
            self._found.refuse(path, f"{field} must be a duration such as 30s or 1h30m")
            return None
        if field.endswith("_interval") and seconds < LEAST_INTERVAL_SECONDS:
            self._found.refuse(path, f"{field} must be at least {LEAST_INTERVAL_SECONDS}s")
            return None
        return value

    def _switch(self, path: str, field: str, value: Any) -> bool | None:
        if isinstance(value, bool):
            return value
        self._found.refuse(path, f"{field} must be true or false")
        return None

    def _text(self, path: str, field: str, value: Any) -> str | None:
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            self._found.refuse(path, f"{field} must be a text that is not empty")
        elif len(value.encode()) > MOST_SQL:
            self._found.refuse(path, f"{field} must be at most {MOST_SQL} bytes", "limit_exceeded")
        else:
            return value
        return None

    def _map(self, path: str, field: str, value: Any) -> dict[str, str] | None:
        choices = _MAPS[field]
        if not isinstance(value, dict):
            self._found.refuse(path, f"{field} must be an object of columns")
            return None
        wanted = cast(dict[str, Any], value)
        if len(wanted) > MOST_TARGETS:
            self._found.refuse(path, f"{field} has at most {MOST_TARGETS} entries", "limit_exceeded")
        for target, deed in wanted.items():
            if not _are_columns(target):
                message = f"{target[:64]} must be a column, or columns such as (a, b)"
                self._found.refuse(f"{path}.{target[:64]}", message)
            if deed not in choices:
                message = f"{target[:64]} must be one of {', '.join(choices)}"
                self._found.refuse(f"{path}.{target[:64]}", message)
        return wanted


class _Rules:
    """The fields of a block with each other."""

    def __init__(self, block: Acceleration, times: Times, name: str, at: Place, found: Findings) -> None:
        self._block = block
        self._times = times
        self._name = name
        self._at = at
        self._path = at.field("acceleration")
        self._found = found

    def check(self, *, is_view: bool) -> None:
        block = self._block
        if (block.engine or "arrow") == "arrow":
            self._check_arrow()
        if block.refresh_check_interval and block.refresh_cron:
            message = "refresh_check_interval and refresh_cron exclude each other: give one of them"
            self._refuse("refresh_cron", message, "conflict")
        if block.refresh_cron and not is_cron(block.refresh_cron):
            self._refuse("refresh_cron", "refresh_cron must be five fields, such as 0 6 * * *")
        self._check_times()
        self._check_retention()
        self._check_keys()
        if block.refresh_sql and is_view:
            self._refuse("refresh_sql", "refresh_sql is for datasets; a view has its sql", "conflict")
        elif block.refresh_sql and (fault := select_fault(block.refresh_sql, self._name)):
            self._refuse("refresh_sql", f"refresh_sql {fault}", "refresh_sql")
        if block.retention_sql and (fault := delete_fault(block.retention_sql, self._name)):
            self._refuse("retention_sql", f"retention_sql {fault}", "retention_sql")

    def _check_arrow(self) -> None:
        if self._block.mode == "file":
            message = "engine arrow keeps its rows in memory; for mode file take duckdb or sqlite"
            self._refuse("mode", message, "conflict")
        for field in ("indexes", "primary_key", "on_conflict"):
            if getattr(self._block, field):
                message = f"{field} is not offered by engine arrow; take duckdb or sqlite"
                self._refuse(field, message, "conflict")

    def _check_times(self) -> None:
        block, has_time = self._block, self._times.column is not None
        if block.refresh_mode == "append" and not has_time:
            message = "time_column is required when refresh_mode is append"
            self._found.refuse(self._at.field("time_column"), message, "required")
        for field in ("refresh_data_window", "retention_period"):
            if getattr(block, field) and not has_time:
                self._refuse(field, f"{field} needs a time_column", "conflict")
        if block.refresh_append_overlap and not block.appends(self._times.column):
            message = "refresh_append_overlap needs refresh_mode append"
            self._refuse("refresh_append_overlap", message, "conflict")

    def _check_retention(self) -> None:
        block = self._block
        wanted = block.retention_period or block.retention_sql
        if block.retention_check_enabled and not wanted:
            message = "retention_period or retention_sql is required when retention_check_enabled is true"
            self._refuse("retention_period", message, "required")
        if wanted and not block.retention_check_enabled:
            message = "nothing is retired until retention_check_enabled is true"
            self._found.warn(f"{self._path}.retention_check_enabled", message, "without_effect")

    def _check_keys(self) -> None:
        block = self._block
        if block.primary_key and not _are_columns(block.primary_key):
            self._refuse("primary_key", "primary_key must be a column, or columns such as (a, b)")
            return
        conflicts = block.on_conflict or {}
        if len(conflicts) > 1 and set(conflicts.values()) != {"drop"}:
            message = "on_conflict has several targets only if all of them are drop"
            self._refuse("on_conflict", message, "conflict")
        unique = [columns_in(target) for target, kind in (block.indexes or {}).items() if kind == "unique"]
        keys = [sorted(columns) for columns in (*unique, columns_in(block.primary_key or "")) if columns]
        for target in conflicts:
            if sorted(columns_in(target)) not in keys:
                message = f"on_conflict {target[:64]} is neither the primary key nor a unique index"
                self._refuse("on_conflict", message, "conflict")

    def _refuse(self, field: str, message: str, code: str = "invalid") -> None:
        self._found.refuse(f"{self._path}.{field}", message, code)


def is_cron(text: str) -> bool:
    """Whether it is a cron expression of five fields that ever comes true."""
    try:
        next(CronSim(text, clock.now()))
    except (CronSimError, StopIteration):
        return False
    return True


def _are_columns(target: str) -> bool:
    columns = columns_in(target)
    return 0 < len(columns) <= MOST_TARGETS and all(_COLUMN.fullmatch(column) for column in columns)


def _one_of(value: object, choices: tuple[str, ...], path: str, field: str, found: Findings) -> str | None:
    if value is None or (isinstance(value, str) and value in choices):
        return value
    found.refuse(path, f"{field} must be one of {', '.join(choices)}")
    return None


def _given(value: object) -> Any:
    return None if value is UNSET else value
