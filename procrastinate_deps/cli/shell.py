"""`shell`: look at jobs and manage them by short commands."""

from __future__ import annotations

import cmd
import shlex
import sys
from typing import TYPE_CHECKING, Any

import click

from procrastinate_deps.cli.durations import counted
from procrastinate_deps.cli.output import safe
from procrastinate_deps.cli.program import Command, one_line
from procrastinate_deps.exceptions import ProcrastinateException
from procrastinate_deps.jobs import Status
from procrastinate_deps.statements import PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from procrastinate_deps.cli.settings import Settings
    from procrastinate_deps.jobs import Job
    from procrastinate_deps.manager import JobManager

PROMPT = "procrastinate-deps> "

_JOB_FILTERS = {"id": int, "queue": str, "task": str, "status": Status, "lock": str, "queueing_lock": str}
_COUNT_FILTERS = {name: _JOB_FILTERS[name] for name in ("queue", "task", "status", "lock")}


@click.command(
    cls=Command,
    context_settings={"ignore_unknown_options": True},
    epilog="\b\nExamples:\n"
    "  procrastinate-deps shell\n"
    "  procrastinate-deps shell list_jobs queue=mails status=failed details\n"
    "  echo 'retry 7' | procrastinate-deps shell",
)
@click.argument("words", metavar="[COMMAND...]", nargs=-1)
@click.pass_context
def shell(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Look at jobs and manage them by short commands, one a line; `help` lists them.

    A command may be given as arguments: it is done, and that is all.
    """
    settings: Settings = ctx.obj
    with settings.database().open() as app:
        commands = Shell(app.job_manager)
        if words:
            commands.onecmd(shlex.join(words))
        else:
            commands.loop()
    # of a person's typing errors none is left: of a script's each one counts
    if commands.failed and (words or not sys.stdin.isatty()):
        ctx.exit(1)


class _MisusedError(ProcrastinateException):
    """The command was not understood."""


class Shell(cmd.Cmd):
    """The commands, as methods; their docstrings are what `help` says."""

    intro = "help or ? lists the commands, exit leaves."
    prompt = PROMPT

    def __init__(self, manager: JobManager) -> None:
        super().__init__()
        self._manager = manager
        self.failed = False

    def loop(self) -> None:
        if not sys.stdin.isatty():
            self.intro = self.prompt = ""
            self.use_rawinput = False
        while True:
            try:
                self.cmdloop()
                return
            except KeyboardInterrupt:
                # ends the line, not the shell
                click.echo()
                self.intro = ""

    def onecmd(self, line: str) -> bool:
        try:
            return bool(super().onecmd(line))
        except ProcrastinateException as error:
            self.failed = True
            click.echo(f"Error: {one_line(error)}", err=True)
            return False

    def emptyline(self) -> bool:
        """Nothing, where cmd would repeat the last command."""
        return False

    def default(self, line: str) -> None:
        raise _MisusedError(f"there is no command {safe(line.split()[0])!r}: help lists them")

    def do_list_jobs(self, text: str) -> None:
        """list_jobs [id=...] [queue=...] [task=...] [status=...] [lock=...] [queueing_lock=...] [details]: jobs."""
        filters, details = _parsed(text, _JOB_FILTERS)
        jobs = self._manager.list_jobs(**filters, limit=PAGE_SIZE + 1)
        for job in jobs[:PAGE_SIZE]:
            click.echo(safe(_details(job) if details else _brief(job)))
        if len(jobs) > PAGE_SIZE:
            click.echo(f"and more: these are the first {PAGE_SIZE:,}", err=True)

    def do_list_queues(self, text: str) -> None:
        """list_queues [queue=...] [task=...] [status=...] [lock=...] [details]: queues, and how many jobs each has."""
        self._counts(self._manager.list_queues, text)

    def do_list_tasks(self, text: str) -> None:
        """list_tasks [queue=...] [task=...] [status=...] [lock=...] [details]: tasks, and how many jobs each has."""
        self._counts(self._manager.list_tasks, text)

    def do_list_locks(self, text: str) -> None:
        """list_locks [queue=...] [task=...] [status=...] [lock=...] [details]: locks, and how many jobs each has."""
        self._counts(self._manager.list_locks, text)

    def do_retry(self, text: str) -> None:
        """retry ID: run a job again that has ended, or whose worker is lost."""
        job_id = _id(text, "retry")
        self._manager.retry_job_by_id(job_id)
        click.echo(_brief(self._manager.get_job(job_id)))

    def do_cancel(self, text: str) -> None:
        """cancel ID: cancel a job that has not started."""
        job_id = _id(text, "cancel")
        outcome = self._manager.cancel_jobs(job_id)
        if outcome.refused:
            raise ProcrastinateException(outcome.refused[job_id])
        click.echo(_brief(self._manager.get_job(job_id)))

    def do_exit(self, text: str) -> bool:
        """exit: leave; so does the end of the input, Ctrl-D."""
        return True

    do_quit = do_exit

    def do_EOF(self, text: str) -> bool:  # noqa: N802 - what cmd calls the end of the input
        """The end of the input: leave."""
        if sys.stdin.isatty():
            click.echo()
        return True

    def _counts(self, read: Callable[..., list[dict[str, Any]]], text: str) -> None:
        filters, details = _parsed(text, _COUNT_FILTERS)
        for row in read(**filters):
            name = safe(str(row["name"]))
            line = f"{name}: {counted(row['jobs_count'], 'job')}"
            if details:
                line += f" ({', '.join(f'{status}: {row[status]}' for status in Status)})"
            click.echo(line + (", paused" if row.get("paused") else ""))


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise _MisusedError(f"{safe(text)}: {error}") from error


def _parsed(text: str, known: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Filters, written name=value, and whether `details` stood among them."""
    filters: dict[str, Any] = {}
    details = False
    for word in _words(text):
        name, found, value = word.partition("=")
        if word == "details":
            details = True
        elif not found or name not in known:
            raise _MisusedError(f"{safe(word)!r} is no filter: {_named(known)}, or details")
        else:
            try:
                filters[name] = known[name](value)
            except ValueError:
                allowed = "a number" if known[name] is int else _named(Status, "")
                raise _MisusedError(f"{safe(word)!r}: {name} is {allowed}") from None
    return filters, details


def _named(names: Collection[str] | Iterable[str], suffix: str = "=...") -> str:
    return ", ".join(f"{name}{suffix}" for name in names)


def _id(text: str, command: str) -> int:
    words = _words(text)
    if len(words) != 1 or not (words[0].isascii() and words[0].isdigit()):
        raise _MisusedError(f"{command} takes the id of one job, as in: {command} 7")
    return int(words[0])


def _brief(job: Job) -> str:
    return f"#{job.id} {job.task_name} on {job.queue} - [{job.status}]"


def _details(job: Job) -> str:
    return (
        f"{_brief(job)} (attempts={job.attempts}, priority={job.priority}, scheduled_at={job.scheduled_at}, "
        f"lock={job.lock}, queueing_lock={job.queueing_lock}, args={job.task_kwargs})"
    )
