"""Chat completions on the wire of OpenAI's clients: what they send, and what they read."""

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

MAX_MESSAGES = 2048
MAX_STOPS = 4

Stop = Annotated[str, Meta(min_length=1, max_length=200)]


class GivenPart(Struct, frozen=True, kw_only=True):
    type: str
    text: str = ""


class GivenFunction(Struct, frozen=True, kw_only=True):
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    arguments: str = ""


class GivenCall(Struct, frozen=True, kw_only=True):
    id: Annotated[str, Meta(min_length=1, max_length=200)]
    function: GivenFunction | None = None


class GivenMessage(Struct, frozen=True, kw_only=True):
    role: Annotated[str, Meta(description="`system`, `developer`, `user`, `assistant` or `tool`")]
    content: str | list[GivenPart] | None = None
    tool_calls: Annotated[list[GivenCall], Meta(max_length=128)] | None = None
    tool_call_id: str | None = None


class StreamOptions(Struct, frozen=True, kw_only=True):
    include_usage: bool | None = None


class ResponseFormat(Struct, frozen=True, kw_only=True):
    type: str = "text"


class CompletionRequest(Struct, frozen=True, kw_only=True):
    """The last fields are here to be refused: an answer that passed over them would not be what was asked for."""

    model: Annotated[str, Meta(description="The name of a schema that is open for chat")]
    messages: Annotated[list[GivenMessage], Meta(min_length=1, max_length=MAX_MESSAGES)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    stop: Stop | Annotated[list[Stop], Meta(max_length=MAX_STOPS)] | None = None
    n: int | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    functions: list[Any] | None = None
    function_call: Any = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: dict[str, Any] | None = None
    modalities: list[str] | None = None
    audio: Any = None
    web_search_options: Any = None


class Usage(Struct, frozen=True, kw_only=True):
    """Of the whole turn: every step of the agent and of those that it gave work to."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AnswerMessage(Struct, frozen=True, kw_only=True):
    content: str
    role: str = "assistant"
    refusal: None = None
    reasoning_content: str | UnsetType = UNSET


class Choice(Struct, frozen=True, kw_only=True):
    message: AnswerMessage
    finish_reason: str
    index: int = 0
    logprobs: None = None


class Completion(Struct, frozen=True, kw_only=True):
    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    object: str = "chat.completion"


class Delta(Struct, frozen=True, kw_only=True):
    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET


class ChunkChoice(Struct, frozen=True, kw_only=True):
    delta: Delta
    finish_reason: str | None = None
    index: int = 0
    logprobs: None = None


class Chunk(Struct, frozen=True, kw_only=True):
    """A piece of a streamed answer; where usage is asked for, all but the last have it as null."""

    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    object: str = "chat.completion.chunk"
    usage: Usage | UnsetType | None = UNSET


class ModelCard(Struct, frozen=True, kw_only=True):
    """A schema as OpenAI's clients see it."""

    id: str
    created: int
    object: str = "model"
    owned_by: str = "weir"


class ModelCards(Struct, frozen=True, kw_only=True):
    data: list[ModelCard]
    object: str = "list"
