"""A sub-agent as a tool: it is given a task, runs to its end, and what it says is the result."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping

from msgspec.structs import replace

from weir.agent_engine.models.base import ToolDefinition
from weir.agent_engine.signals import ToolFailed
from weir.agent_engine.tables.briefs import Delegate
from weir.agent_engine.tools.base import Call, Tool

PREFIX = "spawn_"
GENERIC = "spawn_agent"
# What every provider takes as the name of a tool.
MAX_CHARACTERS = 64
_HASH_CHARACTERS = 8

Run = Callable[[Delegate, Call, str], Awaitable[str]]
"""Runs the sub-agent with its task; the result. Raises ToolFailed."""


class Spawn:
    """Delegates to one agent."""

    def __init__(self, delegate: Delegate, run: Run) -> None:
        agent = delegate.agent
        about = f" It is described so: {agent.description}" if agent.description else ""
        self._delegate = delegate
        self._run = run
        self.definition = ToolDefinition(
            name=tool_name(agent.name),
            description=(
                f"Gives a task to the agent '{agent.name}', waits for it and returns its answer.{about} "
                "It sees nothing of this conversation but the description."
            ),
            parameters={
                "type": "object",
                "properties": {
                    "description": {
                        "type": "string",
                        "description": "The whole task, with everything that the agent has to know.",
                    }
                },
                "required": ["description"],
            },
        )

    async def run(self, call: Call) -> str:
        if call.arguments.get("action", "spawn") != "spawn":
            raise ToolFailed(
                f"{call.tool} only spawns: it waits for the agent, so there is nothing else to do"
            )
        task = call.arguments.get("description")
        if not isinstance(task, str) or not task.strip():
            raise ToolFailed(f"{call.tool} needs the argument `description`: the task as text")
        return await self._run(self._delegate, call, task)


class SpawnAgent:
    """Delegates to the agent that the call names, as its own tool would."""

    def __init__(self, targets: Mapping[str, Tool]) -> None:
        self._targets = targets
        among = {"enum": list(targets)} if targets else {}
        self.definition = ToolDefinition(
            name=GENERIC,
            description=(
                "Gives a task to one of your agents, waits for it and returns its answer. "
                "It sees nothing of this conversation but the input."
            ),
            parameters={
                "type": "object",
                "properties": {
                    "agent_name": {"type": "string"} | among,
                    "input": {
                        "type": "string",
                        "description": "The whole task, with everything that the agent has to know.",
                    },
                },
                "required": ["agent_name", "input"],
            },
        )

    async def run(self, call: Call) -> str:
        target = self._targets.get(str(call.arguments.get("agent_name")))
        if target is None:
            raise ToolFailed(f"{GENERIC} needs `agent_name`: one of {', '.join(self._targets)}")
        task = call.arguments.get("input")
        if not isinstance(task, str) or not task.strip():
            raise ToolFailed(f"{GENERIC} needs the argument `input`: the task as text")
        return await target.run(replace(call, arguments={"description": task}))


def tool_name(agent: str) -> str:
    """`spawn_<name>`; a name that is too long for providers is cut, and a hash keeps it apart from others."""
    name = full_name(agent)
    if len(name) <= MAX_CHARACTERS:
        return name
    digest = hashlib.sha256(agent.encode()).hexdigest()[:_HASH_CHARACTERS]
    return f"{name[: MAX_CHARACTERS - _HASH_CHARACTERS - 1]}_{digest}"


def full_name(agent: str) -> str:
    return PREFIX + agent
