"""`/schema/openapi.json`: what the platform can be asked."""

from typing import Any

from litestar import get
from litestar.di import NamedDependency

from weir.gateway.openapi import MergedDocument
from weir_shared.auth.guards import open_to_all


@get("/schema/openapi.json", guards=[open_to_all], include_in_schema=False)
async def show_openapi(document: NamedDependency[MergedDocument]) -> dict[str, Any]:
    """The OpenAPI document of the gateway and the rooms behind it."""
    return await document.read()
