"""What the pages show, as JSON for programs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence, Set
from datetime import datetime
from enum import Enum
from typing import Any

from starlette.responses import Response

MAX_DEPTH = 200
"""Values that are nested deeper are left out: Python could not write them."""

TOO_DEEP = "(nested too deeply to be shown)"


def plain(value: Any, depth: int = 0) -> Any:
    """`value` as JSON can hold it: dataclasses as objects, times in ISO 8601."""
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if depth > MAX_DEPTH:
        return TOO_DEEP
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name), depth + 1) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(inner, depth + 1) for name, inner in value.items()}
    if isinstance(value, (Sequence, Set)):
        return [plain(inner, depth + 1) for inner in value]
    return str(value)


class JsonResponse(Response):
    """Not Starlette's: that one refuses numbers that a job's result may hold."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(plain(content), ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
