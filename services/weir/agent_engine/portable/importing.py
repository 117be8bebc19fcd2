"""A document applied to a tenant's configuration: all of it or nothing, by the rules of the single requests.

What the document does not name stays as it is. Of what it names, the fields that it gives are set; lists replace
lists. Something whose fields all are so already is not touched, so that an export can be imported over itself.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

from weir.agent_engine import agents, capabilities, relations, schemas
from weir.agent_engine.http_tools import AUTH, shown
from weir.agent_engine.knowledge import bases
from weir.agent_engine.knowledge.vectors import require_vectors
from weir.agent_engine.mcp.configured import mask
from weir.agent_engine.naming import Faults, refused
from weir.agent_engine.portable.document import Fields, Item, Sections, is_placeholder
from weir.agent_engine.studio import Studio
from weir.agent_engine.tables import agents as agent_rows
from weir.agent_engine.tables import http_tools as tool_rows
from weir.agent_engine.tables import knowledge as base_rows
from weir.agent_engine.tables import mcp_servers as server_rows
from weir.agent_engine.tables import models as model_rows
from weir.agent_engine.tables import schemas as schema_rows
from weir.agent_engine.wire.agents import AgentChange, AgentDetail, NewAgent
from weir.agent_engine.wire.capabilities import CapabilityChange, NewCapability
from weir.agent_engine.wire.http_tools import HttpToolChange, HttpToolDetail, NewHttpTool
from weir.agent_engine.wire.knowledge import BaseChange, BaseDetail, NewBase
from weir.agent_engine.wire.mcp_servers import McpServerChange, McpServerDetail, NewMcpServer
from weir.agent_engine.wire.models import ModelChange, ModelDetail, NewModel
from weir.agent_engine.wire.portable import Counts, Imported
from weir.agent_engine.wire.relations import NewRelation, RelationChange
from weir.agent_engine.wire.schemas import NewSchema, SchemaChange
from weir_shared.db.pool import Connection, Unit
from weir_shared.errors import FieldError, WeirError
from weir_shared.web.bodies import field_faults

CREATED, UPDATED, UNCHANGED = "created", "updated", "unchanged"
# What null asks for.
_EMPTY: tuple[Any, ...] = (None, "", [], {})
_Body = TypeVar("_Body", bound=Struct)


class _Undone(Exception):
    """What was only tried is undone."""


class Importing:
    """One document on its way into one tenant, within one unit of work."""

    def __init__(self, connection: Connection, tenant_id: str, studio: Studio) -> None:
        self._unit = Unit(connection, tenant_id)
        self._connection = connection
        self._tenant_id = tenant_id
        self._models = studio.models.within(self._unit)
        self._tools = studio.http_tools.within(self._unit)
        self._servers = studio.mcp_servers.within(self._unit)
        self.warnings: list[str] = []
        self.faults = Faults()

    async def section(self, items: list[Item], apply: Callable[[Item], Awaitable[str]]) -> Counts:
        counts = Counts()
        for item in items:
            try:
                done = await apply(item)
            except WeirError as fault:
                if fault.status >= 500:
                    raise
                self.faults.found += _placed(item.path, fault)
            else:
                setattr(counts, done, getattr(counts, done) + 1)
        return counts

    async def model(self, item: Item) -> str:
        found = await model_rows.find(self._connection, self._tenant_id, item.name)
        if found is None or found.name != item.name:
            await self._models.create(
                self._tenant_id, self._body(item, NewModel, item.fields | {"name": item.name})
            )
            return CREATED
        change = self._body(item, ModelChange, item.fields)
        detail = await self._models.read(self._tenant_id, item.name)
        if not change.api_key and _is_so(change, detail, ModelDetail):
            return UNCHANGED
        await self._models.change(self._tenant_id, item.name, change)
        return UPDATED

    async def mcp_server(self, item: Item) -> str:
        """A server that lacks a value is configured all the same: what is there to keep, a document does not tell."""
        found = await server_rows.find(self._connection, self._tenant_id, item.name, None)
        fields = self._with_kept_values(item, found.env_names if found else [])
        if found is None:
            new = self._body(item, NewMcpServer, fields | {"name": item.name})
            await self._servers.create(self._tenant_id, new, may_lack_secret=True)
            return CREATED
        change = self._body(item, McpServerChange, fields)
        detail = await self._servers.read(self._tenant_id, item.name)
        if _is_so(change, detail, McpServerDetail):
            return UNCHANGED
        await self._servers.change(self._tenant_id, item.name, change, may_lack_secret=True)
        return UPDATED

    async def knowledge_base(self, item: Item) -> str:
        """What it is, not its files."""
        found = await base_rows.find_base(self._connection, self._tenant_id, item.name, None)
        if found is None:
            new = self._body(item, NewBase, item.fields | {"name": item.name})
            await bases.add_base(self._unit, self._tenant_id, new)
            return CREATED
        change = self._body(item, BaseChange, item.fields)
        detail = await bases.read_base(self._unit, self._tenant_id, item.name)
        if str(change.embedding_model_id) == detail.embedding_model:
            change = replace(change, embedding_model_id=UNSET)
        if _is_so(change, detail, BaseDetail):
            return UNCHANGED
        await bases.change_base(self._unit, self._tenant_id, item.name, change)
        return UPDATED

    async def tool(self, item: Item) -> str:
        found = await tool_rows.find(self._connection, self._tenant_id, item.name)
        fields = self._with_kept_secrets(item, found.secret_names if found else [])
        if found is None:
            new = self._body(item, NewHttpTool, fields | {"name": item.name})
            await self._tools.create(self._tenant_id, new)
            return CREATED
        change = self._body(item, HttpToolChange, fields)
        if _is_so(change, shown(found), HttpToolDetail):
            return UNCHANGED
        await self._tools.change(self._tenant_id, item.name, change)
        return UPDATED

    def _with_kept_secrets(self, item: Item, kept: list[str]) -> Fields:
        """As with servers: of its headers and of its auth."""
        fields = dict(item.fields)
        if isinstance(fields.get("headers"), dict):
            fields["headers"] = self._kept(
                item, "headers", fields["headers"], lambda name: f"header:{name}" in kept
            )
        auth = fields.get("auth")
        if isinstance(auth, dict) and "token" in auth:
            secret = {AUTH.upper(): auth["token"]}
            secret = self._kept(item, "auth", secret, lambda _: AUTH in kept)
            fields["auth"] = auth | {"token": secret.get(AUTH.upper())}
        return fields

    def _with_kept_values(self, item: Item, kept: list[str]) -> Fields:
        """Its placeholders stand for the values that are kept; one for a value that is not is left out."""
        values = item.fields.get("env_vars")
        if not isinstance(values, dict):
            return item.fields
        return item.fields | {"env_vars": self._kept(item, "env_vars", values, lambda name: name in kept)}

    def _kept(self, item: Item, section: str, values: Fields, is_kept: Callable[[str], bool]) -> Fields:
        given: Fields = {}
        for name, value in values.items():
            if not is_placeholder(value):
                given[name] = value
            elif is_kept(name):
                given[name] = mask(name)
            else:
                self.warnings.append(
                    f"{item.path}.{section}.{name}: a placeholder, and there is no value to keep; "
                    "enter it before it is used"
                )
        return given

    async def agent(self, item: Item) -> str:
        fields = dict(item.fields)
        wanted = fields.pop("capabilities", None)
        is_new = item.name not in (await agent_rows.names(self._connection, self._tenant_id)).values()
        if is_new:
            new = self._body(item, NewAgent, fields | {"name": item.name})
            await agents.create_agent(self._unit, self._tenant_id, new)
            await self._capabilities(item, wanted)
            return CREATED
        change = self._body(item, AgentChange, fields)
        detail = await agents.read_agent(self._unit, self._tenant_id, item.name)
        is_changed = not _is_so(change, detail, AgentDetail)
        if is_changed:
            await agents.change_agent(self._unit, self._tenant_id, item.name, change)
        return UPDATED if await self._capabilities(item, wanted) or is_changed else UNCHANGED

    async def schema(self, item: Item) -> str:
        """The graph comes before the entry agent, which has to be in it."""
        fields = dict(item.fields)
        wanted, entry = fields.pop("relations", None), fields.pop("entry_agent", UNSET)
        row = await schema_rows.find(self._connection, self._tenant_id, item.name, None)
        if row is None:
            new = self._body(item, NewSchema, fields | {"name": item.name})
            await schemas.create_schema(self._unit, self._tenant_id, new)
        detail = await schemas.read_schema(self._unit, self._tenant_id, item.name)
        change = self._body(item, SchemaChange, fields)
        is_changed = not _is_so(change, detail, type(detail))
        if is_changed:
            await schemas.change_schema(self._unit, self._tenant_id, item.name, change)
        is_changed |= await self._relations(item, wanted)
        detail = await schemas.read_schema(self._unit, self._tenant_id, item.name)
        if entry is not UNSET and (entry or None) not in (detail.entry_agent_name, detail.entry_agent_id):
            change = self._body(item, SchemaChange, {"entry_agent": entry})
            await schemas.change_schema(self._unit, self._tenant_id, item.name, change)
            is_changed = True
        return CREATED if row is None else UPDATED if is_changed else UNCHANGED

    async def _capabilities(self, item: Item, wanted: Any) -> bool:
        """Whether one was made or changed; those of types that are not named stay."""
        kept = await capabilities.list_capabilities(self._unit, self._tenant_id, item.name)
        by_type = {capability.type: capability for capability in kept}
        is_changed = False
        for place, fields in _entries(wanted, "type", "capabilities"):
            at = Item(item.name, fields, f"{item.path}.{place}")
            found = by_type.get(str(fields.get("type")))
            if found is None:
                new = self._body(at, NewCapability, fields)
                await capabilities.create_capability(self._unit, self._tenant_id, item.name, new)
                is_changed = True
                continue
            change = self._body(at, CapabilityChange, fields)
            if not _is_so(change, found, type(found)):
                await capabilities.change_capability(self._unit, self._tenant_id, item.name, found.id, change)
                is_changed = True
        return is_changed

    async def _relations(self, item: Item, wanted: Any) -> bool:
        """Whether the schema's relations are others now; a list that is given is the whole graph."""
        if wanted is None:
            return False
        kept = await relations.list_relations(self._unit, self._tenant_id, item.name)
        known = {(relation.source, relation.target): relation for relation in kept}
        named = [
            self._body(Item(item.name, fields, f"{item.path}.{place}"), NewRelation, fields)
            for place, fields in _entries(wanted, "source", "relations")
        ]
        pairs = {(relation.source, relation.target) for relation in named}
        gone = [relation for pair, relation in known.items() if pair not in pairs]
        for relation in gone:
            await relations.delete_relation(self._unit, self._tenant_id, item.name, relation.id)
        is_changed = bool(gone)
        for new in named:
            found = known.get((new.source, new.target))
            if found is None:
                await relations.create_relation(self._unit, self._tenant_id, item.name, new)
            elif (new.config or {}) != found.config:
                change = RelationChange(config=new.config)
                await relations.change_relation(self._unit, self._tenant_id, item.name, found.id, change)
            else:
                continue
            is_changed = True
        return is_changed

    def _body(self, item: Item, kind: type[_Body], fields: Fields) -> _Body:
        """The fields as the body of the single request. Raises ValidationFailed with every fault."""
        known = {field.encode_name for field in msgspec.structs.fields(kind)}
        for key in sorted(set(fields) - known):
            self.warnings.append(f"{item.path}.{key}: is not known and was left out")
        content = msgspec.json.encode({key: value for key, value in fields.items() if key in known})
        if faults := field_faults(content, kind):
            raise refused(faults)
        return msgspec.json.decode(content, type=kind)


