"""`cancel`, `abort`, `retry`, `delete`: acts on jobs, by ids or by a filter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from procrastinate_deps.cli.arguments import Moment
from procrastinate_deps.cli.durations import counted
from procrastinate_deps.cli.output import safe
from procrastinate_deps.cli.program import Command
from procrastinate_deps.cli.targets import NAMED, Targets, agree, jobs_counted, listed, target_options
from procrastinate_deps.jobs import TERMINAL, Status
from procrastinate_deps.statements import look_at_jobs
from procrastinate_deps.verbs.bulk import BulkOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime

    from procrastinate_deps.app import App
    from procrastinate_deps.cli.settings import Settings
    from procrastinate_deps.manager import JobManager

WAITING = (Status.BLOCKED, Status.TODO)
ENDED = tuple(status for status in Status if status in TERMINAL)
UNSUCCESSFUL = (Status.FAILED, Status.ABORTED)

# what the database says, as it is said here
_OPTIONS = {
    "; abort asks": "; --abort asks",
    "by force": "with --force",
    "; force deletes": "; --force deletes",
    "ignore_dependencies": "--ignore-dependencies",
}

_DONE = {
    "cancelled": "cancelled",
    "abort_requested": "asked to abort",
    "retried": "retried",
    "deleted": "deleted",
}


@dataclass(frozen=True, slots=True)
class Act:
    """What is done, in words, with which jobs it can be done, and how.

    `text` is the act with its options, as in "cancel and delete"; `possible` are the statuses of jobs that it is for.
    `always_can`: of jobs with these statuses it refuses none; what it refuses of a selection has moved on meanwhile.
    """

    text: str
    possible: Collection[Status]
    run: Callable[[JobManager, Sequence[int]], BulkOutcome]
    always_can: bool = False


@click.command(
    cls=Command,
    epilog="\b\nExamples:\n"
    "  procrastinate-deps cancel 7 8\n"
    "  procrastinate-deps cancel --abort 7\n"
    "  procrastinate-deps cancel --queue mails --status todo --dry-run\n"
    "  procrastinate-deps cancel --all --yes",
)
@target_options((*WAITING, Status.DOING), "those that have not started")
@click.option("--abort", is_flag=True, help="Ask running jobs to stop, too.")
@click.option("--delete", "delete_job", is_flag=True, help="Delete the jobs; their children are told of a cancel.")
@click.pass_context
def cancel(ctx: click.Context, /, abort: bool, delete_job: bool, **options: Any) -> None:
    """Cancel jobs that have not started, by ids or by a filter. Their children are decided by their rules.

    Who names no ids is told how many jobs it is, and asked.
    """
    if Status.DOING in options["statuses"] and not abort:
        raise click.UsageError("a running job can only be asked to stop: add --abort, or use the command abort")
    if delete_job and abort:
        raise click.UsageError("a running job can't be cancelled and deleted: --abort it, then delete it")

    def run(manager: JobManager, ids: Sequence[int]) -> BulkOutcome:
        return _cancel_and_delete(manager, ids) if delete_job else manager.cancel_jobs(ids, abort)

    possible = (*WAITING, Status.DOING) if abort else WAITING
    _act(ctx, Targets.of(possible, options), Act("cancel and delete" if delete_job else "cancel", possible, run, True))


def _cancel_and_delete(manager: JobManager, ids: Sequence[int]) -> BulkOutcome:
    outcome = BulkOutcome()
    refused: list[int] = []
    for job_id in ids:
        (outcome.deleted if manager.cancel_job_by_id(job_id, delete_job=True) else refused).append(job_id)
    if refused:
        # says why; or, where one was put back meanwhile, cancels it
        again = manager.cancel_jobs(refused)
        outcome.refused.update(again.refused)
        outcome.cancelled.extend(again.cancelled)
    return outcome


@click.command(
    cls=Command,
    epilog="\b\nExamples:\n"
    "  procrastinate-deps abort 7\n"
    "  procrastinate-deps abort --task reports.render --yes\n"
    "  procrastinate-deps abort --workflow 3",
)
@target_options((Status.DOING,), "those that run")
@click.pass_context
def abort(ctx: click.Context, /, **options: Any) -> None:
    """Ask running jobs to stop, by ids or by a filter: their workers cancel coroutines, functions have to ask.

    One that was named by its id and has not started is cancelled.
    """

    def run(manager: JobManager, ids: Sequence[int]) -> BulkOutcome:
        return manager.cancel_jobs(ids, abort=True)

    _act(ctx, Targets.of((Status.DOING,), options), Act("abort", (*WAITING, Status.DOING), run, True))


@click.command(
    cls=Command,
    epilog="\b\nExamples:\n"
    "  procrastinate-deps retry 7\n"
    "  procrastinate-deps retry 7 8 --at 2030-01-31T12:00:00Z --no-reset-dependents\n"
    "  procrastinate-deps retry --task mails.send --status failed --older-than 1h\n"
    "  procrastinate-deps retry --queue mails --set-queue mails-slow --yes",
)
@target_options(ENDED, "those that failed or were aborted")
@click.option("--at", "retry_at", metavar="ISO", type=Moment(), help="Don't start before.  [default: at once]")
@click.option("--set-priority", "priority", type=int, help="A new priority.")
@click.option("--set-queue", "new_queue", metavar="NAME", help="Another queue.")
@click.option("--set-lock", "new_lock", metavar="NAME", help="Another lock.")
@click.option(
    "--reset-dependents/--no-reset-dependents",
    default=True,
    show_default=True,
    help="Whether dependents that have not started wait for it again.",
)
@click.option("--ignore-dependencies", is_flag=True, help="Run it whatever its parents did or do; a blocked one, too.")
@click.pass_context
def retry(
    ctx: click.Context,
    /,
    retry_at: datetime | None,
    priority: int | None,
    new_queue: str | None,
    new_lock: str | None,
    reset_dependents: bool,
    ignore_dependencies: bool,
    **options: Any,
) -> None:
    """Run jobs again that have ended, or whose worker is lost, by ids or by a filter."""

    def run(manager: JobManager, ids: Sequence[int]) -> BulkOutcome:
        return manager.retry_jobs(ids, retry_at, priority, new_queue, new_lock, reset_dependents, ignore_dependencies)

    possible = (*ENDED, Status.BLOCKED) if ignore_dependencies else ENDED
    _act(ctx, Targets.of(UNSUCCESSFUL, options), Act("retry", possible, run))


@click.command(
    cls=Command,
    epilog="\b\nExamples:\n"
    "  procrastinate-deps delete 7\n"
    "  procrastinate-deps delete --status cancelled --older-than 7d --yes\n"
    "  procrastinate-deps delete --queue mails --status todo --force",
)
@target_options(tuple(Status), "those that have ended; with --force, whatever their status")
@click.option(
    "--force", is_flag=True, help="Live jobs, too, which count as cancelled, and those that a child still has."
)
@click.pass_context
def delete(ctx: click.Context, /, force: bool, **options: Any) -> None:
    """Delete jobs that have ended, by ids or by a filter; never one that an unfinished child still has.

    To delete what ended long ago there is prune, which is gentler.
    """

    def run(manager: JobManager, ids: Sequence[int]) -> BulkOutcome:
        return manager.delete_jobs(ids, force)

    possible = tuple(Status) if force else ENDED
    _act(ctx, Targets.of(possible, options), Act("delete", possible, run))


def _act(ctx: click.Context, targets: Targets, act: Act) -> None:
    settings: Settings = ctx.obj
    with settings.database().open() as app:
        if targets.dry_run:
            _only_say(app, targets, act)
            return
        refused = _act_on_ids(app, targets.ids, act) if targets.ids else act_on_selection(app, targets, act)
    if act.always_can and not targets.ids:
        return
    for reason in list(refused.values())[: None if targets.ids else NAMED]:
        click.echo(f"Error: {safe(_said_here(reason))}", err=True)
    if not targets.ids and len(refused) > NAMED:
        click.echo(f"Error: and {len(refused) - NAMED:,} more such jobs", err=True)
    if refused:
        ctx.exit(1)


def _act_on_ids(app: App, ids: tuple[int, ...], act: Act) -> dict[int, str]:
    outcome = act.run(app.job_manager, ids)
    now = app.execute(look_at_jobs(outcome.retried)) if outcome.retried else {}
    words = {job_id: now[job_id].status.value if job_id in now else "deleted" for job_id in outcome.retried}
    for kind in ("cancelled", "abort_requested", "deleted"):
        words |= dict.fromkeys(getattr(outcome, kind), _DONE[kind])
    for job_id in dict.fromkeys(ids):
        if job_id in words:
            click.echo(f"job {job_id}: {words[job_id]}")
    return outcome.refused


def act_on_selection(app: App, targets: Targets, act: Act) -> dict[int, str]:
    manager = app.job_manager
    # what is deferred from now on is not meant
    up_to = manager.last_job_id()
    count, _ = targets.count(manager)
    if count == 0:
        click.echo("no such jobs")
        return {}
    agree(f"{act.text} {jobs_counted(count)}?", yes=targets.yes)
    done: dict[str, int] = dict.fromkeys(_DONE, 0)
    refused: dict[int, str] = {}
    for page in targets.pages(manager, up_to):
        outcome = act.run(manager, page)
        for kind in done:
            done[kind] += len(getattr(outcome, kind))
        refused |= outcome.refused
    said = [f"{counted(number, 'job')} {_DONE[kind]}" for kind, number in done.items() if number]
    if refused:
        left = "had moved on" if act.always_can else "left as it is" if len(refused) == 1 else "left as they are"
        said.append(f"{counted(len(refused), 'job')} {left}")
    click.echo(", ".join(said) or "no such jobs any more")
    return refused


def _only_say(app: App, targets: Targets, act: Act) -> None:
    if not targets.ids:
        click.echo(f"would {act.text} {listed(*targets.count(app.job_manager))}")
        return
    found = app.execute(look_at_jobs(targets.ids))
    fit = [job_id for job_id in dict.fromkeys(targets.ids) if job_id in found and found[job_id].status in act.possible]
    click.echo(f"would {act.text} {listed(len(fit), fit)}")
    for job_id in dict.fromkeys(targets.ids):
        if job_id not in found:
            click.echo(f"there is no job {job_id}")
        elif job_id not in fit:
            click.echo(f"job {job_id} would stay: it is {found[job_id].status}")


def _said_here(reason: str) -> str:
    for said, here in _OPTIONS.items():
        reason = reason.replace(said, here)
    return reason
