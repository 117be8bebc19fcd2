"""The chat-completions protocol of OpenAI, as eight of the ten types of models speak it."""

from weir.agent_engine.models.asking import Question, question
from weir.agent_engine.models.base import ModelAccess, Prompt
from weir.agent_engine.models.openai_answer import AnswerInPieces
from weir.agent_engine.models.openai_request import request_body
from weir.agent_engine.models.providers import PROVIDERS, azure_url, openai_url
from weir.agent_engine.models.wire_names import unsafe_names


def begin(access: ModelAccess, prompt: Prompt) -> tuple[Question, AnswerInPieces]:
    """What is asked, and what reads the answer."""
    provider = PROVIDERS[access.type]
    key = access.api_key or provider.key
    if access.type == "azure_openai":
        url, secrets = azure_url(access.base_url, access.model_name, access.api_version), {"api_key": key}
    else:
        url = openai_url(access.type, access.base_url)
        secrets = {"authorization": f"Bearer {key}" if key else None}
    answer = AnswerInPieces(unsafe_names=unsafe_names(prompt.tools), echo=provider.echo, key=access.api_key)
    return question(url, request_body(access, prompt), **secrets), answer
