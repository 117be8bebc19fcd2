"""What a tenant uses: how much it has, and the tokens that its turns have spent."""

from datetime import date, datetime

from msgspec.structs import asdict

from weir.agent_engine.naming import invalid
from weir.agent_engine.tables import usage
from weir.agent_engine.tables.usage import COLUMNS, Counts, UsageRow
from weir.agent_engine.wire.usage import Metric, TokenSums, UsageGroup, UsageReport
from weir_shared.db.pool import Database
from weir_shared.web.filters import moment_of

PLAN = "self-hosted"


async def report(
    database: Database, tenant_id: str, *, group_by: str, made_from: str | None, made_to: str | None
) -> UsageReport:
    """Raises ValidationFailed, which names the parameter."""
    if group_by not in COLUMNS:
        raise invalid("group_by", f"one of {', '.join(COLUMNS)}")
    first, last = moment_of("from", made_from), moment_of("to", made_to)
    async with database.tenant(tenant_id) as connection:
        counts = await usage.counts(connection, tenant_id)
        rows = await usage.sums(connection, tenant_id, group_by, _day(first), _day(last))
    groups = [_group(row) for row in rows]
    return UsageReport(
        plan=PLAN, metrics=_metrics(counts), group_by=group_by, data=groups, total=_total(groups)
    )


def _day(moment: datetime | None) -> date | None:
    return moment.date() if moment else None


def _metrics(counts: Counts) -> list[Metric]:
    return [
        Metric(name=name, label=name.capitalize(), used=used, unit="count")
        for name, used in asdict(counts).items()
    ]


def _group(row: UsageRow) -> UsageGroup:
    return UsageGroup(**asdict(row), total_tokens=row.input_tokens + row.output_tokens)


def _total(groups: list[UsageGroup]) -> TokenSums:
    return TokenSums(
        **{name: sum(getattr(group, name) for group in groups) for name in TokenSums.__struct_fields__}
    )
