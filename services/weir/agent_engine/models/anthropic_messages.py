"""Anthropic's Messages protocol."""

from weir.agent_engine.models.anthropic_answer import AnswerInPieces
from weir.agent_engine.models.anthropic_request import VERSION, request_body
from weir.agent_engine.models.asking import Question, question
from weir.agent_engine.models.base import ModelAccess, Prompt
from weir.agent_engine.models.providers import anthropic_url
from weir.agent_engine.models.wire_names import unsafe_names


def begin(access: ModelAccess, prompt: Prompt) -> tuple[Question, AnswerInPieces]:
    """What is asked, and what reads the answer."""
    asked = question(
        anthropic_url(access.base_url),
        request_body(access, prompt),
        anthropic_version=access.api_version or VERSION,
        x_api_key=access.api_key,
    )
    return asked, AnswerInPieces(unsafe_names=unsafe_names(prompt.tools), key=access.api_key)
