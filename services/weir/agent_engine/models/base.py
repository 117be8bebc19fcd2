"""What every wire protocol of a model has in common: what goes in, what comes out, how it fails."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Protocol

from msgspec import Struct


class ModelError(Exception):
    """A model that did not answer; the message is fit for the person who chats."""

    code = "model_error"


class ModelRefused(ModelError):
    """The provider understood and said no: the request, or what it asks for."""

    code = "model_refused"


class ModelUnauthorized(ModelRefused):
    code = "model_unauthorized"


class ModelMissing(ModelRefused):
    code = "model_not_found"


class ModelUnpaid(ModelRefused):
    """The account at the provider has no credit left; asking again does not help."""

    code = "model_unpaid"


class PromptTooLong(ModelRefused):
    """The prompt is longer than the model's context."""

    code = "model_context_exceeded"


class ModelRateLimited(ModelError):
    code = "model_rate_limited"


class ModelUnavailable(ModelError):
    code = "model_unavailable"


class ModelOverloaded(ModelUnavailable):
    code = "model_overloaded"


class ModelTimedOut(ModelError):
    code = "model_timed_out"


class ModelGarbled(ModelError):
    """The provider's answer is not what its protocol promises."""

    code = "model_garbled"


class ModelSilent(ModelError):
    """The provider's answer holds neither text nor tool calls."""

    code = "model_silent"


class ToolCall(Struct, frozen=True):
    """A call that a model asks for; `arguments` is the text it wrote, which may be no JSON at all."""

    call_id: str
    name: str
    arguments: str


class UserMessage(Struct, frozen=True, tag="user"):
    content: str


class AssistantMessage(Struct, frozen=True, tag="assistant"):
    """What the model said; `echo` is what its provider wants to see again while the turn lasts (`Finish.echo`)."""

    content: str
    calls: tuple[ToolCall, ...] = ()
    echo: dict[str, Any] = {}


class ToolMessage(Struct, frozen=True, tag="tool"):
    call_id: str
    content: str


Message = UserMessage | AssistantMessage | ToolMessage


class ToolDefinition(Struct, frozen=True, kw_only=True):
    """A tool as a model is told of it; `parameters` is a JSON schema."""

    name: str
    description: str
    parameters: dict[str, Any]


class Sampling(Struct, frozen=True, kw_only=True):
    """What an agent wants of its model's answers; None leaves it to the provider."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()


class Prompt(Struct, frozen=True, kw_only=True):
    """One question to a model."""

    system: str
    messages: Sequence[Message]
    tools: Sequence[ToolDefinition] = ()
    sampling: Sampling = Sampling()


class TextPart(Struct, frozen=True):
    content: str


class ThinkingPart(Struct, frozen=True):
    content: str


class Finish(Struct, frozen=True, kw_only=True):
    """The end of an answer.

    `reason` is `stop`, `length`, `tool_calls` or `content_filter`, whatever the provider calls it.
    Token counts are 0 when the provider tells none; cached ones are part of the input, reasoning of the output.
    `echo` is in the words of the wire that made it: signatures and reasoning without which some providers
    refuse the results of their tool calls.
    """

    reason: str
    calls: tuple[ToolCall, ...] = ()
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    echo: dict[str, Any] = {}


Part = TextPart | ThinkingPart | Finish


class ModelAccess(Struct, frozen=True, kw_only=True):
    """Where a model is and how it is asked; lives for one turn and is never written down.

    `deadline` is when the turn ends, on the monotonic clock: no pause before another try goes beyond it.
    """

    type: str
    model_name: str
    base_url: str
    api_key: str | None = None
    api_version: str | None = None
    deadline: float | None = None

    def __repr__(self) -> str:
        # The key must not get into a log by way of a message that shows its arguments.
        return f"ModelAccess(type={self.type!r}, model_name={self.model_name!r}, base_url={self.base_url!r})"


class ModelClient(Protocol):
    """One wire protocol."""

    def stream(self, access: ModelAccess, prompt: Prompt) -> AsyncGenerator[Part, None]:
        """The parts of the answer as they arrive, `Finish` last. Raises ModelError."""
        ...
