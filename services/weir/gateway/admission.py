"""How much a caller may ask: the only reader of limits. A request that its tenant's rules let in is counted once."""

import asyncio
import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

import structlog
from msgspec import Struct
from redis.exceptions import RedisError

from weir.gateway.tables import rate_limits
from weir_shared.auth.principal import Principal
from weir_shared.clock import go_duration, rfc3339
from weir_shared.db.pool import Database, DatabaseUnavailable
from weir_shared.errors import FieldError, InvalidRequest, NotFound, TooManyRequests, Unavailable
from weir_shared.queue.doorbell import Doorbell
from weir_shared.queue.windows import Seen, Window, Windows
from weir_shared.rate_limits import CHANGES, BadRule, Rule, Tier, rules_of
from weir_shared.telemetry.metrics import counter

# How long a rule that has changed may still hold at a replica whose notice was lost.
CACHE_SECONDS = 5
CACHED = 4096
MAX_VALUE_BYTES = 8192

LIMITED = counter("rate_limited_total", "Requests that a rule refused")
UNCOUNTED = counter(
    "rate_limits_unavailable_total", "Requests that were let in because nothing could count them"
)

Headers = Iterable[tuple[bytes, bytes]]
log = structlog.get_logger(__name__)


class RateLimited(TooManyRequests):
    def __init__(self, seconds: int, headers: dict[str, str]) -> None:
        super().__init__(
            f"Rate limit exceeded; ask again in {seconds} s",
            details={"retry_after": seconds},
            headers=headers | {"Retry-After": str(seconds)},
        )


class Usage(Struct, frozen=True, kw_only=True):
    """What one key has used of its tier's limit."""

    rule: str
    key: str
    tier: str
    used: int
    limit: int
    window: str
    resets_at: str


class Limit(Struct, frozen=True, kw_only=True):
    """One rule as it holds for one request."""

    rule: Rule
    tier: str
    terms: Tier
    window: Window


