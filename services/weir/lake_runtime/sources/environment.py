"""Options that an object store's client takes from the process's environment only, and reads once."""

import os
import threading
from collections.abc import Generator
from contextlib import contextmanager

_environment = threading.Lock()


@contextmanager
def environ(values: dict[str, str]) -> Generator[None]:
    with _environment:
        os.environ.update(values)
        try:
            yield
        finally:
            for name in values:
                os.environ.pop(name, None)
