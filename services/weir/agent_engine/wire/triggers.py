"""Triggers on the wire."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from weir.agent_engine.wire.tasks import Description, Priority, Title

TriggerType = Literal["cron", "webhook", "dataset_refreshed"]
Schedule = Annotated[str, Meta(min_length=1, max_length=200)]
Timezone = Annotated[str, Meta(min_length=1, max_length=100)]
Secret = Annotated[str, Meta(min_length=16, max_length=256)]
Datasets = Annotated[list[Annotated[str, Meta(min_length=1, max_length=200)]], Meta(max_length=100)]


class NewTrigger(Struct, frozen=True, kw_only=True):
    """`title` and `description` are those of the tasks that it creates."""

    type: TriggerType
    title: Title
    agent: str | None = None
    agent_name: str | None = None
    description: Description = ""
    priority: Priority = 0
    enabled: bool = True
    schedule: Schedule | None = None
    timezone: Timezone = "UTC"
    datasets: Datasets = []
    secret: Secret | None = None
    webhook_path: str | None = None


class TriggerChange(Struct, frozen=True, kw_only=True):
    """What is left out stays; `secret: null` has a new one made, which is shown once."""

    type: TriggerType | UnsetType = UNSET
    title: Title | UnsetType = UNSET
    agent: str | UnsetType = UNSET
    agent_name: str | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    schedule: Schedule | UnsetType | None = UNSET
    timezone: Timezone | UnsetType = UNSET
    datasets: Datasets | UnsetType = UNSET
    secret: Secret | UnsetType | None = UNSET
    webhook_path: str | UnsetType | None = UNSET


class TriggerDetail(Struct, frozen=True, kw_only=True):
    """`secret` is there only in the answer to the request that had it made."""

    id: str
    type: str
    title: str
    description: str
    agent: str
    agent_name: str
    agent_id: str
    priority: int
    enabled: bool
    schedule: str | None
    timezone: str
    webhook_path: str | None
    datasets: list[str]
    last_fired_at: str | None
    next_fire_at: str | None
    last_task_id: str | None
    failures: int
    last_error: str | None
    last_error_at: str | None
    created_by: str
    created_at: str
    updated_at: str
    secret: str | UnsetType = UNSET


class Firing(Struct, frozen=True, kw_only=True):
    """One event: the task that came of it, or why none did."""

    event: str
    task_id: str | None
    error: str | None
    fired_at: str


class Delivered(Struct, frozen=True, kw_only=True):
    task_id: str | None
    duplicate: bool
