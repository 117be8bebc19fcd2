"""Which objects a dataset consists of: whose events are its own, and which of them its rows depend on. Pure."""

import re
from fnmatch import fnmatchcase
from urllib.parse import unquote

from msgspec import Struct

from weir.context_lake.connectors.files import endings_of
from weir.context_lake.notifications.messages import S3Event

_WILD = re.compile(r"[*?\[]")
# What writers leave beside the data.
_MARKERS = ("_SUCCESS", "_started_", "_committed_")
_ASIDE = ("_temporary",)


class Watched(Struct, frozen=True, kw_only=True):
    """The objects of one dataset."""

    bucket: str
    path: str
    """Of `from`, below the bucket."""
    format: str
    ending: str = ""
    """The only ending of its files, when the dataset says so."""

    @property
    def prefix(self) -> str:
        """What every key of the dataset begins with."""
        wild = _WILD.search(self.path)
        return self.path[: wild.start()] if wild else self.path

    def owns(self, event: S3Event) -> bool:
        """Whether an event is of the dataset's own place. Keys are compared as they are, never as URLs."""
        return event.bucket == self.bucket and self.holds(event.key)

    def holds(self, key: str) -> bool:
        # As the runtime reads it, and as somebody meant it who wrote it percent-encoded.
        return any(_is_at(key, path) for path in {self.path, unquote(self.path)})

    def reads(self, key: str) -> bool:
        """Whether the dataset's rows may depend on the object."""
        if key in (self.path, unquote(self.path)) and not key.endswith("/"):
            return True
        *folders, last = key.split("/")
        if not last or last.startswith(_MARKERS) or last.startswith(".") or last.endswith(".crc"):
            return False
        if any(folder in _ASIDE for folder in folders):
            return False
        endings = (self.ending.lower(),) if self.ending else endings_of(self.format)
        return last.lower().endswith(endings)


def _is_at(key: str, path: str) -> bool:
    if _WILD.search(path):
        # A star stands for slashes too. The library's pattern never goes back behind a star that has been passed.
        return fnmatchcase(key, path)
    # Without a slash at its end S3 cannot say whether a path is an object or a folder: it may be either.
    return key == path or key.startswith(path if not path or path.endswith("/") else path + "/")
