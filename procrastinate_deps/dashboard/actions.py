"""What can be done from the pages. Each passes `action`: it is allowed, comes from our own form, and is limited."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

from starlette.datastructures import FormData
from starlette.responses import RedirectResponse, Response

from procrastinate_deps import statements
from procrastinate_deps.dashboard import questions
from procrastinate_deps.dashboard.encoding import JsonResponse
from procrastinate_deps.dashboard.pages.parameters import is_id, path_id
from procrastinate_deps.dashboard.problems import Problem, problem_of
from procrastinate_deps.dashboard.security import CSRF_FIELD, check_csrf, path_within, root_path, set_cookie
from procrastinate_deps.dashboard.state import State, state_of
from procrastinate_deps.exceptions import ProcrastinateException
from procrastinate_deps.workflow_info import RetryMode

if TYPE_CHECKING:
    from starlette.requests import Request

    from procrastinate_deps.verbs.bulk import BulkOutcome

logger = logging.getLogger(__name__)

MAX_SELECTED = statements.COUNT_CAP
"""They are acted on in batches, each of which is a statement of its own."""

FLASH_COOKIE = "procrastinate_deps_flash"
SHOWN_ERRORS = 3

MAX_FIELDS = 300

UNREAD: dict[str, Any] = {"may_act": False, "flash": None, "logged_in": False}
"""Of a page that shows no data."""

JOB_ACTIONS = {
    "retry": "Retry",
    "cancel": "Cancel",
    "abort": "Abort",
    "delete": "Delete",
}


@dataclass(frozen=True, slots=True)
class Done:
    """What an action came to, in one sentence, and where to go on."""

    text: str
    to: str | None = None
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for: the question whether it is meant, and what does it."""

    question: str
    act: Callable[[], Awaitable[Done]]
    danger: bool = False


Planner: TypeAlias = Callable[[State, "Request", FormData], Plan]


def action(plan: Planner) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint of an action: nothing is looked at before it is known who asks, and nothing is done before it was
    asked whether it is meant: by the page's script, or by a page."""

    @functools.wraps(plan)
    async def endpoint(request: Request) -> Response:
        state = state_of(request)
        if not await state.may_act(request):
            raise Problem(
                403,
                "This dashboard only shows",
                "Start it with --allow-actions, or create_dashboard(actions=True), to change something here.",
            )
        form = await request.form(max_fields=MAX_FIELDS, max_files=0)
        check_csrf(request, form.get(CSRF_FIELD))
        by_script = "x-requested-with" in request.headers
        back = _back(request, form)
        try:
            planned = plan(state, request, form)
            if not by_script and form.get("sure") != "yes":
                return _ask(state, request, form, planned, back)
            done = await planned.act()
        except (Problem, ProcrastinateException) as error:
            problem = problem_of(error)
            if problem is None or not by_script:
                raise
            return JsonResponse({"text": problem.text or problem.title, "failed": True}, problem.status)
        state.live.announce()
        client = "" if request.client is None else request.client.host
        logger.info(
            "%s (asked for from %s)",
            done.text,
            client or "a local socket",
            extra={"action": f"dashboard_{plan.__name__}", "path": path_within(request), "client": client},
        )
        to = back if done.to is None else root_path(request) + done.to
        if by_script:
            return JsonResponse({"text": done.text, "failed": done.failed, "to": done.to and to})
        response = RedirectResponse(to, 303)
        set_cookie(request, response, FLASH_COOKIE, quote(done.text[:500]))
        return response

    return endpoint


def _ask(state: State, request: Request, form: FormData, plan: Plan, back: str) -> Response:
    fields = [
        (name, value)
        for name, value in form.multi_items()
        if name not in (CSRF_FIELD, "sure") and isinstance(value, str)
    ]
    return state.templates.render(
        request, "confirm", question=plan.question, danger=plan.danger, fields=fields, back=back, **UNREAD
    )


def _back(request: Request, form: FormData) -> str:
    """The page that the form stood on, if it is one of ours."""
    given = form.get("back")
    root = root_path(request)
    if (
        isinstance(given, str)
        and given.startswith(f"{root}/")
        and not given.startswith(("//", "/\\"))
        and given.isprintable()
    ):
        return given
    return f"{root}/"


@action
def act_on_jobs(state: State, request: Request, form: FormData) -> Plan:
    """Retry, cancel, abort or delete some jobs, each for itself: one that can't be stops no other."""
    name = form.get("action")
    if name not in JOB_ACTIONS:
        raise Problem(400, "No such action")
    ids = _ids(form.getlist("ids"))
    leave = name == "delete" and form.get("on") == "job"
    return Plan(
        questions.about_jobs(str(name), ids),
        functools.partial(_act_on_jobs, state, str(name), ids, leave),
        danger=name == "delete",
    )


