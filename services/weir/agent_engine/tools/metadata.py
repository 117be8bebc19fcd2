"""The platform's own tools as they are told to whoever equips agents: what each does, takes and risks."""

from collections.abc import Sequence

from msgspec import UNSET

from weir.agent_engine.models.base import ToolDefinition
from weir.agent_engine.tools import lake
from weir.agent_engine.tools.knowledge import KnowledgeSearch
from weir.agent_engine.tools.manage_tasks import ManageTasks
from weir.agent_engine.tools.memory import MemoryRecall, MemoryStore
from weir.agent_engine.tools.spawn import SpawnAgent
from weir.agent_engine.tools.structured_output import StructuredOutput
from weir.agent_engine.wire.mcp_catalogue import ToolMetadata

_WRITTEN_BY_OTHERS = "What it returns was written by others; the model is told to take it as data."
# All act with the caller's own authority: no tool of the platform asks for caution by itself.
_WARNED = frozenset({"knowledge_search", "lake_query", "lake_sample", "memory_recall"})


def definitions() -> Sequence[ToolDefinition]:
    """Every tool that this version offers, as its models see it."""
    shown = StructuredOutput(lambda _block, _is_form: None, forms=True)
    return (
        *(
            kind.definition
            for kind in (KnowledgeSearch, *lake.TOOLS.values(), ManageTasks, MemoryRecall, MemoryStore)
        ),
        shown.definition,
        SpawnAgent({}).definition,
    )


def metadata() -> list[ToolMetadata]:
    """By name."""
    return [
        ToolMetadata(
            name=tool.name,
            description=tool.description,
            parameters=tool.parameters,
            security_zone="safe",
            risk_warning=_WRITTEN_BY_OTHERS if tool.name in _WARNED else UNSET,
        )
        for tool in sorted(definitions(), key=lambda tool: tool.name)
    ]
