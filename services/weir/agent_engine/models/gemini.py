"""Google's Gemini protocol."""

from weir.agent_engine.models.asking import Question, question
from weir.agent_engine.models.base import ModelAccess, Prompt
from weir.agent_engine.models.gemini_answer import AnswerInPieces
from weir.agent_engine.models.gemini_request import request_body
from weir.agent_engine.models.providers import gemini_url
from weir.agent_engine.models.wire_names import unsafe_names


def begin(access: ModelAccess, prompt: Prompt) -> tuple[Question, AnswerInPieces]:
    """What is asked, and what reads the answer. The key is never in the address: addresses get into logs."""
    url = gemini_url(access.base_url, access.model_name, "streamGenerateContent", "alt=sse")
    asked = question(url, request_body(prompt), x_goog_api_key=access.api_key)
    return asked, AnswerInPieces(unsafe_names=unsafe_names(prompt.tools), key=access.api_key)
