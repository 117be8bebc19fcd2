"""What the demo model says next: a pure function of the conversation and of the tools that it is offered."""

import re
from collections.abc import Sequence

from msgspec import Struct

from weir.demo_model.answer import show_tables, tell_result
from weir.demo_model.catalogue import Catalogue, Table, read_catalogue
from weir.demo_model.grammar import NotUnderstood, understand

LABEL = "[demo-scripted] "
EXAMPLES = (
    "How many flights are there?",
    "What is the average departure delay by carrier?",
    "Which 5 airlines have the most flights?",
    "What is the longest distance?",
    "List the tables",
    "Describe flights",
    "select origin, count(*) from flights group by origin",
)
WHO = "I am a scripted demo, not a language model: I turn a few kinds of questions into SQL on your context lake."
_GREETING = re.compile(
    r"\s*(hi|hello|hey|help|good (morning|day|evening)|who are you|what can you do)\b[\s!?.,]*$"
)
_SQL = re.compile(r"\s*(?:sql:\s*)?((?:select|with)\b.+)", re.IGNORECASE | re.DOTALL)
_LISTING = re.compile(r"\b(list|show|what|which)\b.*\b(tables|datasets|data)\b")
_DESCRIBING = re.compile(r"\b(?:describe|columns (?:of|in|does|has)|schema of|what is in)\b(.*)")


class Said(Struct, frozen=True):
    """One message of the conversation as the demo model needs it."""

    role: str
    content: str = ""
    calls: tuple[str, ...] = ()
    """The tools that an assistant's message called."""


class Speak(Struct, frozen=True):
    text: str


class UseTool(Struct, frozen=True):
    tool: str
    arguments: dict[str, str]


def plan(messages: Sequence[Said], tools: frozenset[str]) -> Speak | UseTool:
    """The next thing to say or do. Every figure that is said comes from a tool's result."""
    question, since = _live_question(messages)
    results = [(said.calls[0] if said.calls else "", said.content) for said in since if said.role == "tool"]
    if "calculator" in tools and not results and "calculator" in question:
        return UseTool("calculator", {"expression": "1+1"})
    if _GREETING.fullmatch(question.lower()):
        return _speak(f"{WHO} {_examples()}")
    if not {"lake_query", "lake_tables"} <= tools:
        return _speak(f"{WHO} This agent has not got the tools lake_tables and lake_query, so I cannot look.")
    if results:
        return _go_on(question, *results[-1])
    if sql := _SQL.fullmatch(question):
        return UseTool("lake_query", {"query": sql[1].strip()})
    return UseTool("lake_tables", {})


def _go_on(question: str, tool: str, result: str) -> Speak | UseTool:
    """The step after a tool's result."""
    if result.startswith("[ERROR]"):
        return _speak(f"The lake refused: {result.removeprefix('[ERROR]').strip()}")
    if tool == "lake_query":
        return _speak(tell_result(result))
    catalogue = read_catalogue(result)
    if catalogue is None:
        return _speak("The list of tables came in a form that I cannot read.")
    return _ask_lake(question, catalogue)


def _ask_lake(question: str, catalogue: Catalogue) -> Speak | UseTool:
    lowered = question.lower()
    if not catalogue.tables:
        return _speak("Your lake has no tables yet. Add a dataset and ask again.")
    if described := _described(lowered, catalogue):
        return _speak(show_tables([described], with_columns=True))
    if _LISTING.search(lowered) and "how many" not in lowered:
        return _speak(show_tables(catalogue.tables, with_columns=False))
    try:
        return UseTool("lake_query", {"query": understand(question, catalogue)})
    except NotUnderstood as why:
        return _speak(
            f"{WHO} I did not understand this one ({why}), and I would rather not guess. {_examples()}"
        )


def _described(question: str, catalogue: Catalogue) -> Table | None:
    asked = _DESCRIBING.search(question)
    words = re.findall(r"\w+", asked[1]) if asked else []
    return next((table for word in words if (table := catalogue.named(word))), None)


def _live_question(messages: Sequence[Said]) -> tuple[str, Sequence[Said]]:
    """The last message of the user, and what came after it."""
    for place in range(len(messages) - 1, -1, -1):
        if messages[place].role == "user":
            return messages[place].content.strip(), messages[place + 1 :]
    return "", ()


def _speak(text: str) -> Speak:
    return Speak(LABEL + text)


def _examples() -> str:
    return "Try one of these:\n" + "\n".join(f"- {example}" for example in EXAMPLES)
