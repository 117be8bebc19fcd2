"""A configuration document as it is sent: its sections in either form, its dialects understood, its faults all told."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct, field

from weir.agent_engine.models.providers import provider_type
from weir.agent_engine.naming import Faults, invalid
from weir_shared.errors import InvalidRequest
from weir_shared.yaml_text import BadYaml, load_yaml

Fields = dict[str, Any]


class Item(Struct, frozen=True):
    """One thing of a section: its name, what is said of it, and where that stands."""

    name: str
    fields: Fields
    path: str


class Sections(Struct, kw_only=True):
    """A document's sections in the order in which they are applied, and what was understood but not taken."""

    models: list[Item] = field(default_factory=list[Item])
    mcp_servers: list[Item] = field(default_factory=list[Item])
    knowledge_bases: list[Item] = field(default_factory=list[Item])
    tools: list[Item] = field(default_factory=list[Item])
    agents: list[Item] = field(default_factory=list[Item])
    schemas: list[Item] = field(default_factory=list[Item])
    warnings: list[str] = field(default_factory=list[str])
    variables: Mapping[str, str] = field(default_factory=dict[str, str])

    def filled(self, value: Any) -> Any:
        """The value with each `${NAME}` that the operator gives; one that it does not give stays a placeholder."""
        if isinstance(value, dict):
            return {name: self.filled(part) for name, part in value.items()}
        if not isinstance(value, str):
            return value
        return _VARIABLE.sub(lambda found: self.variables.get(found[1], found[0]), value)

    def fill(self, fields: Fields, *names: str) -> None:
        """Of these fields only: a prompt that speaks of `${NAME}` is left alone."""
        fields.update({name: self.filled(fields[name]) for name in names if name in fields})


_VARIABLE = re.compile(r"\$\{([A-Z][A-Z0-9_]*)\}")
SECTIONS = ("models", "mcp_servers", "knowledge_bases", "tools", "agents", "schemas")
# Sections and keys of other systems' documents: nothing here corresponds to them.
_FOREIGN = ("byok", "triggers", "engine", "database", "security", "logging", "version", "kind", "name")
_FOREIGN_OF_AGENTS = ("knowledge", "escalation", "kit", "flow", "triggers")
_RENAMED_MODEL = {"provider": "type", "model": "model_name", "model_kind": "kind", "default": "is_default"}
_RENAMED_SERVER = {"transport": "type", "env": "env_vars"}
_RENAMED_BASE = {"embedding_model": "embedding_model_id", "model": "embedding_model_id"}
_RENAMED_AGENT = {"model_name": "model", "prompt": "system"}


def parsed(content: bytes, media_type: str) -> Any:
    """The body as plain data. Raises InvalidRequest."""
    try:
        data = msgspec.json.decode(content) if media_type.endswith("json") else load_yaml(content)
        written = msgspec.json.encode(data)
    except BadYaml as fault:
        raise InvalidRequest(f"The document is not taken: {fault}") from None
    except (msgspec.DecodeError, RecursionError, UnicodeError, TypeError, ValueError) as fault:
        raise InvalidRequest(f"The document is not taken: {str(fault)[:200]}") from None
    if b"\\u0000" in written:
        raise InvalidRequest("A text must not hold the character U+0000")
    # Dates and the like have become the texts as which they would have been sent in JSON.
    return msgspec.json.decode(written)


def sections_of(data: Any, variables: Mapping[str, str]) -> Sections:
    """`variables` are those that the operator gives to documents. Raises ValidationFailed with every part that is not what it should be."""
    found, faults = Sections(variables=variables), Faults()
    if data is None:
        return found
    if not isinstance(data, dict):
        raise InvalidRequest(f"The document is a mapping with the keys {', '.join(SECTIONS)}")
    for key, section in data.items():
        if key in SECTIONS:
            with faults.gathered():
                _READ[key](found, section, faults)
        elif key in _FOREIGN:
            found.warnings.append(f"{key}: has no counterpart here and was left out")
        else:
            found.warnings.append(
                f"{key}: is not known and was left out; the sections are {', '.join(SECTIONS)}"
            )
    faults.raise_any()
    found.mcp_servers = _once_each(found.mcp_servers, "mcp_servers")
    found.tools = _once_each(found.tools, "tools")
    return found


