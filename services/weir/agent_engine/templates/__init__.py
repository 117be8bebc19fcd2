"""The schema templates that the platform ships, one file each, by display name."""

from functools import cache
from importlib import resources

import msgspec

from weir.agent_engine.wire.templates import Template

VERSION = "1.0"


@cache
def every_template() -> list[Template]:
    """Raises msgspec.ValidationError for a file that is no template: a fault of the code, found by a test."""
    files = [file for file in resources.files(__name__).iterdir() if file.name.endswith(".json")]
    found = [msgspec.json.decode(file.read_bytes(), type=Template) for file in files]
    return sorted(found, key=lambda template: template.display.lower())
