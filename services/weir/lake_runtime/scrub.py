"""Take out of a message what its reader must not see: keys, URL credentials, the runtime's own names."""

import re
from collections.abc import Iterable

from weir.lake_runtime.relations import Relation
from weir.lake_runtime.sources.opening import STORE_DOMAIN

_USERINFO = re.compile(r"(\w+://)[^/\s@]+@")
_ACCESS_KEY = re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b")
_SIGNED_QUERY = re.compile(
    r"(?i)\b(X-Amz-(?:Signature|Credential|Security-Token)|sig|token|password)=[^&\s'\"]+"
)
_HIDDEN = "[hidden]"


def scrub(message: str, *relations: Relation) -> str:
    """The message without the secrets of these relations, and with their own locations."""
    for relation in relations:
        message = _hide(message, relation.secrets())
        if relation.location is not None and relation.location.host:
            message = message.replace(relation.location.url, relation.location.shown)
    message = re.sub(rf"(\w+)://d\d+\.{re.escape(STORE_DOMAIN)}/?", r"\1://", message)
    return _hide_patterns(message)


def scrub_secrets(text: str, secrets: Iterable[str]) -> str:
    """The text without these values, and without what looks like a credential."""
    return _hide_patterns(_hide(text, secrets))


def _hide_patterns(message: str) -> str:
    message = _USERINFO.sub(rf"\1{_HIDDEN}@", message)
    message = _ACCESS_KEY.sub(_HIDDEN, message)
    return _SIGNED_QUERY.sub(rf"\1={_HIDDEN}", message)


def _hide(message: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        # Very short values would take ordinary words out of the sentence.
        if len(secret) >= 4:
            message = message.replace(secret, _HIDDEN)
    return message
