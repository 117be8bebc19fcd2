"""How a command ends: its exit code, and the sentence on standard error that goes with it."""

from enum import IntEnum


class Exit(IntEnum):
    """What a script can tell apart."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_AUTHORISED = 4
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS = {
    Exit.DONE: "done",
    Exit.REFUSED: "the platform refused: a wrong statement, a name in use, a file that cannot be read",
    Exit.USAGE: "the command was not understood, or a file of yours could not be opened",
    Exit.UNREACHABLE: "the platform was not reached, failed, or did not end its answer; again later may do",
    Exit.NOT_AUTHORISED: "no key, one that is not valid, or one that lacks the scope",
    Exit.INTERRUPTED: "Ctrl-C; a query that was running is cancelled",
}


class Failure(Exception):
    """The end of a command; `code` is the platform's own word for it, where it said one."""

    def __init__(self, exit_: Exit, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.exit = exit_
        self.message = message
        self.code = code

    def __str__(self) -> str:
        return f"{self.message} ({self.code})" if self.code else self.message
