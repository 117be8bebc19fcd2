"""The catalogue of known MCP servers on the wire, and the platform's own tools as they are told."""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType


class ListedVariable(Struct, frozen=True, kw_only=True):
    """A value that a server has to be given; one that is `secret` belongs into `env_vars` and nowhere else."""

    name: str
    required: bool
    description: str | UnsetType = UNSET
    secret: bool | UnsetType = UNSET


class ListedPackage(Struct, frozen=True, kw_only=True):
    """One way to have a server: a program, an address with `{NAME}` for values, or an image."""

    type: Literal["stdio", "remote", "docker"]
    transport: str | UnsetType = UNSET
    command: str | UnsetType = UNSET
    args: list[str] | UnsetType = UNSET
    url_template: str | UnsetType = UNSET
    image: str | UnsetType = UNSET
    env_vars: list[ListedVariable] = []


class ListedTool(Struct, frozen=True, kw_only=True):
    name: str
    description: str


class ListedServer(Struct, frozen=True, kw_only=True):
    """`verified`: it comes from those whose service it opens. What it offers is told by the server itself."""

    name: str
    display: str
    description: str
    category: str
    verified: bool
    packages: list[ListedPackage]
    provided_tools: list[ListedTool]


class McpCatalogue(Struct, frozen=True, kw_only=True):
    version: str
    servers: list[ListedServer]


class ToolMetadata(Struct, frozen=True, kw_only=True):
    """A tool of the platform; `parameters` is the JSON Schema of its arguments."""

    name: str
    description: str
    parameters: dict[str, Any]
    security_zone: Literal["safe", "caution", "dangerous"]
    risk_warning: str | UnsetType = UNSET
