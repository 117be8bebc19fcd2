"""What a client of OpenAI's wire asks for: its message, what it says was said before, and what cannot be had here."""

from collections.abc import Callable, Sequence

from msgspec import Struct

from weir.agent_engine.models.base import (
    AssistantMessage,
    Message,
    Sampling,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from weir.agent_engine.naming import invalid, refused
from weir.agent_engine.wire.completions import (
    CompletionRequest,
    GivenCall,
    GivenMessage,
    GivenPart,
)
from weir_shared.errors import FieldError

MAX_CHARACTERS = 400_000
ROLES = "system, developer, user, assistant or tool"
_OWN_TOOLS = "the agent has tools of its own, which the platform runs; leave it out"

Reason = tuple[str, Callable[[CompletionRequest], bool], str]
# Each would change what the answer is; what only tunes it is passed over.
_REFUSED: tuple[Reason, ...] = (
    ("n", lambda asked: asked.n not in (None, 1), "a turn has one answer; ask again for another one"),
    ("tools", lambda asked: bool(asked.tools), _OWN_TOOLS),
    ("tool_choice", lambda asked: asked.tool_choice not in (None, "auto", "none"), _OWN_TOOLS),
    ("functions", lambda asked: bool(asked.functions), _OWN_TOOLS),
    ("function_call", lambda asked: asked.function_call not in (None, "auto", "none"), _OWN_TOOLS),
    (
        "response_format",
        lambda asked: asked.response_format is not None and asked.response_format.type != "text",
        "answers are text; say in a message which form they should have, and leave it out",
    ),
    ("logprobs", lambda asked: bool(asked.logprobs), "probabilities of tokens are not told; leave it out"),
    ("top_logprobs", lambda asked: bool(asked.top_logprobs), "probabilities of tokens are not told"),
    ("logit_bias", lambda asked: bool(asked.logit_bias), "tokens cannot be weighted; leave it out"),
    (
        "modalities",
        lambda asked: bool(asked.modalities) and asked.modalities != ["text"],
        "answers are text; leave it out",
    ),
    ("audio", lambda asked: asked.audio is not None, "answers are text; leave it out"),
    (
        "web_search_options",
        lambda asked: asked.web_search_options is not None,
        "an agent searches with the tools that it has; leave it out",
    ),
)


class Asked(Struct, frozen=True, kw_only=True):
    """A request as the turn sees it."""

    message: str
    history: tuple[Message, ...]
    instructions: str
    sampling: Sampling


def asked_in(request: CompletionRequest) -> Asked:
    """Raises ValidationFailed, which names the field and says what to do instead."""
    faults = [
        FieldError(path=name, message=reason) for name, is_wanted, reason in _REFUSED if is_wanted(request)
    ]
    if faults:
        raise refused(faults)
    instructions, conversation = _read(request.messages)
    last = conversation.pop() if conversation and request.messages[-1].role == "user" else None
    if not isinstance(last, UserMessage):
        raise invalid("messages", "the last message has the role `user`; it is the one that is answered")
    if len(last.content) > MAX_CHARACTERS:
        place = f"messages.{len(request.messages) - 1}.content"
        raise invalid(place, f"a message is at most {MAX_CHARACTERS} characters long")
    return Asked(
        message=last.content,
        history=tuple(conversation),
        instructions=instructions,
        sampling=_sampling(request),
    )


def _sampling(request: CompletionRequest) -> Sampling:
    limits = [limit for limit in (request.max_tokens, request.max_completion_tokens) if limit is not None]
    stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
    return Sampling(
        temperature=request.temperature,
        top_p=request.top_p,
        max_tokens=min(limits, default=None),
        stop=tuple(stop),
    )


def _read(given: Sequence[GivenMessage]) -> tuple[str, list[Message]]:
    """The instructions, and the rest as the engine writes a conversation."""
    instructions: list[str] = []
    found: list[Message] = []
    waiting: set[str] = set()
    for number, message in enumerate(given):
        place = f"messages.{number}"
        if waiting and message.role != "tool":
            raise invalid(
                place, "before it there is a call of a tool without the `tool` message of its result"
            )
        text = _text(message.content, f"{place}.content")
        match message.role:
            case "system" | "developer":
                instructions.append(text.strip())
            case "user":
                found.append(_user(text, place))
            case "assistant":
                calls = tuple(_call(call, place) for call in message.tool_calls or ())
                waiting = _ids(calls, place)
                found += [AssistantMessage(text, calls)] if text or calls else []
            case "tool":
                found.append(_result(message.tool_call_id, text, waiting, place))
            case _:
                raise invalid(f"{place}.role", f"a role is {ROLES}, not '{message.role[:40]}'")
    return "\n\n".join(filter(None, instructions)), found


def _user(text: str, place: str) -> UserMessage:
    if not text.strip():
        raise invalid(f"{place}.content", "a message of the user needs a text")
    return UserMessage(text)


def _ids(calls: Sequence[ToolCall], place: str) -> set[str]:
    ids = {call.call_id for call in calls}
    if len(ids) < len(calls):
        raise invalid(f"{place}.tool_calls", "two calls have the same id; each needs its own")
    return ids


def _result(call_id: str | None, text: str, waiting: set[str], place: str) -> ToolMessage:
    """The result of a call that waits for one, which it then does no more."""
    if call_id is None or call_id not in waiting:
        raise invalid(
            f"{place}.tool_call_id", "a result names a call of the assistant's message right before it"
        )
    waiting.remove(call_id)
    return ToolMessage(call_id, text)


def _call(call: GivenCall, place: str) -> ToolCall:
    if call.function is None:
        raise invalid(f"{place}.tool_calls", "a call is of the type `function`, with its name and arguments")
    return ToolCall(call.id, call.function.name, call.function.arguments)


def _text(content: str | list[GivenPart] | None, place: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    for number, part in enumerate(content):
        if part.type != "text":
            raise invalid(
                f"{place}.{number}.type",
                f"only parts of the type `text` are taken here, not '{part.type[:40]}'",
            )
    return "\n".join(part.text for part in content)
