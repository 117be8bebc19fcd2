"""Which blocks are shown, as what, and what the model is told of those that are not."""

from typing import Any

import msgspec
import pytest

from weir.agent_engine.signals import ToolFailed
from weir.agent_engine.tools.structured_output import block_of


def question(**fields: Any) -> dict[str, Any]:
    return {"id": "q", "label": "Q?", "type": "text"} | fields


def form(*questions: dict[str, Any]) -> dict[str, Any]:
    return {"output_type": "form", "questions": list(questions)}


def options(count: int) -> list[dict[str, str]]:
    return [{"label": f"o{number}"} for number in range(count)]


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ({}, "output_type"),
        ({"output_type": "poem", "title": "t"}, "poem"),
        ({"output_type": "info"}, "nothing to show"),
        ({"output_type": "summary_table", "rows": [{"label": "a"}]}, "value"),
        ({"output_type": "summary_table", "rows": "[1"}, "no JSON"),
        ({"output_type": "summary_table", "rows": [{"label": "a", "value": {}}]}, "value"),
        ({"output_type": "summary_table", "rows": [{"label": "a", "value": "x"}] * 201}, "length <= 200"),
        ({"output_type": "info", "title": "t", "actions": [{"label": "a", "type": "huge"}]}, "huge"),
        ({"output_type": "form"}, "1 to 5 questions"),
        (form(), "length >= 1"),
        (form(*(question(id=str(n)) for n in range(6))), "length <= 5"),
        (form(question(), question()), "the id 'q'"),
        (form(question(id="")), "id"),
        (form(question(type="date")), "date"),
        (form(question(type="select")), "2 to 5 options"),
        (form(question(type="multiselect", options=options(1))), "length >= 2"),
        (form(question(type="select", options=options(6))), "length <= 5"),
        (
            {"output_type": "summary_table", "rows": [{"label": "a" * 400, "value": "b" * 400}] * 100},
            "larger than 64 KiB",
        ),
    ],
)
def test_a_wrong_block_is_refused_with_what_is_wrong(block: dict[str, Any], says: str) -> None:
    with pytest.raises(ToolFailed, match=says):
        block_of(block)


def test_arrays_may_come_as_the_text_of_their_json() -> None:
    block = block_of({"output_type": "summary_table", "rows": '[{"label": "a", "value": 5}]'})
    assert msgspec.to_builtins(block) == {
        "output_type": "summary_table",
        "rows": [{"label": "a", "value": 5}],
    }


def test_what_is_left_out_stays_out_and_choices_stand_for_themselves() -> None:
    block = block_of(
        form(question(type="select", options=[{"label": "Small", "value": "s"}, {"label": "Large"}]))
        | {"title": None, "actions": [{"label": "Send", "type": "primary"}], "unknown": 1}
    )
    assert msgspec.to_builtins(block) == {
        "output_type": "form",
        "questions": [
            question(
                type="select",
                options=[{"label": "Small", "value": "s"}, {"label": "Large", "value": "Large"}],
            )
        ],
        "actions": [{"label": "Send", "type": "primary", "value": "Send"}],
    }