async def _act_on_jobs(state: State, name: str, ids: Sequence[int], leave: bool) -> Done:
    outcome = await _act(state, name, ids)
    done, refused = len(outcome.done), list(outcome.refused.values())
    verb = {"retry": "retried", "cancel": "cancelled", "abort": "cancelled or asked to stop", "delete": "deleted"}[name]
    text = f"{questions.jobs(done)} {verb}"
    if refused:
        shown = "; ".join(refused[:SHOWN_ERRORS])
        text += f", {len(refused)} not: {shown}" + ("; …" if len(refused) > SHOWN_ERRORS else "")
    return Done(text, "/jobs" if leave and done else None, failed=bool(refused))


async def _act(state: State, name: str, ids: Sequence[int]) -> BulkOutcome:
    manager = state.actor
    match name:
        case "retry":
            return await manager.retry_jobs_async(ids)
        case "delete":
            return await manager.delete_jobs_async(ids, force=True)
        case _:
            return await manager.cancel_jobs_async(ids, abort=name == "abort")


@action
def act_on_queue(state: State, request: Request, form: FormData) -> Plan:
    """Pause or resume a queue."""
    queue, name = _text(form, "queue"), form.get("action")
    if name not in ("pause", "resume"):
        raise Problem(400, "No such action")
    return Plan(questions.about_queue(str(name), queue), functools.partial(_act_on_queue, state, str(name), queue))


async def _act_on_queue(state: State, name: str, queue: str) -> Done:
    if name == "pause":
        changed = await state.actor.pause_queue_async(queue)
        return Done(f"queue {queue} is paused" if changed else f"queue {queue} was paused already")
    changed = await state.actor.resume_queue_async(queue)
    return Done(f"queue {queue} goes on" if changed else f"queue {queue} was not paused")


@action
def run_periodic_task(state: State, request: Request, form: FormData) -> Plan:
    """Defer a job of a periodic task now."""
    task = _text(form, "task")
    periodic_id = _text(form, "periodic_id") if form.get("periodic_id") else ""
    return Plan(questions.about_periodic(task), functools.partial(_run_periodic_task, state, task, periodic_id))


async def _run_periodic_task(state: State, task: str, periodic_id: str) -> Done:
    job_id = await state.actor.run_periodic_task_async(task, periodic_id)
    return Done(f"deferred as job {job_id}")


@action
def act_on_workflow(state: State, request: Request, form: FormData) -> Plan:
    """Cancel, retry or delete a workflow."""
    workflow_id = path_id(request, "workflow_id")
    name, mode = str(form.get("action")), str(form.get("mode", "failed"))
    if name not in ("cancel", "retry", "delete"):
        raise Problem(400, "No such action")
    if mode not in list(RetryMode):
        raise Problem(400, "No such mode")
    return Plan(
        questions.about_workflow(name, mode, workflow_id),
        functools.partial(_act_on_workflow, state, name, mode, workflow_id),
        danger=name == "delete",
    )


async def _act_on_workflow(state: State, name: str, mode: str, workflow_id: int) -> Done:
    run = state.acts.execute_async
    if name == "cancel":
        cancellation = await run(statements.cancel_workflow(workflow_id))
        cancelled = questions.jobs(cancellation.cancelled)
        return Done(f"{cancelled} cancelled, {cancellation.abort_requested} running asked to stop")
    if name == "retry":
        return Done(f"{questions.jobs(await run(statements.retry_workflow(workflow_id, mode)))} to run again")
    deleted = await run(statements.delete_workflow(workflow_id))
    return Done(f"workflow deleted, with {questions.jobs(deleted)}", "/workflows")


def _ids(given: Sequence[object]) -> list[int]:
    """From one field or several, each with one id or several."""
    words = [word for each in given if isinstance(each, str) for word in each.split()]
    if not words or not all(is_id(word) for word in words):
        raise Problem(400, "No jobs are selected", "Select some, and try again.")
    if len(words) > MAX_SELECTED:
        raise Problem(400, "Too many jobs", f"Select no more than {MAX_SELECTED:,}.")
    return list(dict.fromkeys(int(word) for word in words))


def _text(form: FormData, name: str) -> str:
    given = form.get(name)
    if not isinstance(given, str) or not given or "\0" in given:
        raise Problem(400, f"{name} is missing")
    return given
