"""Turns that run in circles: noticed, told so once, and then brought to an end."""

from collections.abc import Sequence

from weir.agent_engine.models.base import ToolCall, ToolMessage

IDENTICAL_CALLS = 3
# Of a call that has the same answer every time, whatever is done in between.
IDENTICAL_ANSWERS = 5
FAILURES_OF_A_TOOL = 4

REPEATED = "You have called {tool} {times} times with the same arguments; its answer will not change. "
FAILING = "{tool} has failed {times} times in a row. Do not call it again in the same way. "
ADVICE = "Try another way, or answer with what you have and say what is missing."


class Watch:
    """What a turn has done so far; `note` is for the model's next step, `is_lost` ends its tools."""

    def __init__(self) -> None:
        self.note = ""
        self.is_lost = False
        self._last: tuple[str, str] | None = None
        self._times = 0
        self._answers: dict[tuple[str, str], tuple[str, int]] = {}
        self._failures: dict[str, int] = {}

    def saw_step(self, calls: Sequence[ToolCall], results: Sequence[ToolMessage]) -> None:
        """Counts the calls of a step; the first circle earns a note, going on in it the end of the tools."""
        notes: list[str] = []
        for call, result in zip(calls, results, strict=True):
            same = (call.name, call.arguments.strip())
            self._times = self._times + 1 if same == self._last else 1
            self._last = same
            answers = self._same_answers(same, result.content)
            failed = result.content.startswith("[ERROR]")
            self._failures[call.name] = failures = self._failures.get(call.name, 0) + 1 if failed else 0
            if self._times >= IDENTICAL_CALLS or answers >= IDENTICAL_ANSWERS:
                times = max(self._times, answers)
                notes.append(REPEATED.format(tool=call.name[:100], times=times))
            elif failures >= FAILURES_OF_A_TOOL:
                notes.append(FAILING.format(tool=call.name[:100], times=failures))
        self.is_lost = self.is_lost or bool(notes and self.note)
        self.note = "".join(dict.fromkeys(notes)) + ADVICE if notes else ""

    def _same_answers(self, call: tuple[str, str], answer: str) -> int:
        """How often this call has had this answer, whatever came between."""
        known, times = self._answers.get(call, ("", 0))
        self._answers[call] = answer, times + 1 if answer == known else 1
        return self._answers[call][1]
