"""What leaves a service: faults of every kind, translated into sentences."""

import pytest
from litestar.exceptions import ClientException

from weir_shared.errors import FieldError, ValidationFailed
from weir_shared.sealing import SealError
from weir_shared.web.errors import render_engine_error, render_openai_error, translate


def test_a_body_that_is_no_json_is_said_to_be_none() -> None:
    error = translate(ClientException("JSON is malformed: invalid character (byte 10)"))
    assert (error.status, error.code) == (400, "invalid_json")
    assert error.message == "The body is not valid JSON: invalid character (byte 10)"
    assert translate(ClientException("Input data was truncated")).message.startswith("The body is not valid")


def test_a_secret_that_does_not_open_is_the_operators_matter_and_no_internal_error() -> None:
    error = translate(SealError("the key-encryption key 0001 is not loaded; restore 0001.kek"))
    assert (error.status, error.code) == (503, "secrets_unavailable")
    assert "0001" not in error.message


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Validation failed", "Validation failed: model: there is none"),
        ("model: there is none", "model: there is none"),
        ("Look again: there is none", "Look again: there is none"),
    ],
)
def test_a_fault_is_told_once_in_the_sentence(said: str, told: str) -> None:
    error = ValidationFailed([FieldError(path="model", message="there is none")], said)
    assert render_engine_error(error, "")["message"] == told
    assert render_openai_error(error, "")["error"]["message"] == told
