"""What a tool says to the model instead of a result; not a fault of the platform."""


class ToolFailed(Exception):
    """The tool did not do it; the message tells the model why, and the turn goes on."""

    @property
    def text(self) -> str:
        """The result as the model, the events and the history have it."""
        return f"[ERROR] {self}"
