"""Copies of a template: a schema with agents of its own, made at once or not at all."""

from msgspec.structs import replace

from weir.agent_engine.agents import blank_agent, default_model
from weir.agent_engine.naming import Faults, check_name, invalid, missing
from weir.agent_engine.schemas import blank_schema
from weir.agent_engine.tables import agents, capabilities, relations, schemas
from weir.agent_engine.tables.agents import AgentRow
from weir.agent_engine.tables.capabilities import CapabilityRow
from weir.agent_engine.tables.relations import RelationRow
from weir.agent_engine.templates import VERSION, every_template
from weir.agent_engine.wire.templates import ForkedTemplate, Template, TemplateAgent, TemplateList
from weir_shared.clock import now
from weir_shared.db.pool import Connection, Database, UniqueViolation
from weir_shared.errors import Conflict
from weir_shared.ids import new_id

CATEGORIES = ("support", "sales", "internal", "generic")


def list_templates(category: str | None, query: str | None) -> TemplateList:
    """Those of a category whose name, title or description holds the text. Raises ValidationFailed."""
    if category and category not in CATEGORIES:
        raise invalid("category", f"the categories are {', '.join(CATEGORIES)}")
    text = (query or "").lower()
    chosen = [
        template
        for template in every_template()
        if category in (None, "", template.category)
        and any(text in part.lower() for part in (template.name, template.display, template.description))
    ]
    return TemplateList(version=VERSION, templates=chosen)


def read_template(name: str) -> Template:
    """Raises NotFound."""
    for template in every_template():
        if template.name == name:
            return template
    raise missing("schema template", name)


async def fork_template(database: Database, tenant_id: str, name: str, schema_name: str) -> ForkedTemplate:
    """A schema and agents named after it, with the tenant's default model. Raises ValidationFailed and Conflict."""
    template = read_template(name)
    made = template.definition.agents
    faults = Faults()
    with faults.gathered():
        check_name(schema_name, path="schema_name")
        for agent in made:
            check_name(_name(schema_name, agent.name), path="schema_name")
    try:
        async with database.tenant(tenant_id) as connection:
            with faults.gathered():
                await default_model(connection, tenant_id)
            faults.raise_any()
            ids = {agent.name: await _add(connection, tenant_id, schema_name, agent) for agent in made}
            schema = replace(
                blank_schema(schema_name),
                description=template.description,
                entry_agent_id=ids[template.definition.entry_agent_name],
                chat_enabled=True,
            )
            await schemas.add(connection, tenant_id, schema)
            for relation in template.definition.relations:
                ends = (relation.source, relation.target)
                await relations.add(connection, tenant_id, _relation(schema.id, ids, *ends))
    except UniqueViolation as fault:
        kind = "an agent" if getattr(fault, "constraint_name", "") == "agents_name" else "a schema"
        raise Conflict(f"There is {kind} of that name already; choose another schema_name") from None
    return ForkedTemplate(schema_id=schema.id, schema_name=schema_name, agent_ids=ids)


async def _add(connection: Connection, tenant_id: str, schema_name: str, agent: TemplateAgent) -> str:
    row: AgentRow = replace(
        blank_agent(_name(schema_name, agent.name), await default_model(connection, tenant_id)),
        description=agent.description,
        system_prompt=agent.system_prompt,
        lifecycle=agent.lifecycle,
        tools=agent.tools,
    )
    await agents.add(connection, tenant_id, row)
    for capability in agent.capabilities:
        kept = CapabilityRow(
            id=new_id(),
            type=capability.type,
            config=capability.config,
            enabled=True,
            created_at=now(),
            updated_at=now(),
        )
        await capabilities.add(connection, tenant_id, row.id, kept)
    return row.id


def _relation(schema_id: str, ids: dict[str, str], source: str, target: str) -> RelationRow:
    return RelationRow(
        id=new_id(),
        schema_id=schema_id,
        source_id=ids[source],
        target_id=ids[target],
        source=source,
        target=target,
        config={},
        created_at=now(),
        updated_at=now(),
    )


def _name(schema_name: str, agent_name: str) -> str:
    return f"{schema_name}-{agent_name}"
