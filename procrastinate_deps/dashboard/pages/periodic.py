"""Tasks by the clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from procrastinate_deps.dashboard.state import state_of

if TYPE_CHECKING:
    from starlette.requests import Request


async def read(request: Request) -> dict[str, Any]:
    return {"tasks": await state_of(request).reader.list_periodic_tasks_async()}
