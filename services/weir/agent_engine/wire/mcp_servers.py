"""MCP servers on the wire. The values of the environment go in and come out as `${NAME}`."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

Transport = Literal["stdio", "http", "sse", "streamable-http"]
AuthType = Literal["none", "api_key", "forward_headers", "oauth2", "service_account"]
EnvName = Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
EnvVars = Annotated[dict[EnvName, Annotated[str, Meta(max_length=8192)]], Meta(max_length=64)]
HeaderName = Annotated[str, Meta(pattern="^[A-Za-z0-9-]{1,100}$")]
HeaderNames = Annotated[list[HeaderName], Meta(max_length=32)]
Text = Annotated[str, Meta(max_length=2000)]
Arguments = Annotated[list[Text], Meta(max_length=64)]


class McpServerFields(Struct, frozen=True, kw_only=True):
    """What can be said of a server; null takes the default. A value of `env_vars` that reads `${NAME}` stays as it is."""

    command: Text | UnsetType | None = UNSET
    args: Arguments | UnsetType | None = UNSET
    url: Text | UnsetType | None = UNSET
    env_vars: EnvVars | UnsetType | None = UNSET
    forward_headers: HeaderNames | UnsetType | None = UNSET
    auth_type: AuthType | UnsetType | None = UNSET
    auth_key_env: EnvName | UnsetType | None = UNSET
    auth_token_env: EnvName | UnsetType | None = UNSET
    auth_client_id: Text | UnsetType | None = UNSET
    enabled: bool | UnsetType | None = UNSET


class McpServerChange(McpServerFields, frozen=True, kw_only=True):
    """The fields to change."""

    name: str | UnsetType = UNSET
    type: Transport | UnsetType = UNSET


class McpServerPut(McpServerFields, frozen=True, kw_only=True):
    """A change that says how the server is spoken to."""

    name: str | UnsetType = UNSET
    type: Transport


class NewMcpServer(McpServerFields, frozen=True, kw_only=True):
    name: str
    type: Transport


class McpServerDetail(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    type: Transport
    command: str | None
    args: list[str]
    url: str | None
    env_vars: dict[str, str]
    forward_headers: list[str]
    auth_type: AuthType
    auth_key_env: str | None
    auth_token_env: str | None
    auth_client_id: str | None
    enabled: bool
    agents: list[str]
    created_at: str
    updated_at: str


class Refreshed(Struct, frozen=True, kw_only=True):
    """What a server offers now."""

    name: str
    tools_count: int


class CircuitBreaker(Struct, frozen=True, kw_only=True):
    """The state of a server's circuit breaker in the process that answers."""

    name: str
    state: Literal["closed", "open", "half_open"]
    failure_count: int
    last_failure: str | UnsetType = UNSET


class CircuitBreakers(Struct, frozen=True, kw_only=True):
    breakers: list[CircuitBreaker]


class BreakerReset(Struct, frozen=True, kw_only=True):
    status: Literal["reset"]
    name: str
