"""What stops `weir up`: one sentence that says what is wrong and what to do."""


class OneboxError(Exception):
    """The platform cannot start or go on; the text is shown to the operator as it is."""