async def import_document(
    studio: Studio, tenant_id: str, sections: Sections, *, dry_run: bool = False
) -> Imported:
    """What was done, or with `dry_run` what would be. Raises ValidationFailed with every fault, and does nothing."""
    if sections.knowledge_bases:
        await require_vectors(studio.database)
    answer: Imported | None = None
    try:
        async with studio.database.tenant(tenant_id) as connection:
            importing = Importing(connection, tenant_id, studio)
            changes = {
                "models": await importing.section(sections.models, importing.model),
                "mcp_servers": await importing.section(sections.mcp_servers, importing.mcp_server),
                "knowledge_bases": await importing.section(
                    sections.knowledge_bases, importing.knowledge_base
                ),
                "tools": await importing.section(sections.tools, importing.tool),
                "agents": await importing.section(sections.agents, importing.agent),
                "schemas": await importing.section(sections.schemas, importing.schema),
            }
            importing.faults.raise_any()
            answer = Imported(
                agents_imported=len(sections.agents),
                models_imported=len(sections.models),
                tools_imported=len(sections.tools),
                schemas_imported=len(sections.schemas),
                mcp_servers_imported=len(sections.mcp_servers),
                knowledge_bases_imported=len(sections.knowledge_bases),
                agents_count=len(sections.agents),
                dry_run=dry_run,
                changes=changes,
                warnings=[*sections.warnings, *importing.warnings],
            )
            if dry_run:
                raise _Undone
    except _Undone:
        pass
    assert answer is not None
    return answer