def is_placeholder(value: Any) -> bool:
    """Whether a value stands for one that is not in the document."""
    return isinstance(value, str) and value.strip().startswith("${") and value.strip().endswith("}")


def _models(found: Sections, section: Any, faults: Faults) -> None:
    if isinstance(section, dict) and isinstance(section.get("providers"), list):
        if "byok" in section:
            found.warnings.append("models.byok: is a setting here (`byok.<provider>`) and was left out")
        section = section["providers"]
    for item in _items("models", section, faults):
        fields = _renamed(item.fields, _RENAMED_MODEL)
        if isinstance(fields.get("type"), str):
            fields["type"] = provider_type(fields["type"]) or fields["type"]
        found.fill(fields, "api_key", "base_url")
        key = fields.get("api_key")
        if is_placeholder(key):
            del fields["api_key"]
            found.warnings.append(f"{item.path}.api_key: a placeholder; a key that is kept stays as it is")
        found.models.append(Item(item.name, fields, item.path))


def _mcp_servers(found: Sections, section: Any, faults: Faults) -> None:
    for item in _items("mcp_servers", section, faults):
        found.mcp_servers.append(_mcp_server(found, item))


def _mcp_server(found: Sections, item: Item) -> Item:
    fields = _renamed(item.fields, _RENAMED_SERVER)
    found.fill(fields, "url", "env_vars")
    if isinstance(fields.get("type"), str):
        fields["type"] = fields["type"].replace("_", "-")
    # Which of a server's tools an agent has is not chosen here.
    if fields.pop("tools", None):
        found.warnings.append(f"{item.path}.tools: was left out; an agent has all tools of its servers")
    return Item(item.name, fields, item.path)


def _once_each(items: list[Item], section: str) -> list[Item]:
    """Of something that agents describe too, what its own section says."""
    kept: dict[str, Item] = {}
    for item in sorted(items, key=lambda item: not item.path.startswith(f"{section}.")):
        kept.setdefault(item.name, item)
    return list(kept.values())


def _knowledge_bases(found: Sections, section: Any, faults: Faults) -> None:
    for item in _items("knowledge_bases", section, faults):
        found.knowledge_bases.append(Item(item.name, _renamed(item.fields, _RENAMED_BASE), item.path))


def _tools(found: Sections, section: Any, faults: Faults) -> None:
    for item in _items("tools", section, faults):
        with faults.gathered():
            found.tools.append(_tool(found, item))


def _tool(found: Sections, item: Item) -> Item:
    fields = _renamed(item.fields, {"parameters": "params"})
    if fields.pop("type", "http") != "http":
        raise invalid(f"{item.path}.type", "the type of a tool is http")
    if isinstance(endpoint := fields.pop("endpoint", None), str):
        method, _, url = endpoint.strip().rpartition(" ")
        fields = {"method": method or "GET", "url": url} | fields
    if isinstance(fields.get("method"), str):
        fields["method"] = fields["method"].upper()
    if isinstance(params := fields.get("params"), dict):
        # What is described is given by the model; what is a text is sent with the address.
        described: dict[str, Fields] = {
            name: about or {} for name, about in params.items() if about is None or isinstance(about, dict)
        }
        fields["params"] = [{"name": name} | about for name, about in described.items()]
        sent = {name: text for name, text in params.items() if name not in described}
        query: Any = fields.get("query") or {}
        if sent and isinstance(query, dict):
            fields["query"] = {**sent, **query}
    if isinstance(auth := fields.get("auth"), dict):
        auth = _renamed(auth, {"password": "token", "value": "token", "name": "header"})
        if "token_env" in auth:
            del auth["token_env"]
            found.warnings.append(
                f"{item.path}.auth.token_env: the platform's environment is not read; write the token as `token`"
            )
        fields["auth"] = auth
    found.fill(fields, "url", "headers", "auth")
    return Item(item.name, fields, item.path)


