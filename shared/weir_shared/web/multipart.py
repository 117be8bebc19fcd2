"""The reader of multipart bodies.

The type checker sees the package of this name that python-multipart has; when imported, that gives way to the one
that is meant.
"""

from typing import Any

import multipart

MultipartError: type[Exception] = multipart.MultipartError  # pyright: ignore[reportAttributeAccessIssue]
ParserLimitReached: type[Exception] = multipart.ParserLimitReached  # pyright: ignore[reportAttributeAccessIssue]
PushMultipartParser: Any = multipart.PushMultipartParser  # pyright: ignore[reportAttributeAccessIssue]
