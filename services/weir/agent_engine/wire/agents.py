"""Agents on the wire; `system` and `system_prompt`, `model` and `model_id` are two words for one thing."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

Prompt = Annotated[str, Meta(max_length=200_000)]
Description = Annotated[str, Meta(max_length=2000)]
Lifecycle = Literal["persistent", "spawn"]
ToolExecution = Literal["sequential", "parallel"]
Steps = Annotated[int, Meta(ge=0, le=10_000)]
ContextSize = Annotated[int, Meta(ge=256, le=10_000_000)]
Seconds = Annotated[int, Meta(ge=1, le=3600)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
Share = Annotated[float, Meta(ge=0, le=1)]
Tokens = Annotated[int, Meta(ge=1, le=10_000_000)]
StopSequences = Annotated[list[Annotated[str, Meta(min_length=1, max_length=200)]], Meta(max_length=16)]
Names = Annotated[list[Annotated[str, Meta(min_length=1, max_length=200)]], Meta(max_length=200)]
# An integer id of a model may be written as a number or as a text.
ModelReference = str | int


class AgentFields(Struct, frozen=True, kw_only=True):
    """Everything that can be said of an agent.

    What is left out keeps its value, or takes its default; null takes the default, for a model the tenant's.
    """

    description: Description | UnsetType | None = UNSET
    model: ModelReference | UnsetType | None = UNSET
    model_id: ModelReference | UnsetType | None = UNSET
    system: Prompt | UnsetType | None = UNSET
    system_prompt: Prompt | UnsetType | None = UNSET
    lifecycle: Lifecycle | UnsetType | None = UNSET
    tool_execution: ToolExecution | UnsetType | None = UNSET
    max_steps: Steps | UnsetType | None = UNSET
    max_context_size: ContextSize | UnsetType | None = UNSET
    max_turn_duration: Seconds | UnsetType | None = UNSET
    temperature: Temperature | UnsetType | None = UNSET
    top_p: Share | UnsetType | None = UNSET
    max_tokens: Tokens | UnsetType | None = UNSET
    stop_sequences: StopSequences | UnsetType | None = UNSET
    tools: Names | UnsetType | None = UNSET
    mcp_servers: Names | UnsetType | None = UNSET
    can_spawn: Names | UnsetType | None = UNSET
    confirm_before: Names | UnsetType | None = UNSET
    knowledge_base_ids: Names | UnsetType | None = UNSET


class NewAgent(AgentFields, frozen=True, kw_only=True):
    name: str


class AgentChange(AgentFields, frozen=True, kw_only=True):
    name: str | UnsetType = UNSET


class AgentSummary(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    description: str
    model: str
    model_id: int
    lifecycle: str
    tools_count: int
    has_knowledge: bool
    is_system: bool
    used_in_schemas: list[str]


class AgentDetail(AgentSummary, frozen=True, kw_only=True):
    system: str
    system_prompt: str
    tool_execution: str
    max_steps: int
    max_context_size: int
    max_turn_duration: int
    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    stop_sequences: list[str]
    tools: list[str]
    mcp_servers: list[str]
    can_spawn: list[str]
    confirm_before: list[str]
    knowledge_base_ids: list[str]
    created_at: str
    updated_at: str


class AgentLifecycle(Struct, frozen=True, kw_only=True):
    """What an agent is doing in a session; `context_tokens` is how full its context is there."""

    mode: str
    state: str
    tasks_handled: int
    context_tokens: int
    max_context: int
