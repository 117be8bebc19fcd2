"""What a turn spends, model by model and agent by agent, until its end is written."""

from weir.agent_engine.models.base import Finish
from weir.agent_engine.tables.usage import Spent


class Spending:
    """Adds up answers; one for a turn with all its sub-agents."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], Spent] = {}

    def add(self, model: str, agent: str, finish: Finish) -> None:
        before = self._sums.get((model, agent), Spent(model=model, agent=agent, requests=0))
        self._sums[model, agent] = Spent(
            model=model,
            agent=agent,
            requests=before.requests + 1,
            input_tokens=before.input_tokens + finish.input_tokens,
            output_tokens=before.output_tokens + finish.output_tokens,
            cached_tokens=before.cached_tokens + finish.cached_tokens,
            reasoning_tokens=before.reasoning_tokens + finish.reasoning_tokens,
        )

    @property
    def sums(self) -> list[Spent]:
        return list(self._sums.values())
