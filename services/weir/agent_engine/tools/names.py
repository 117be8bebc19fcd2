"""The tools of the platform by name: which there are, and which of them this version offers."""

from collections.abc import Collection, Sequence
from difflib import get_close_matches

from weir.agent_engine.naming import Faults, invalid

KNOWN = frozenset(
    {
        "knowledge_search",
        "lake_query",
        "lake_sample",
        "lake_schema",
        "lake_tables",
        "manage_tasks",
        "memory_recall",
        "memory_store",
        "show_structured_output",
        "spawn_agent",
    }
)
# What a capability brings besides the tools that an agent names.
BROUGHT = {"memory": ("memory_recall", "memory_store"), "knowledge": ("knowledge_search",)}


def check_tools(names: list[str], own: Collection[str] = ()) -> None:
    """Raises ValidationFailed for names that are no tools of the platform and none of the tenant's own, each with the
    nearest one that is."""
    faults = Faults()
    known = KNOWN | set(own)
    for position, name in enumerate(names):
        if name in known:
            continue
        near = get_close_matches(name, sorted(known), n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"the tools are {', '.join(sorted(known))}"
        with faults.gathered():
            raise invalid(f"tools.{position}", f"there is no tool '{name[:100]}'; {hint}")
    faults.raise_any()


def tools_of(tools: Sequence[str], capabilities: Sequence[str], spawnable: Sequence[str]) -> list[str]:
    """The tools that an agent has: those it names, those its capabilities bring, one for each agent it spawns."""
    brought = [tool for kind in capabilities for tool in BROUGHT[kind]]
    return list(dict.fromkeys([*tools, *brought, *(f"spawn_{name}" for name in spawnable)]))
