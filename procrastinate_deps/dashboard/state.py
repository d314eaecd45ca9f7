"""What a request finds: the app, its verbs with a timeout, the settings."""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from procrastinate_deps.dashboard.encoding import TOO_DEEP
from procrastinate_deps.manager import JobManager

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from procrastinate_deps.app import App
    from procrastinate_deps.dashboard.hiding import Hider
    from procrastinate_deps.dashboard.live import Live
    from procrastinate_deps.dashboard.rendering import Templates
    from procrastinate_deps.dashboard.settings import Settings
    from procrastinate_deps.jsontext import JsonDumps, JsonLoads
    from procrastinate_deps.statements import Statement
    from procrastinate_deps.statements.base import Row

T = TypeVar("T")


class Limited:
    """Runs an app's statements, each with a timeout that the server keeps, and if need be so that it can't write."""

    def __init__(self, app: App, timeout_s: float, *, read_only: bool) -> None:
        self._app = app
        self._timeout_s = timeout_s
        self._read_only = read_only

    @property
    def json_dumps(self) -> JsonDumps:
        return self._app.json_dumps

    async def execute_async(self, statement: Statement[T], connection: Any = None) -> T:
        def read(rows: Sequence[Row], loads: JsonLoads) -> T:
            return statement.read(rows, _tolerant(loads))

        limited = dataclasses.replace(statement, read=read, timeout_s=self._timeout_s, read_only=self._read_only)
        # A visitor who leaves, or a dashboard that stops, doesn't cut a statement off: that would cost its connection.
        with anyio.CancelScope(shield=True):
            answer = await self._app.execute_async(limited, connection)
        return answer  # noqa: RET504 - a scope that may swallow its end, to mypy


def _tolerant(loads: JsonLoads) -> JsonLoads:
    """`loads`, but a job with a value that Python can't read is shown, too."""

    def read(text: str) -> Any:
        try:
            return loads(text)
        except RecursionError:
            return {"…": TOO_DEEP}

    return read


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """One dashboard: as it is found in the ASGI app's `state.dashboard`."""

    app: App
    settings: Settings
    hider: Hider
    templates: Templates
    live: Live
    reads: Limited
    acts: Limited

    @property
    def reader(self) -> JobManager:
        return JobManager(self.reads)

    @property
    def actor(self) -> JobManager:
        return JobManager(self.acts)

    async def may_act(self, request: Request) -> bool:
        """Whether this request may change something."""
        allowed = self.settings.actions
        if callable(allowed):
            answer = allowed(request)
            return bool(await answer) if inspect.isawaitable(answer) else bool(answer)
        return allowed


def state_of(request: Request) -> State:
    state: State = request.app.state.dashboard
    return state
