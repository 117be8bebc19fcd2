"""What a runtime is told once, at its birth."""

import os
from pathlib import Path

from msgspec import Struct

MEBIBYTE = 1024 * 1024


class RuntimeSettings(Struct, frozen=True, kw_only=True):
    tenant: str
    epoch: int
    secret: str
    memory_limit_bytes: int
    cache_dir: Path
    import_root: Path
    """The directory that `file` datasets may read; nothing outside it is."""
    allow_private: bool = False
    """Whether an S3 endpoint may resolve to a private or loopback address."""
    readable: list[Path] = []
    """Directories besides the import root that datasets may read; a sandbox shows no others."""
    partitions: int = os.cpu_count() or 1
    most_kept_bytes: int = 0
    """What tables in memory may take at most; 0: none are kept."""

    @property
    def spill_dir(self) -> Path:
        """Where queries spill; one directory an epoch, as a killed process leaves its files behind."""
        return self.cache_dir / "spill" / str(self.epoch)

    @property
    def pool_bytes(self) -> int:
        """Half of the limit: the engine's pool does not see planning, expressions or encoding."""
        return max(self.memory_limit_bytes // 2, 16 * MEBIBYTE)

    @property
    def kept_tables_bytes(self) -> int:
        """No more than an eighth of the limit, beside the engine's pool."""
        return min(self.most_kept_bytes, self.memory_limit_bytes // 8)

    @property
    def spill_bytes(self) -> int:
        return max(4 * self.memory_limit_bytes, 256 * MEBIBYTE)
