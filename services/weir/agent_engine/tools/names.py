"""The tools of the platform by name: which there are, and which of them this version offers."""

from difflib import get_close_matches

from weir.agent_engine.naming import invalid

OFFERED = frozenset({"lake_query", "lake_tables"})
# They may be configured already; an agent is offered them once they are there.
PLANNED = frozenset(
    {
        "knowledge_search",
        "manage_tasks",
        "memory_recall",
        "memory_store",
        "show_structured_output",
        "spawn_agent",
    }
)
KNOWN = OFFERED | PLANNED


def check_tools(names: list[str]) -> None:
    """Raises ValidationFailed for a name that is no tool of the platform, with the nearest one that is."""
    for position, name in enumerate(names):
        if name in KNOWN:
            continue
        near = get_close_matches(name, sorted(KNOWN), n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"the tools are {', '.join(sorted(KNOWN))}"
        raise invalid(f"tools.{position}", f"there is no tool '{name[:100]}'; {hint}")
