"""What the operator has settled for every lake: where files lie, which addresses are allowed, how much there may be."""

from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from weir_shared.settings import Settings


class Surroundings(Struct, frozen=True, kw_only=True):
    """The operator's side of a configuration; the tenant's side is the document."""

    import_root: Path
    """The only directory that `file:` datasets may read."""
    uploads: Path = Path("uploads")
    """Where uploads lie, one directory a tenant; out of reach of every other `from` than `import:`."""
    allow_private_addresses: bool = False
    aws_endpoint_url: str | None = None
    """The S3 endpoint of datasets that name none."""
    embeddings_url: str = ""
    """Where runtimes have texts embedded: a door of the desk's own."""
    s3_role_arn: str | None = None
    """The role of each tenant, with `{tenant}` for its id; None: datasets have no roles."""
    max_datasets: int = 200
    max_views: int = 200
    max_params: int = 64
    max_value_bytes: int = 8 * 1024
    max_config_bytes: int = 1024 * 1024
    kept_bytes: int = 10 * 1024**3
    """How much disk the kept rows of one lake may take."""
    imports_quota_bytes: int = 10 * 1024**3

    def of_tenant(self, tenant_id: str) -> "Surroundings":
        """These, with the uploads of one tenant alone."""
        return replace(self, uploads=self.uploads / tenant_id)


def surroundings_of(settings: Settings) -> Surroundings:
    return Surroundings(
        import_root=settings.imports.absolute(),
        uploads=settings.uploads.absolute(),
        allow_private_addresses=settings.allow_private_addresses,
        aws_endpoint_url=settings.aws_endpoint_url,
        embeddings_url=settings.lake_url + "/internal/runtime/embeddings",
        s3_role_arn=settings.s3_role_arn,
        max_datasets=settings.lake_max_datasets,
        max_views=settings.lake_max_views,
        max_params=settings.lake_max_params,
        max_value_bytes=settings.lake_max_value_bytes,
        max_config_bytes=settings.lake_max_config_bytes,
        kept_bytes=settings.lake_kept_mib * 1024 * 1024,
        imports_quota_bytes=settings.imports_quota_mib * 1024 * 1024,
    )
