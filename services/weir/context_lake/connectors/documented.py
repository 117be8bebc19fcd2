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
    "wait": "duration or seconds",
    "port": "port",
    "host": "host",
    "certificate": "PEM text",
    "service_account": "JSON text",
    "headers": "`name: value` pairs",
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
    if param.required:
        words.append("required")
    elif param.required_when:
        words.append(f"required when {param.required_when.words}")
    elif param.only_when:
        words.append(f"only with `{param.only_when.param}` set to `{param.only_when.value}`")
    if param.requires:
        words.append(f"only with {_names(param.requires)}")
    if param.one_of:
        words.append(f"at most one {param.one_of}")
    if param.also:
        words.append(f"also {_names(param.also)}")
    if param.unavailable_choices:
        words.append(f"{_names(param.unavailable_choices)} not available in this version")
    if param.unavailable:
        words.append("not available in this version")
    elif param.without_effect:
        words.append("without effect in this version")
    return "; ".join(words).replace("|", "\\|")


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
