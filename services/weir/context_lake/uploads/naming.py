"""What an uploaded file is called in SQL, and which format its name promises."""

import re
import unicodedata

from weir.context_lake import names
from weir.context_lake.connectors.imported import ENDINGS
from weir_shared.errors import FieldError, InvalidRequest, ValidationFailed

_MOST = 63


class UnsupportedFile(InvalidRequest):
    code = "unsupported_file"


def ending_of(file_name: str) -> str:
    """The extension, in lower case. Raises UnsupportedFile when it is none that can be imported."""
    ending = file_name.lower().rpartition(".")[2]
    if ending not in ENDINGS or ending == file_name.lower():
        known = ", ".join(f".{known}" for known in ENDINGS)
        raise UnsupportedFile(f"A file that is imported ends in {known}; {_shown(file_name)} does not")
    return ending


def name_of(file_name: str) -> str:
    """A table's name for a file: `Sales-2024.csv` is `sales_2024`. Raises ValidationFailed when nothing is left."""
    stem = re.split(r"[/\\]", file_name)[-1].rpartition(".")[0]
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")
    if name[:1].isdigit():
        name = f"_{name}"
    name = name[:_MOST].rstrip("_")
    if name and names.fault_of(name):
        name = f"{name[: _MOST - 1]}_"
    if not name:
        message = f"{_shown(file_name)} makes no name of a table; send one as `name`"
        raise ValidationFailed([FieldError(path="name", message=message, code="required")])
    return name


def _shown(file_name: str) -> str:
    return f"'{file_name[:80]}'"
