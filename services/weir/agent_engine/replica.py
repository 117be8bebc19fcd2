"""This replica's lease: while it is renewed, its turns are alive; when it runs out, the others give them up."""

import asyncio

import structlog

from weir.agent_engine.metrics import TURNS_LOST
from weir.agent_engine.tables.replicas import drop_any_lease, renew_any_lease
from weir.agent_engine.tables.turns import fail_any_lost
from weir_shared.db.pool import Database, DatabaseUnavailable

LEASE_SECONDS = 15
RENEW_SECONDS = 5

log = structlog.get_logger(__name__)


async def live(database: Database, replica_id: str) -> None:
    """Renews the lease and gives up the turns of lost replicas, until it is cancelled."""
    while True:
        try:
            await make_round(database, replica_id)
        except DatabaseUnavailable as fault:
            log.warning("lease not renewed", fault=str(fault))
        await asyncio.sleep(RENEW_SECONDS)


async def begin(database: Database, replica_id: str) -> None:
    """Takes the lease, and gives up what a process that is gone left behind."""
    await renew_any_lease(database, replica_id, seconds=LEASE_SECONDS)
    await make_round(database, replica_id)


async def make_round(database: Database, replica_id: str) -> int:
    """How many turns were given up.

    None of them when this replica's own lease had run out: what kept it from renewing, an outage of the
    database most likely, may have kept the others too, and they shall have their chance first.
    """
    if not await renew_any_lease(database, replica_id, seconds=LEASE_SECONDS):
        return 0
    lost = await fail_any_lost(database)
    if lost:
        TURNS_LOST.inc(lost)
        log.warning("turns of a lost process were given up", turns=lost)
    return lost


async def leave(database: Database, replica_id: str) -> None:
    """Ends the lease at once; what still ran is given up by whoever looks next."""
    try:
        await drop_any_lease(database, replica_id)
    except DatabaseUnavailable as fault:
        log.warning("lease not dropped, it runs out by itself", fault=str(fault))
