"""Logs: one valid JSON object a line, whatever is logged, and never a secret."""

import io
import json
import logging

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from weir_shared.telemetry import logs
from weir_shared.telemetry.logs import REDACTED, redact, scrub

SECRETS = [
    "bb_" + "a1" * 32,
    "rbk_" + "0f" * 32,
    "AKIAIOSFODNN7EXAMPLE",
    "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
    "sk-ant-api03-abcdefghijklmnop",
    "-----BEGIN PRIVATE KEY-----\nMC4CAQ\n-----END PRIVATE KEY-----",
    "postgresql://weir:hunter2@db/weir",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_known_by_its_looks(secret: str) -> None:
    line = json.dumps(redact(None, "", {"event": f"saw {secret} here", "deep": {"list": [secret]}}))
    hidden = "weir:hunter2" if "hunter2" in secret else secret.splitlines()[-1]
    assert hidden not in line
    assert REDACTED in line


@pytest.mark.parametrize(
    "name",
    ["authorization", "api_key", "API-Key", "s3_secret", "password", "pg_pass", "access_token", "cookie"],
)
def test_a_secret_is_known_by_its_name(name: str) -> None:
    assert redact(None, "", {name: "plain"})[name] == REDACTED
    assert redact(None, "", {"params": {name: "plain"}})["params"][name] == REDACTED


def test_counts_of_a_models_tokens_are_no_secret() -> None:
    assert redact(None, "", {"total_tokens": 7, "tokens": 3}) == {"total_tokens": 7, "tokens": 3}


def test_ordinary_text_is_left_alone() -> None:
    text = "SELECT * FROM sales WHERE id = 1 -- https://example.com/a?b=c"
    assert scrub(text) == text


@given(
    st.text(st.characters(exclude_categories=()), max_size=200),
    st.dictionaries(st.text(max_size=8), st.text(max_size=30), max_size=4),
)
def test_any_event_is_one_line_of_json(text: str, extra: dict[str, str]) -> None:
    line = logs._render(None, "", redact(None, "", {"event": text, "extra": extra}))
    assert "\n" not in line
    assert isinstance(json.loads(line), dict)


def test_a_librarys_log_is_json_too(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    before = logging.getLogger().handlers[:]
    try:
        logs.configure_logs("test")
        logging.getLogger("some.library").warning("token is %s", SECRETS[0])
    finally:
        logging.basicConfig(handlers=before, force=True)
        structlog.reset_defaults()
    [line] = stream.getvalue().splitlines()
    told = json.loads(line)
    assert SECRETS[0] not in line
    assert told["level"] == "warning"
