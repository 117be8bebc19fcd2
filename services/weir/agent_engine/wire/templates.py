"""Schema templates on the wire: ready-made groups of agents to copy from."""

from typing import Any, Literal

from msgspec import Struct

Category = Literal["support", "sales", "internal", "generic"]


class TemplateCapability(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    type: str
    config: dict[str, Any] = {}


class TemplateAgent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An agent to be; without a model it gets the tenant's default one."""

    name: str
    description: str = ""
    system_prompt: str
    model: str | None = None
    lifecycle: Literal["persistent", "spawn"] = "persistent"
    tools: list[str] = []
    capabilities: list[TemplateCapability] = []


class TemplateRelation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    source: str
    target: str


class TemplateDefinition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    entry_agent_name: str
    agents: list[TemplateAgent]
    relations: list[TemplateRelation] = []


class Template(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    display: str
    description: str
    category: Category
    icon: str
    version: str
    definition: TemplateDefinition


class TemplateList(Struct, frozen=True, kw_only=True):
    version: str
    templates: list[Template]


class TemplateFork(Struct, frozen=True, kw_only=True):
    schema_name: str


class ForkedTemplate(Struct, frozen=True, kw_only=True):
    """`agent_ids` are by the names that the template gives its agents."""

    schema_id: str
    schema_name: str
    agent_ids: dict[str, str]
