"""Which jobs an act is for: by ids or by a filter; how many; and asking before."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from procrastinate_deps.cli.arguments import Age, JobId
from procrastinate_deps.cli.durations import counted
from procrastinate_deps.cli.program import Failure
from procrastinate_deps.jobs import Status
from procrastinate_deps.statements import JobSelection
from procrastinate_deps.times import utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import timedelta

    from procrastinate_deps.manager import JobManager

COUNT_CAP = 10_000
"""What is selected is counted up to here."""

PAGE = 1000
NAMED = 10
"""How many jobs or refusals are named; the others are counted."""

# Those that were cancelled last: their parents, once they are retried, bring them back.
_ORDER = (
    Status.BLOCKED,
    Status.TODO,
    Status.DOING,
    Status.FAILED,
    Status.ABORTED,
    Status.SUCCEEDED,
    Status.CANCELLED,
)

yes_option = click.option("-y", "--yes", is_flag=True, help="Don't ask.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Only say what would be done.")


def target_options(statuses: Sequence[Status], by_default: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """ID..., or the filters; `statuses` are those that can be asked for."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        options: list[Callable[[Callable[..., None]], Callable[..., None]]] = [
            click.argument("job_ids", metavar="[ID...]", type=JobId(), nargs=-1),
            click.option("--queue", help="Jobs of this queue."),
            click.option("--task", help="Jobs of this task."),
        ]
        if len(statuses) > 1:
            options.append(
                click.option(
                    "--status",
                    "statuses",
                    type=click.Choice([each.value for each in statuses]),
                    multiple=True,
                    help=f"Jobs with this status; can be given several times.  [default: {by_default}]",
                )
            )
        options += [
            click.option("--workflow", "workflow_id", type=JobId(), help="Jobs of this workflow, and of nested ones."),
            click.option("--lock", help="Jobs with this lock."),
            click.option("--from-id", "first_id", type=JobId(), help="Jobs with this id or a greater one."),
            click.option("--to-id", "last_id", type=JobId(), help="Jobs with this id or a smaller one."),
            click.option(
                "--older-than", metavar="AGE", type=Age(), help="Jobs that ended, else began, so long ago: 2h."
            ),
            click.option("--all", "everything", is_flag=True, help=f"All jobs: {by_default}."),
            yes_option,
            dry_run_option,
        ]
        for option in reversed(options):
            function = option(function)
        return function

    return add


@dataclass(frozen=True, slots=True)
class Targets:
    """Ids, or else selections."""

    ids: tuple[int, ...]
    selections: tuple[JobSelection, ...]
    yes: bool
    dry_run: bool

    @classmethod
    def of(cls, default: Sequence[Status], options: dict[str, Any]) -> Targets:
        """What was asked for; it takes its own `options` out of all of them.

        default: the statuses of the jobs that a filter means which names none.
        """
        ids: tuple[int, ...] = options.pop("job_ids")
        yes, dry_run, everything = (options.pop(name) for name in ("yes", "dry_run", "everything"))
        statuses = [Status(each) for each in options.pop("statuses", ())]
        names = ("queue", "task", "lock", "workflow_id", "first_id", "last_id")
        filters = {name: value for name in names if (value := options.pop(name)) is not None}
        older: timedelta | None = options.pop("older_than")
        if older is not None:
            filters["older_than"] = utc_now() - older
        given = bool(statuses or filters)
        if ids and (given or everything):
            raise click.UsageError("give ids or a filter, not both")
        if not (ids or given or everything):
            raise click.UsageError(
                "say which jobs: ids, a filter (--queue, --task, --status, --workflow, ...) or --all"
            )
        wanted = sorted(statuses or default, key=_ORDER.index)
        chosen = tuple(JobSelection(status=status, **filters) for status in wanted)
        return cls(ids, () if ids else chosen, yes, dry_run)

    def pages(self, manager: JobManager, up_to: int) -> Iterator[list[int]]:
        """The ids of the selected jobs, a thousand at a time; no jobs that were deferred after `up_to`."""
        for selection in self.selections:
            after = 0
            while page := [each for each in manager.select_jobs(selection, PAGE, after) if each <= up_to]:
                yield page
                after = page[-1]

    def count(self, manager: JobManager) -> tuple[int, list[int]]:
        """How many jobs are selected, counted up to one more than the cap; and the first of them."""
        found: list[int] = []
        for selection in self.selections:
            found += manager.select_jobs(selection, COUNT_CAP + 1 - len(found))
            if len(found) > COUNT_CAP:
                break
        return len(found), sorted(found)[:NAMED]


def jobs_counted(count: int) -> str:
    return f"more than {COUNT_CAP:,} jobs" if count > COUNT_CAP else counted(count, "job")


def listed(count: int, first: Sequence[int]) -> str:
    """`12 jobs: 1, 2, 3 and 9 more`."""
    if count == 0:
        return "no job"
    names = ", ".join(map(str, first[:NAMED]))
    left = count - len(first[:NAMED])
    more = "" if left <= 0 else (" and more" if count > COUNT_CAP else f" and {left:,} more")
    return f"{jobs_counted(count)}: {names}{more}"


def agree(question: str, *, yes: bool) -> None:
    """Ask, and go on only with a yes."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Failure(f"{question} There is no terminal to ask at: add --yes to do it, or --dry-run to look first")
    click.confirm(question.removesuffix("?") + "?", abort=True)