def _is_so(change: Struct, detail: Struct, kind: type[Struct]) -> bool:
    """Whether every field that the change gives has that value already."""
    shown = {field.name for field in msgspec.structs.fields(kind)}
    for name in change.__struct_fields__:
        said = getattr(change, name)
        if said is UNSET or (said is None and getattr(detail, name, None) in _EMPTY):
            continue
        if name not in shown or getattr(detail, name) != said:
            return False
    return True


def _entries(content: Any, key: str, section: str) -> list[tuple[str, Fields]]:
    """A list of mappings, or a mapping of what `key` would say to mappings. Raises ValidationFailed."""
    if content is None:
        return []
    if isinstance(content, dict):
        entries = [fields or {} for fields in content.values()]
        if all(isinstance(entry, dict) for entry in entries):
            content = [{key: name} | entry for name, entry in zip(content, entries, strict=True)]
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise refused([FieldError(path=section, message="is a list of mappings")])
    return [(f"{section}.{position}", entry) for position, entry in enumerate(content)]


def _placed(path: str, fault: WeirError) -> list[FieldError]:
    if not fault.errors:
        return [FieldError(path=path, message=fault.message)]
    return [
        FieldError(
            path=f"{path}.{error.path}" if error.path else path, message=error.message, code=error.code
        )
        for error in fault.errors
    ]
