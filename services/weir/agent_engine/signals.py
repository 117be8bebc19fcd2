"""What a tool says instead of a result: to the model, or to the turn; not a fault of the platform."""


class ToolFailed(Exception):
    """The tool did not do it; the message tells the model why, and the turn goes on."""

    @property
    def text(self) -> str:
        """The result as the model, the events and the history have it."""
        return f"[ERROR] {self}"


class TurnGone(Exception):
    """The turn was ended, or its session deleted, by somebody else: nothing of it may go on."""