def _agents(found: Sections, section: Any, faults: Faults) -> None:
    for item in _items("agents", section, faults):
        fields = _renamed(item.fields, _RENAMED_AGENT)
        for key in _FOREIGN_OF_AGENTS:
            if fields.pop(key, None) is not None:
                found.warnings.append(f"{item.path}.{key}: has no counterpart here and was left out")
        tools = fields.get("tools")
        if isinstance(tools, dict):
            tools = dict(tools)
            builtin = tools.get("builtin") or []
            if not isinstance(builtin, list):
                raise invalid(f"{item.path}.tools.builtin", "is a list of names")
            fields["tools"] = list(builtin)
            if isinstance(tools.get("mcp_servers"), dict):
                named = _items(f"{item.path}.tools.mcp_servers", tools["mcp_servers"], faults)
                found.mcp_servers += [_mcp_server(found, server) for server in named]
                fields.setdefault("mcp_servers", [server.name for server in named])
            fields["tools"] += _custom(found, item, tools, faults)
            for key in sorted(set(tools) - {"builtin", "mcp_servers"}):
                if tools[key]:
                    found.warnings.append(
                        f"{item.path}.tools.{key}: was left out; builtin tools and MCP servers are named there"
                    )
        if "knowledge_bases" in fields:
            fields.setdefault("knowledge_base_ids", fields.pop("knowledge_bases"))
        found.agents.append(Item(item.name, fields, item.path))


def _custom(found: Sections, agent: Item, tools: Fields, faults: Faults) -> list[str]:
    """The names of the tools that an agent describes itself; what is no request stays for the warning."""
    custom = tools.get("custom")
    if not isinstance(custom, list):
        return []
    requests = [one for one in custom if isinstance(one, dict) and {"url", "endpoint"} & set(one)]
    tools["custom"] = [one for one in custom if one not in requests]
    named = _items(f"{agent.path}.tools.custom", requests, faults)
    for tool in named:
        with faults.gathered():
            found.tools.append(_tool(found, tool))
    return [tool.name for tool in named]


def _schemas(found: Sections, section: Any, faults: Faults) -> None:
    for item in _items("schemas", section, faults):
        fields = _renamed(item.fields, {"entry_agent_name": "entry_agent", "agent_relations": "relations"})
        found.schemas.append(Item(item.name, fields, item.path))


_READ: dict[str, Callable[[Sections, Any, Faults], None]] = {
    "models": _models,
    "mcp_servers": _mcp_servers,
    "knowledge_bases": _knowledge_bases,
    "tools": _tools,
    "agents": _agents,
    "schemas": _schemas,
}


def _items(section: str, content: Any, faults: Faults) -> list[Item]:
    """A list of things with names, or a mapping of names to things."""
    if content is None:
        return []
    pairs: list[tuple[str, Any, Any]] = []
    if isinstance(content, dict):
        pairs = [(f"{section}.{name}", name, fields) for name, fields in content.items()]
    elif isinstance(content, list):
        for position, fields in enumerate(content):
            name = fields.get("name") if isinstance(fields, dict) else None
            pairs.append((f"{section}.{position if name is None else name}", name, fields))
    else:
        raise invalid(section, "is a list of things with a name, or a mapping of names to things")
    items: dict[str, Item] = {}
    for path, name, fields in pairs:
        with faults.gathered():
            item = _item(path, name, fields)
            if item.name in items:
                raise invalid(path, f"there are two of the name '{item.name[:100]}'")
            items[item.name] = item
    return list(items.values())


def _item(path: str, name: Any, fields: Any) -> Item:
    if fields is not None and not isinstance(fields, dict):
        raise invalid(path, "is a mapping")
    if not isinstance(name, str):
        raise invalid(f"{path}.name", "a name is required")
    said = dict(fields or {})
    if said.pop("name", name) != name:
        raise invalid(f"{path}.name", f"differs from the key '{name[:100]}'")
    return Item(name, said, path)


def _renamed(fields: Mapping[str, Any], names: Mapping[str, str]) -> Fields:
    """The fields by their names here; one that stands there by that name already counts."""
    renamed = dict(fields)
    for old, new in names.items():
        if old in renamed:
            value = renamed.pop(old)
            renamed.setdefault(new, value)
    return renamed
