"""What a turn works with: the studio's furniture, opened once and handed down."""

from msgspec import Struct

from weir.agent_engine.models.base import ModelClient
from weir.agent_engine.models.configured import Models
from weir.agent_engine.running import RunningTurns
from weir_shared.clients.lake import LakeClient
from weir_shared.db.pool import Database


class Studio(Struct, frozen=True, kw_only=True):
    database: Database
    models: Models
    client: ModelClient
    lake: LakeClient
    running: RunningTurns
    sql_seconds: int
