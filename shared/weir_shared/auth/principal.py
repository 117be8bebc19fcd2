"""The caller, as every room knows it."""

from typing import Literal

from msgspec import Struct

from weir_shared.auth.scopes import ADMIN

DEFAULT_TENANT_ID = "00000000-0000-0000-0000-000000000001"

Actor = Literal["user", "api_token", "anonymous", "system"]


class Principal(Struct, frozen=True, kw_only=True):
    """Tenant, identity and authority of one caller.

    `subject` is the `sub` of a JWT or the name of an API token; two callers of one tenant with the same
    actor and subject are the same person to the platform.
    """

    tenant_id: str
    subject: str
    actor: Actor
    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        """`admin` implies every scope; no other scope implies another."""
        return ADMIN in self.scopes or scope in self.scopes

    @property
    def is_admin(self) -> bool:
        return ADMIN in self.scopes

    @property
    def identity(self) -> str:
        """Names the caller within its tenant, e.g. `api_token:ci`."""
        return f"{self.actor}:{self.subject}"


ANONYMOUS = Principal(tenant_id=DEFAULT_TENANT_ID, subject="", actor="anonymous", scopes=frozenset())
