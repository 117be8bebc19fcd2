"""The connectors' page of the reference, written from their declarations."""

from collections.abc import Iterable

from weir.context_lake.connectors import CONNECTORS
from weir.context_lake.connectors.declared import Param
from weir.context_lake.connectors.source import Connector

_KINDS = {
    "text": "text",
    "switch": "`true` or `false`",
    "count": "whole number",
    "character": "one character",
    "url": "URL",
    "duration": "duration",
}


def page() -> str:
    """The whole page in Markdown."""
    parts = [
        "# Connectors",
        "",
        "What the `from` and the `params` of a dataset may be. This page is printed by `weir connectors`.",
        "",
        "A credential is sealed when it is written and never shown again: a dataset that is read has",
        "`${secrets:ds.<dataset>.<parameter>}` in its place, and keeps it when that is sent back.",
    ]
    for connector in CONNECTORS.values():
        parts += ["", *_section(connector)]
    return "\n".join(parts) + "\n"


def _section(connector: Connector) -> Iterable[str]:
    yield f"## `{connector.id}`"
    yield ""
    yield f"`{connector.example}`: {connector.help}."
    yield ""
    yield "| parameter | value | default | meaning |"
    yield "| --- | --- | --- | --- |"
    for param in connector.params:
        yield f"| `{param.name}` | {_value(param)} | {_default(param)} | {_meaning(param)} |"


def _value(param: Param) -> str:
    if param.kind == "choice":
        return ", ".join(f"`{choice}`" for choice in param.choices)
    return _KINDS[param.kind] + (", credential" if param.credential else "")


def _default(param: Param) -> str:
    return f"`{param.default}`" if param.default is not None else ""


def _meaning(param: Param) -> str:
    words = [param.help]
    if param.required_when:
        words.append(f"required when {param.required_when.words}")
    elif param.only_when:
        words.append(f"only with `{param.only_when.param}` set to `{param.only_when.value}`")
    if param.without_effect:
        words.append("without effect in this version")
    return "; ".join(words).replace("|", "\\|")
