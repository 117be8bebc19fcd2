"""What the operator has settled for every lake: where files lie, which addresses are allowed, how much there may be."""

from pathlib import Path

from msgspec import Struct

from weir_shared.settings import Settings


class Surroundings(Struct, frozen=True, kw_only=True):
    """The operator's side of a configuration; the tenant's side is the document."""

    import_root: Path
    """The only directory that `file:` datasets may read."""
    allow_private_addresses: bool = False
    aws_endpoint_url: str | None = None
    """The S3 endpoint of datasets that name none."""
    max_datasets: int = 200
    max_views: int = 200
    max_params: int = 64
    max_value_bytes: int = 8 * 1024


def surroundings_of(settings: Settings) -> Surroundings:
    return Surroundings(
        import_root=settings.imports.absolute(),
        allow_private_addresses=settings.allow_private_addresses,
        aws_endpoint_url=settings.aws_endpoint_url,
    )
