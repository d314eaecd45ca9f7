"""The dashboard as an ASGI app: its pages, their JSON twins, its actions."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Route

from procrastinate_deps.connectors.base import AsyncConnector
from procrastinate_deps.dashboard import actions as acts
from procrastinate_deps.dashboard.encoding import JsonResponse
from procrastinate_deps.dashboard.hiding import Hider
from procrastinate_deps.dashboard.live import MAX_STREAMS, EventStream, Live
from procrastinate_deps.dashboard.pages import graphs, job, jobs, overview, periodic, queues, workers, workflows
from procrastinate_deps.dashboard.problems import Problem, problem_of
from procrastinate_deps.dashboard.rendering import HERE, THEME_COOKIE, Templates, static_names
from procrastinate_deps.dashboard.security import (
    CSRF_FIELD,
    SESSION_COOKIE,
    Guard,
    Sessions,
    check_csrf,
    path_within,
    root_path,
    set_cookie,
)
from procrastinate_deps.dashboard.settings import ACT_TIMEOUT_S, READ_TIMEOUT_S, Actions, Auth, Hide, Settings
from procrastinate_deps.dashboard.state import Limited, State, state_of
from procrastinate_deps.exceptions import SyncConnectorConfigurationError

if TYPE_CHECKING:
    from procrastinate_deps.app import App

logger = logging.getLogger(__name__)

Read: TypeAlias = Callable[[Request], Awaitable[dict[str, Any]]]

PAGES: dict[str, tuple[str, Read]] = {
    "/": ("overview", overview.read),
    "/jobs": ("jobs", jobs.read),
    "/jobs/{job_id}": ("job", job.read),
    "/workflows": ("workflows", workflows.read),
    "/workflows/{workflow_id}": ("workflow", workflows.read_one),
    "/queues": ("queues", queues.read),
    "/workers": ("workers", workers.read),
    "/periodic": ("periodic", periodic.read),
}

# the one year that browsers keep what never changes
_FOR_EVER = "public, max-age=31536000, immutable"


def create_dashboard(
    app: App,
    *,
    auth: Auth | None = None,
    password: str | None = None,
    actions: Actions = False,
    hide: Hide = (),
    allowed_hosts: Iterable[str] | None = None,
    title: str = "procrastinate_deps",
    read_timeout: float = READ_TIMEOUT_S,
    act_timeout: float = ACT_TIMEOUT_S,
) -> Starlette:
    """A web page on the jobs of an app, as an ASGI app to run by itself or to mount in yours.

    Run by itself it opens the app and closes it; mounted it needs it open.

    Parameters
    ----------
    app:
        With an async connector.
    auth:
        Called with each request: True lets it in, False doesn't, a response is sent instead (a redirect to your login
        page). It may be a coroutine function. Default: as the password says.
    password:
        Whoever comes must know it. Default, without `auth`: only this machine itself gets in, by a name of its own.
    actions:
        Whether jobs, queues and workflows can be changed: a bool, or a function of the request. Default: no.
    hide:
        Arguments that nobody is to see: patterns of their names, as in `["password", "*token*"]`, or a function of the
        task's name, the argument's name and its value. It holds for results and for the metadata of workflows as
        well (their task's name is empty), at any depth; and texts about a job don't quote what is hidden of it.
    allowed_hosts:
        Host names that it may be reached by. Default: any, with `auth` or a password; else the loopback's. They let
        nobody in from another machine.
    title:
        What the pages are called.
    read_timeout, act_timeout:
        Seconds after which the server ends a statement of a page, and of an action.

    Returns
    -------
    A Starlette app.

    Raises
    ------
    SyncConnectorConfigurationError when the app's connector is not async.
    """
    if not isinstance(app.connector, AsyncConnector):
        raise SyncConnectorConfigurationError(
            f"the dashboard needs an app with an async connector, not {type(app.connector).__name__}"
        )
    if password is not None and not password:
        raise ValueError("password='': pass a password, or None")
    settings = Settings(
        title=title,
        auth=auth,
        password=password,
        actions=actions,
        hide=hide,
        allowed_hosts=None if allowed_hosts is None else frozenset(host.lower() for host in allowed_hosts),
        read_timeout_s=read_timeout,
        act_timeout_s=act_timeout,
    )

    @contextlib.asynccontextmanager
    async def lifespan(dashboard: Starlette) -> AsyncIterator[None]:
        async with app.open_async():
            yield

    dashboard = Starlette(
        routes=list(_routes()),
        middleware=[Middleware(Guard, settings=settings)],
        exception_handlers={Problem: _answer, HTTPException: _answer, Exception: _answer},
        lifespan=lifespan,
    )
    reads = Limited(app, read_timeout, read_only=True)
    dashboard.state.dashboard = State(
        app=app,
        settings=settings,
        hider=Hider(hide),
        templates=Templates(title),
        live=Live(app, reads),
        reads=reads,
        acts=Limited(app, act_timeout, read_only=False),
    )
    return dashboard


def _routes() -> Iterable[Route]:
    for path, (name, read) in PAGES.items():
        yield Route(path, _guarded(_page(name, read)), methods=["GET"])
        yield Route(f"/api{path if path != '/' else '/overview'}", _guarded(_twin(read)), methods=["GET"])
    yield Route("/api/ids", _guarded(_twin(jobs.read_ids)), methods=["GET"])
    yield Route("/api/jobs/{job_id}/graph", _guarded(_twin(graphs.read_neighbourhood)), methods=["GET"])
    yield Route("/api/workflows/{workflow_id}/graph", _guarded(_twin(graphs.read_workflow)), methods=["GET"])
    yield Route("/live", _guarded(_live), methods=["GET"])
    yield Route("/login", _guarded(_login), methods=["GET", "POST"])
    yield Route("/logout", _guarded(_logout), methods=["POST"])
    yield Route("/theme", _guarded(_theme), methods=["POST"])
    yield Route("/jobs/act", _guarded(acts.act_on_jobs), methods=["POST"])
    yield Route("/queues/act", _guarded(acts.act_on_queue), methods=["POST"])
    yield Route("/periodic/run", _guarded(acts.run_periodic_task), methods=["POST"])
    yield Route("/workflows/{workflow_id}/act", _guarded(acts.act_on_workflow), methods=["POST"])
    yield Route("/static/{name}", _guarded(_static), methods=["GET"])


Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


def _guarded(endpoint: Endpoint) -> Endpoint:
    """Errors are answered here, not by the server around: it would log them and close the connection."""

    async def answered(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Exception as error:
            problem = problem_of(error)
            if problem is None:
                if isinstance(error, HTTPException):
                    raise
                logger.exception("The dashboard failed at %s", request.url.path, extra={"action": "dashboard_error"})
                problem = Problem(500, "Something went wrong here", "The log of the dashboard says what.")
            elif problem.status >= 500:
                logger.warning("The dashboard: %s", error, extra={"action": "dashboard_problem"})
            return await _answer(request, problem)

    return answered


def _page(name: str, read: Read) -> Endpoint:
    async def show(request: Request) -> Response:
        state = state_of(request)
        data = await read(request)
        flash = request.cookies.get(acts.FLASH_COOKIE)
        response = state.templates.render(
            request,
            name,
            **data,
            may_act=await state.may_act(request),
            flash=None if flash is None else unquote(flash),
            logged_in=state.settings.password is not None and state.settings.auth is None,
        )
        if flash:
            response.delete_cookie(acts.FLASH_COOKIE, path=root_path(request) or "/")
        return response

    return show


def _twin(read: Read) -> Endpoint:
    async def show(request: Request) -> Response:
        return JsonResponse(await read(request))

    return show


async def _live(request: Request) -> Any:
    live = state_of(request).live
    if live.streams >= MAX_STREAMS:
        raise Problem(429, "Too many pages are open", "This one is not live; it tries again by itself.")
    return EventStream(live)


async def _login(request: Request) -> Response:
    sessions: Sessions | None = request.state.sessions
    if sessions is None:
        return RedirectResponse(f"{root_path(request)}/", 303)
    state = state_of(request)
    wanted = request.query_params.get("next", "/")
    if not wanted.startswith("/") or wanted.startswith(("//", "/\\")) or not wanted.isprintable():
        wanted = "/"
    if request.method != "POST":
        return state.templates.render(request, "login", wanted=wanted, wrong=False)
    form = await request.form(max_fields=10, max_files=0)
    check_csrf(request, form.get(CSRF_FIELD))
    password = form.get("password")
    if not sessions.check(password if isinstance(password, str) else None, request):
        return state.templates.render(request, "login", 403, wanted=wanted, wrong=True)
    response = RedirectResponse(root_path(request) + wanted, 303)
    set_cookie(request, response, SESSION_COOKIE, sessions.new())
    return response


async def _logout(request: Request) -> Response:
    form = await request.form(max_fields=10, max_files=0)
    check_csrf(request, form.get(CSRF_FIELD))
    response = RedirectResponse(f"{root_path(request)}/login", 303)
    response.delete_cookie(SESSION_COOKIE, path=root_path(request) or "/")
    return response


async def _theme(request: Request) -> Response:
    """Remember dark or light; the browser's own wish when neither."""
    form = await request.form(max_fields=10, max_files=0)
    check_csrf(request, form.get(CSRF_FIELD))
    theme = form.get("theme")
    response = Response(status_code=204)
    set_cookie(request, response, THEME_COOKIE, str(theme) if theme in ("light", "dark") else "auto")
    return response


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in static_names():
        raise Problem(404, "There is no such file")
    kept = "v" in request.query_params
    return FileResponse(HERE / "static" / name, headers={"cache-control": _FOR_EVER if kept else "no-cache"})


async def _answer(request: Request, error: Exception) -> Response:
    match error:
        case Problem():
            problem = error
        case HTTPException(status_code=404):
            problem = Problem(404, "There is no such page")
        case HTTPException():
            problem = Problem(error.status_code, error.detail)
        case _:
            problem = Problem(500, "Something went wrong here", "The log of the dashboard says what.")
    if path_within(request).startswith("/api/") or "x-requested-with" in request.headers:
        return JsonResponse({"error": problem.title, "text": problem.text}, problem.status)
    return state_of(request).templates.render(request, "problem", problem.status, problem=problem, **acts.UNREAD)