class Admission:
    """Counts requests by the rules of their tenants, together with every other gateway."""

    def __init__(self, database: Database, doorbell: Doorbell) -> None:
        self._database = database
        self._doorbell = doorbell
        self._windows = Windows(doorbell.redis)
        self._rules: OrderedDict[str, tuple[float, list[Rule]]] = OrderedDict()
        self._reading: dict[str, asyncio.Task[list[Rule]]] = {}
        self._changes = 0
        self._following: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._following = asyncio.create_task(self._follow_changes())

    async def stop(self) -> None:
        if self._following is not None:
            self._following.cancel()
            with suppress(asyncio.CancelledError):
                await self._following

    async def admit(self, principal: Principal, headers: Headers) -> dict[str, str]:
        """Counts a request; the headers that its answer gets. Raises RateLimited.

        When Redis does not answer, the request is let in: limits protect against much, not against one.
        """
        if principal.actor == "anonymous":
            return {}
        rules = await self._rules_of(principal.tenant_id)
        limits = _limits(principal.tenant_id, rules, headers) if rules else []
        if not limits:
            return {}
        try:
            full, now, seen = await self._windows.admit([limit.window for limit in limits])
        except (RedisError, OSError) as fault:
            UNCOUNTED.inc()
            log.warning("request not counted", fault=str(fault))
            return {}
        if full is None:
            return _told(limits[0], seen[0])
        LIMITED.inc()
        seconds = max(1, math.ceil(seen[full].resets_at - now))
        raise RateLimited(seconds, _told(limits[full], seen[full]))

    async def usage(self, principal: Principal, key_header: str | None, key_value: str | None) -> Usage:
        """What a key has used, by the first rule that counts by this header. Raises InvalidRequest, NotFound."""
        if not key_header or not key_value:
            missing = [
                name for name, value in (("key_header", key_header), ("key_value", key_value)) if not value
            ]
            errors = [FieldError(path=name, message="is required", code="required") for name in missing]
            raise InvalidRequest("key_header and key_value are required", errors=errors)
        rules = await self._read_rules(principal.tenant_id)
        rule = next((rule for rule in rules if rule.key_header.lower() == key_header.lower()), None)
        if rule is None:
            raise NotFound(f"No rule counts by the header '{key_header[:100]}'")
        try:
            looked = await self._windows.look(_key(principal.tenant_id, rule, key_value))
        except (RedisError, OSError):
            raise Unavailable("What was used is not known while Redis does not answer") from None
        found = rule.tier_of(looked.label)
        if found is None:
            raise NotFound(f"The rule '{rule.name}' does not limit this key")
        tier, terms = found
        seen = looked.within(terms.seconds)
        return Usage(
            rule=rule.name,
            key=key_value,
            tier=tier,
            used=seen.count,
            limit=terms.requests,
            window=go_duration(terms.seconds),
            resets_at=rfc3339(datetime.fromtimestamp(seen.resets_at, UTC)),
        )

    async def _rules_of(self, tenant_id: str) -> list[Rule]:
        known = self._rules.get(tenant_id)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        reading = self._reading.get(tenant_id)
        if reading is None:
            # A burst reads them once.
            reading = self._reading[tenant_id] = asyncio.create_task(self._renew(tenant_id))
            reading.add_done_callback(partial(self._has_read, tenant_id))
        try:
            return await asyncio.shield(reading)
        except DatabaseUnavailable:
            # What held until now goes on holding.
            if known is None:
                UNCOUNTED.inc()
                return []
            return known[1]

    def _has_read(self, tenant_id: str, reading: "asyncio.Task[list[Rule]]") -> None:
        if self._reading.get(tenant_id) is reading:
            del self._reading[tenant_id]

    async def _renew(self, tenant_id: str) -> list[Rule]:
        changes = self._changes
        rules = await self._read_rules(tenant_id)
        if changes != self._changes:
            # They may be those from before the change: good for who has asked already, and for nobody else.
            return rules
        self._rules[tenant_id] = (time.monotonic() + CACHE_SECONDS, rules)
        while len(self._rules) > CACHED:
            self._rules.popitem(last=False)
        return rules

    async def _read_rules(self, tenant_id: str) -> list[Rule]:
        async with self._database.tenant(tenant_id) as connection:
            value = await rate_limits.find(connection, tenant_id)
        try:
            return rules_of(value)
        except BadRule as fault:
            # Kept before rules were checked when they are set.
            log.warning("rate limits do not hold", fault=str(fault), place=fault.path)
            return []

    async def _follow_changes(self) -> None:
        while True:
            async with self._doorbell.awaiting(CHANGES) as changed:
                await changed.wait()
                self._changes += 1
                self._rules.clear()
                self._reading.clear()


def _limits(tenant_id: str, rules: Sequence[Rule], headers: Headers) -> list[Limit]:
    given = {name: value for name, value in headers if len(value) <= MAX_VALUE_BYTES}
    limits: list[Limit] = []
    for rule in rules:
        key = _text(given.get(rule.key_header.lower().encode()))
        if not key:
            continue
        named = _text(given.get(rule.tier_header.lower().encode())) if rule.tier_header else None
        found = rule.tier_of(named)
        if found is not None:
            name, terms = found
            window = Window(
                key=_key(tenant_id, rule, key), most=terms.requests, seconds=terms.seconds, label=name
            )
            limits.append(Limit(rule=rule, tier=name, terms=terms, window=window))
    return limits


def _key(tenant_id: str, rule: Rule, key: str) -> str:
    # The key may be somebody's credential.
    digest = hashlib.sha256("\0".join((rule.name, key)).encode()).hexdigest()
    return f"{tenant_id}:{digest}"


def _text(value: bytes | None) -> str | None:
    return value.decode("latin-1").strip() or None if value else None


def _told(limit: Limit, seen: Seen) -> dict[str, str]:
    return {
        "X-RateLimit-Limit": str(limit.terms.requests),
        "X-RateLimit-Remaining": str(max(0, limit.terms.requests - seen.count)),
        "X-RateLimit-Reset": str(math.ceil(seen.resets_at)),
    }
