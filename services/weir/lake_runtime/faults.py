"""Every way a statement or a dataset may fail, and the one translation from the engine's words to ours.

DataFusion raises plain `ValueError` while planning and bare `Exception` while executing, so the kind is
read from the text. The texts are pinned by `tests/unit/lake_runtime/test_faults.py`.
"""

import base64
import re
from collections.abc import Iterable

import msgspec


class Fault(Exception):
    """A failure with a sentence for a person, a code for a machine and an HTTP status."""

    status = 500
    code = "runtime_error"

    def __init__(self, message: str, *, position: dict[str, int] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.position = position

    def body(self) -> dict[str, object]:
        body: dict[str, object] = {"error": self.message, "code": self.code, "status": self.status}
        return body if self.position is None else body | {"position": self.position}


class SqlError(Fault):
    status, code = 400, "sql_error"


class StatementNotAllowed(Fault):
    status, code = 403, "statement_not_allowed"


class ResourceExhausted(Fault):
    status, code = 400, "resource_exhausted"


class InvalidRequest(Fault):
    status, code = 400, "invalid_request"


class ParametersMismatch(Fault):
    status, code = 400, "parameters_mismatch"


class DatasetNotFound(Fault):
    status, code = 404, "not_found"


class Unauthorized(Fault):
    status, code = 401, "unauthorized"


class RuntimeStopping(Fault):
    status, code = 503, "runtime_stopping"


class DeadlinePassed(Fault):
    status, code = 504, "timeout"

    def __init__(self) -> None:
        super().__init__("The query did not end within its time budget.")

    def body(self) -> dict[str, object]:
        return super().body() | {"phase": "executing"}


class EmbeddingFailed(Fault):
    """The tenant's model did not embed (502), or was asked for wrongly (400)."""

    status, code = 502, "embedding_error"

    def __init__(self, message: str, *, status: int = 502, code: str = "embedding_error") -> None:
        super().__init__(message)
        self.status, self.code = status, code


class CarriedFault(Exception):
    """A fault on its way through the engine, which makes text of it."""


class SourceError(Fault):
    status, code = 502, "source_error"

    def __init__(self, dataset: str, reason: str) -> None:
        super().__init__(f"Dataset {dataset!r} could not be read: {reason}")
        self.dataset = dataset
        self.reason = reason

    def body(self) -> dict[str, object]:
        return super().body() | {"dataset": self.dataset}


_NOISE = re.compile(
    r"^(?:DataFusion error: |Error during planning: |SQL error: |Schema error: |Execution error: |"
    r"Arrow error: |Context\s*|Optimizer rule '\w+' failed\s*caused by\s*|"
    r"[Tt]ype_coercion\s*caused by\s*|This feature is not implemented: |External error: )+"
)
_BUG_NOTE = re.compile(r"\s*This issue was likely caused by a bug in DataFusion's code\..*", re.DOTALL)
_SETTING_HINT = re.compile(r" or disable the datafusion\.[\w.]+ configuration")
_POSITION = re.compile(r" at Line: (\d+), Column: (\d+)")
_PARSER_ERROR = re.compile(r'^(?:ParserError|TokenizerError)\("(.*)"\)$', re.DOTALL)
_TABLE_MISSING = re.compile(r"table '(?:[^'.]+\.)?(?:public\.)?([^']*)' not found")
_REFUSED = re.compile(r"(?:DDL|DML|Statement) not supported: (\w+)|Unsupported SQL statement: (\w+)")
_LENGTHS = re.compile(
    r"cosine_distance requires both list inputs to have the same length, got (\d+) and (\d+)"
)
_SHOW_SETTINGS = "SHOW [VARIABLE] is not supported"
# What a source of ours raises inside the engine comes back as text.
_SOURCE_ERROR = re.compile(r"SourceError: Dataset '(.+?)' could not be read: (.*)", re.DOTALL)
# At the very beginning: what stands further in may be a text of the statement's.
_CARRIED = re.compile(r"PyErr \{ type: <class '[\w.]+\.CarriedFault'>, value: CarriedFault\('([\w+/=]+)'\)")
_SOURCE_SIGNS = (
    "Object Store error",
    "ObjectStore",
    "Parquet error",
    "Error when processing CSV file",
    "Csv error",
    "Json error",
    "No files found at",
    "IO error",
    "Unable to find key",
    "No suitable object store",
)
_POOL_SIGNS = ("Resources exhausted", "exceeded the allowable limit", "memory allocation of")
_MAX_MESSAGE = 2_000
_BAD_SHOW = "is not supported unless information_schema is enabled"


def translate(  # noqa: PLR0911 - a table of decisions, top to bottom
    error: BaseException, *, datasets: Iterable[str] = ()
) -> Fault:
    """The fault that a caller is told for what the engine raised while it worked on `datasets`."""
    if isinstance(error, Fault):
        return error
    text = str(error)
    if not isinstance(error, ValueError) and type(error) is not Exception:
        # A Rust panic arrives as BaseException's child of its own; its text is a file and a line.
        return Fault("The runtime failed on this statement.")
    if (told := _SOURCE_ERROR.search(text)) and told[1] in set(datasets := list(datasets)):
        return SourceError(told[1], source_reason(told[2]))
    if told := _CARRIED.match(_NOISE.sub("", text)):
        status, code, message = msgspec.json.decode(base64.b64decode(told[1]), type=tuple[int, str, str])
        return EmbeddingFailed(message, status=status, code=code)
    refusal = _refusal(text)
    if refusal is not None:
        return refusal
    if "for JSON encoding" in text or "supported by JSON" in text:
        return SqlError(f"A column has a type that JSON cannot carry; cast it. {clean(text)}")
    if any(sign in text for sign in _POOL_SIGNS):
        return ResourceExhausted("The query needs more memory than its budget, even with spilling.")
    if any(sign in text for sign in _SOURCE_SIGNS) and (names := sorted(set(datasets))):
        return SourceError(", ".join(names), source_reason(text))
    return _sql_error(text)


def carried(fault: EmbeddingFailed) -> CarriedFault:
    """The fault in a form that `translate` finds again in the engine's text."""
    content = msgspec.json.encode((fault.status, fault.code, fault.message))
    return CarriedFault(base64.b64encode(content).decode())


def clean(text: str) -> str:
    """The engine's sentence without its prefixes, its bug-report note and its quoting."""
    text = _BUG_NOTE.sub("", text).strip()
    text = _SETTING_HINT.sub("", _NOISE.sub("", text)).strip().replace("\ncaused by\n", ": ")
    if match := _PARSER_ERROR.match(text):
        text = match[1].replace('\\"', '"').replace("\\'", "'")
    return text if len(text) <= _MAX_MESSAGE else text[:_MAX_MESSAGE] + "…"


def source_reason(text: str) -> str:
    """Why a source failed, in one line: the store's own code and message where it sent some."""
    text = clean(text)
    if match := re.search(r"<Code>(\w+)</Code>.*?<Message>([^<]*)</Message>", text, re.DOTALL):
        return f"{match[1]}: {match[2]}"
    if "after 10 retries" in text or "error sending request" in text:
        return "the source did not answer (10 attempts)"
    return " ".join(text.split())[:500]


def _refusal(text: str) -> Fault | None:
    if match := _REFUSED.search(text):
        return StatementNotAllowed(f"Only queries are allowed; this is {_words(match[1] or match[2])}.")
    if _SHOW_SETTINGS in text:
        return StatementNotAllowed("The engine's settings are not shown.")
    if _BAD_SHOW in text:
        return StatementNotAllowed("This SHOW statement is not offered.")
    if "only supports a single SQL statement" in text:
        return SqlError("A request holds one SQL statement.")
    return None


def _sql_error(text: str) -> Fault:
    message = clean(text)
    if "Internal error" in text:
        return Fault(f"The engine failed on this statement: {message}")
    position = None
    if match := _POSITION.search(message):
        position = {"line": int(match[1]), "column": int(match[2])}
    if match := _LENGTHS.search(message):
        message = f"The vectors that are compared have different lengths: {match[1]} and {match[2]}."
    if match := _TABLE_MISSING.search(message):
        message = message.replace(match[0], f"table '{match[1]}' not found")
    if "RecursionLimitExceeded" in message or "recursion limit exceeded" in message:
        message = "The statement is nested too deeply (50 levels)."
    return SqlError(message, position=position)


def _words(camel: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", camel).upper()
