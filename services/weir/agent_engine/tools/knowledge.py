"""Looking things up: the agent searches the knowledge bases that it is linked to, and no others."""

from typing import Any

import msgspec

from weir.agent_engine.knowledge.searching import MAX_LIMIT, linked_bases, search
from weir.agent_engine.models.base import ToolDefinition
from weir.agent_engine.signals import ToolFailed
from weir.agent_engine.studio import Studio
from weir.agent_engine.tables.agents import AgentRow
from weir.agent_engine.tools.base import Call
from weir.agent_engine.wire.capabilities import KnowledgeConfig
from weir_shared.errors import WeirError

NAME = "knowledge_search"
DEFAULT_LIMIT = 5
SECONDS = 90


class KnowledgeSearch:
    """Finds passages of the agent's own knowledge bases."""

    definition = ToolDefinition(
        name=NAME,
        description=(
            "Searches the files of this agent's knowledge bases and returns the passages that fit best, each with "
            "the file that it is from and a score. Name the file when you answer from a passage."
        ),
        parameters={
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": "What to look for, in words or as a question."},
                "limit": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": MAX_LIMIT,
                    "description": "How many passages.",
                },
            },
            "required": ["query"],
        },
    )

    def __init__(self, studio: Studio, tenant_id: str, agent: AgentRow) -> None:
        self._studio = studio
        self._tenant_id = tenant_id
        self._agent = agent

    async def run(self, call: Call) -> str:
        query = call.arguments.get("query")
        if not isinstance(query, str) or not query.strip():
            raise ToolFailed(f"{NAME} needs the argument `query`: what to look for, as text")
        bases = await linked_bases(self._studio, self._tenant_id, self._agent.knowledge_base_ids)
        if not bases:
            return "No knowledge base is linked to this agent, so there is nothing to search."
        config = msgspec.convert(self._agent.capability_configs.get("knowledge", {}), KnowledgeConfig)
        limit = _limit(call.arguments.get("limit"), config.top_k or DEFAULT_LIMIT)
        try:
            found = await search(
                self._studio,
                self._tenant_id,
                bases,
                query,
                limit=limit,
                threshold=config.similarity_threshold,
            )
        except WeirError as fault:
            raise ToolFailed(f"The knowledge bases cannot be searched now. {fault.message}") from None
        if not found:
            return "No passage fits the query. Try other words, or say that the knowledge bases do not tell."
        results = [
            {"source": passage.file_name, "score": passage.score, "text": passage.text} for passage in found
        ]
        return msgspec.json.encode({"results": results}).decode()


def _limit(asked: Any, usual: int) -> int:
    if isinstance(asked, bool) or not isinstance(asked, int):
        return usual
    return max(1, min(asked, MAX_LIMIT))
