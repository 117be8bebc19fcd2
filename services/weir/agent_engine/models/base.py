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


class ModelRateLimited(ModelError):
    code = "model_rate_limited"


class ModelUnavailable(ModelError):
    code = "model_unavailable"


class ModelTimedOut(ModelError):
    code = "model_timed_out"


class ModelGarbled(ModelError):
    """The provider's answer is not what its protocol promises."""

    code = "model_garbled"


class ModelSilent(ModelError):
    """The provider's answer holds neither text nor tool calls."""

    code = "model_silent"


class ProviderNotBuilt(ModelError):
    code = "provider_not_available"


class ToolCall(Struct, frozen=True):
    """A call that a model asks for; `arguments` is the text it wrote, which may be no JSON at all."""

    call_id: str
    name: str
    arguments: str


class UserMessage(Struct, frozen=True, tag="user"):
    content: str


class AssistantMessage(Struct, frozen=True, tag="assistant"):
    content: str
    calls: tuple[ToolCall, ...] = ()


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
    """The end of an answer. Token counts are 0 when the provider tells none."""

    reason: str
    calls: tuple[ToolCall, ...] = ()
    input_tokens: int = 0
    output_tokens: int = 0


Part = TextPart | ThinkingPart | Finish


class ModelAccess(Struct, frozen=True, kw_only=True):
    """Where a model is and how it is asked; lives for one turn and is never written down."""

    type: str
    model_name: str
    base_url: str
    api_key: str | None = None
    api_version: str | None = None


class ModelClient(Protocol):
    """One wire protocol."""

    def stream(self, access: ModelAccess, prompt: Prompt) -> AsyncGenerator[Part, None]:
        """The parts of the answer as they arrive, `Finish` last. Raises ModelError."""
        ...
