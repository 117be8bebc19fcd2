"""A lake's credentials: sealed on the way in, opened only on the way to the tenant's own runtime."""

from collections.abc import Mapping

from weir.context_lake.connectors.declared import reference_in
from weir_shared.sealing import Vault


async def seal_all(vault: Vault, tenant_id: str, literals: Mapping[str, str]) -> dict[str, bytes]:
    return {
        reference: await vault.seal(tenant_id, _identity(reference), literal)
        for reference, literal in literals.items()
    }


async def open_all(vault: Vault, tenant_id: str, sealed: Mapping[str, bytes]) -> dict[str, str]:
    """Raises SealError when one of them is not what it claims to be."""
    return {
        reference: await vault.open(tenant_id, _identity(reference), content)
        for reference, content in sealed.items()
    }


def with_secrets(params: Mapping[str, str], opened: Mapping[str, str]) -> dict[str, str]:
    """The parameters with every reference replaced by what it refers to."""
    return {
        name: opened.get(reference, "") if (reference := reference_in(value)) else value
        for name, value in params.items()
    }


def _identity(reference: str) -> str:
    return f"lake|{reference}"
