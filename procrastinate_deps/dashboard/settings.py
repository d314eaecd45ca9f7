"""What whoever makes a dashboard can choose."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from starlette.requests import Request
from starlette.responses import Response

Auth: TypeAlias = Callable[[Request], "bool | Response | Awaitable[bool | Response]"]
"""Whether the request may see the dashboard; a response is sent instead of the page."""

Actions: TypeAlias = "bool | Callable[[Request], bool | Awaitable[bool]]"
"""Whether the request may change something."""

Hide: TypeAlias = "Sequence[str] | Callable[[str, str, Any], bool]"
"""Names of arguments, as patterns, or a function of the task's name, the argument's name and its value."""

READ_TIMEOUT_S = 5.0
"""The server ends a page's statement after so long."""

ACT_TIMEOUT_S = 30.0
"""And one that changes something."""

PASSWORD_VARIABLE = "PROCRASTINATE_DEPS_DASHBOARD_PASSWORD"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """See `create_dashboard`."""

    title: str
    auth: Auth | None
    password: str | None
    actions: Actions
    hide: Hide
    allowed_hosts: frozenset[str] | None
    read_timeout_s: float
    act_timeout_s: float
