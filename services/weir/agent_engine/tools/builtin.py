"""The platform's own tools, made for one turn and one caller."""

from collections.abc import Sequence

import structlog

from weir.agent_engine.studio import Studio
from weir.agent_engine.tools.base import Tool
from weir.agent_engine.tools.lake import LakeDesk, LakeQuery, LakeTables
from weir.agent_engine.tools.names import KNOWN
from weir.agent_engine.tools.timed import Timed
from weir.agent_engine.turn_clock import TurnClock
from weir_shared.auth.principal import Principal

# The lake ends a query by itself and says why; this is for when it does not.
LAKE_SLACK_SECONDS = 10

log = structlog.get_logger(__name__)
_missed: set[str] = set()


def builtin_tools(
    names: Sequence[str], studio: Studio, principal: Principal, *, clock: TurnClock
) -> list[Tool]:
    """The named tools that work for the caller, each timed; the turn's clock bounds them too."""
    desk = LakeDesk(studio.lake, principal, clock, seconds=studio.sql_seconds)
    there_are = {"lake_query": LakeQuery, "lake_tables": LakeTables}
    tools: list[Tool] = []
    for name in names:
        if name in there_are:
            tools.append(Timed(there_are[name](desk), seconds=studio.sql_seconds + LAKE_SLACK_SECONDS))
        elif name not in KNOWN:
            _tell_once(name)
    return tools


def _tell_once(name: str) -> None:
    if name not in _missed:
        _missed.add(name)
        log.warning("a configured tool is not in this version, agents go without it", tool=name)
