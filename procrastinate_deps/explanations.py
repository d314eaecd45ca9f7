"""Why a job stands where it stands, and what is bound to happen to it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from procrastinate_deps.dependencies import RunWhen
from procrastinate_deps.jobs import CancelKind, Status
from procrastinate_deps.obstacles import (
    Obstacle,
    Running,
    counted,
    moment,
    obstacle_as_dict,
    read_obstacle,
    read_time,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

MAX_ANCESTORS = 200
"""How many unfinished ancestors an explanation lists: the nearest ones."""

NAMED = 5
"""How many parents a sentence names."""

_ENDED = {"succeeded": "succeeded", "failed": "failed", "aborted": "was aborted", "cancelled": "was cancelled"}


@dataclass(frozen=True, slots=True, kw_only=True)
class BriefJob:
    """What names a job to a person, and its status."""

    id: int
    status: Status
    queue: str
    task_name: str
    workflow_id: int | None
    node: str | None

    def __str__(self) -> str:
        return f"job {self.id}{'' if self.node is None else f' {self.node!r}'} ({self.task_name}, {self.status})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ancestor(BriefJob):
    """An unfinished job that the explained one waits for.

    `level` is its distance: 1 for a parent. `will_be` is what its rule is bound to cancel it as; None: that is open.
    """

    level: int
    will_be: CancelKind | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Root(BriefJob):
    """An unfinished ancestor that waits for no other job, and why it has not ended."""

    obstacles: tuple[Obstacle, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decider:
    """A parent that speaks against a job's rule: by its `status`, or by what it `will_be` cancelled as."""

    id: int
    status: Status
    will_be: CancelKind | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The job's rule can't be met any more, however its unfinished ancestors end: it will be cancelled.

    Unless somebody interferes: retries what has ended, takes the dependency away, or cancels the job by hand first.

    Attributes
    ----------
    kind:
        As what it will be cancelled.
    deciders:
        The parents that speak against its rule, by id, 20 at most.
    root, root_status:
        The job that began it, and how it ended. None: it is not known any more.
    chain:
        The jobs between, from the decider that `root` works through up to the one that `root` decides, 20 at most;
        empty when `root` is a parent.
    """

    kind: CancelKind
    deciders: tuple[Decider, ...]
    root: int | None
    root_status: Status | None
    chain: tuple[int, ...]

    @property
    def text(self) -> str:
        shown = [self._word(each) for each in self.deciders[:NAMED]]
        if len(self.deciders) > NAMED:
            shown.append(f"and {len(self.deciders) - NAMED} more")
        return f"will be cancelled: {', '.join(shown)}"

    def _word(self, decider: Decider) -> str:
        if decider.will_be is None:
            return f"parent {decider.id} {_ENDED[decider.status]}"
        word = f"parent {decider.id} will be cancelled"
        if self.chain and decider.id == self.chain[0] and self.root is not None and self.root_status is not None:
            word += f", because job {self.root} {_ENDED[self.root_status]}"
        return word


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation(BriefJob):
    """Why a job stands where it stands, as it was at `at` by the database's clock. `str()` gives it as text.

    Attributes
    ----------
    run_when:
        The rule by which its parents' ends decide about it.
    obstacles:
        What keeps it from starting, in the order of a job's gates; of a running job: who runs it.
    ancestors:
        The unfinished jobs that it waits for, nearest first: at most 200.
    ancestor_count:
        How many there are; where `counted_all` is false, there are more.
    roots:
        The first 20 of those ancestors that wait for no other job: what it all comes down to.
    root_count:
        How many of these there are.
    bound:
        That its rule is bound to cancel it, and why. None: it may still run.
    deciders:
        The parents that decided, of a job that its rule has cancelled: as they stand now.
    finished_at, attempts, error, cancel_kind, cancel_reason:
        Of the job, as `Job` has them; of a long `error` the last 2,000 characters.
    """

    at: datetime
    run_when: RunWhen
    attempts: int
    finished_at: datetime | None
    error: str | None
    cancel_kind: CancelKind | None
    cancel_reason: str | None
    obstacles: tuple[Obstacle, ...] = ()
    ancestors: tuple[Ancestor, ...] = ()
    ancestor_count: int = 0
    counted_all: bool = True
    roots: tuple[Root, ...] = ()
    root_count: int = 0
    bound: Bound | None = None
    deciders: tuple[Decider, ...] = ()

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The explanation in sentences, one a line; indented lines belong to the one before."""
        return [f"job {self.id} is {self.status}{_where(self)}", *self.reasons()]

    def reasons(self) -> Iterator[str]:
        """The lines but for the first one, which names the job."""
        if self.status.is_terminal:
            yield self._end()
            return
        if self.bound is not None:
            yield f"{self.bound.text} (run_when {self.run_when})"
            if len(self.bound.chain) > 1:
                yield f"  by way of jobs {', '.join(map(str, self.bound.chain))}"
        for obstacle in self.obstacles:
            yield obstacle.text if isinstance(obstacle, Running) else f"waits for {obstacle.text}"
        if self.roots:
            more = "" if self.counted_all else " or more"
            yield f"what it comes down to: {counted(self.root_count, 'job')}{more}"
            for root in self.roots:
                yield f"  {root}"
                for obstacle in root.obstacles:
                    yield f"    {'' if isinstance(obstacle, Running) else 'waits for '}{obstacle.text}"
            if self.root_count > len(self.roots):
                yield f"  and {self.root_count - len(self.roots):,} more"
        if self.ancestors:
            yield "unfinished jobs that it waits for, nearest first:"
            for level, ancestors in itertools.groupby(self.ancestors, lambda each: each.level):
                yield f"  level {level}"
                for each in ancestors:
                    yield f"    {each}" + ("" if each.will_be is None else f", will be cancelled as {each.will_be}")
            left = self.ancestor_count - len(self.ancestors)
            if not self.counted_all:
                yield f"  and more than {left:,} more"
            elif left:
                yield f"  and {left:,} more"

    def _end(self) -> str:
        at = "" if self.finished_at is None else f" at {moment(self.finished_at)}"
        match self.status:
            case Status.CANCELLED if self.cancel_kind is CancelKind.MANUAL:
                return f"was cancelled{at} by hand: {self.cancel_reason}"
            case Status.CANCELLED:
                return f"was cancelled{at} as {self.cancel_kind}: {self.cancel_reason}"
            case _:
                problem = _last_line(self.error)
                after = f", after {counted(self.attempts, 'attempt')}" if self.attempts > 1 else ""
                return f"{_ENDED[self.status]}{at}{after}{f': {problem}' if problem else ''}"

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        return {
            **_brief_as_dict(self),
            "at": self.at.isoformat(),
            "run_when": self.run_when.value,
            "attempts": self.attempts,
            "finished_at": None if self.finished_at is None else self.finished_at.isoformat(),
            "error": self.error,
            "cancel_kind": self.cancel_kind,
            "cancel_reason": self.cancel_reason,
            "obstacles": [obstacle_as_dict(each) for each in self.obstacles],
            "bound": None if self.bound is None else _bound_as_dict(self.bound),
            "deciders": [_decider_as_dict(each) for each in self.deciders],
            "root_count": self.root_count,
            "roots": [
                {**_brief_as_dict(root), "obstacles": [obstacle_as_dict(each) for each in root.obstacles]}
                for root in self.roots
            ],
            "counted_all": self.counted_all,
            "ancestor_count": self.ancestor_count,
            "ancestors": [
                {**_brief_as_dict(each), "level": each.level, "will_be": each.will_be} for each in self.ancestors
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Doomed:
    """A blocked job that is bound to be cancelled as `kind`, since `because` (a parent) speaks against its rule.

    `root` is the ended job that began it, which may be that parent, and `root_status` how it ended.
    """

    job_id: int
    kind: CancelKind
    because: int | None
    root: int | None
    root_status: Status | None


def read_explanation(found: Mapping[str, Any]) -> Explanation:
    """What the SQL function explain_job gives."""
    job = found["job"]
    bound = found.get("bound")
    return Explanation(
        **_brief(job),
        at=read_time(found["at"]),
        run_when=RunWhen(job["run_when"]),
        attempts=job["attempts"],
        finished_at=None if job["finished_at"] is None else read_time(job["finished_at"]),
        error=job["error"],
        cancel_kind=_kind(job["cancel_kind"]),
        cancel_reason=job["cancel_reason"],
        obstacles=_obstacles(found.get("obstacles")),
        ancestors=tuple(
            Ancestor(**_brief(each), level=each["level"], will_be=_kind(each["will_be"]))
            for each in found.get("ancestors", ())
        ),
        ancestor_count=found.get("ancestor_count", 0),
        counted_all=found.get("looked_at_all", True),
        roots=tuple(Root(**_brief(each), obstacles=_obstacles(each["obstacles"])) for each in found.get("roots", ())),
        root_count=found.get("root_count", 0),
        bound=None if bound is None else _bound(bound),
        deciders=tuple(Decider(id=each["id"], status=Status(each["status"])) for each in found.get("deciders") or ()),
    )


def _bound(found: Mapping[str, Any]) -> Bound:
    return Bound(
        kind=CancelKind(found["kind"]),
        deciders=tuple(
            Decider(id=each["id"], status=Status(each["status"]), will_be=_kind(each["will_be"]))
            for each in found["deciders"] or ()
        ),
        root=found["root"],
        root_status=None if found["root_status"] is None else Status(found["root_status"]),
        chain=tuple(each["id"] for each in found["chain"]),
    )


def _brief(found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": found["id"],
        "status": Status(found["status"]),
        "queue": found["queue"],
        "task_name": found["task"],
        "workflow_id": found["workflow_id"],
        "node": found["node"],
    }


def _brief_as_dict(job: BriefJob) -> dict[str, Any]:
    return {
        "id": job.id,
        "status": job.status.value,
        "queue": job.queue,
        "task_name": job.task_name,
        "workflow_id": job.workflow_id,
        "node": job.node,
    }


def _bound_as_dict(bound: Bound) -> dict[str, Any]:
    return {
        "text": bound.text,
        "kind": bound.kind.value,
        "deciders": [_decider_as_dict(each) for each in bound.deciders],
        "root": bound.root,
        "root_status": bound.root_status,
        "chain": list(bound.chain),
    }


def _decider_as_dict(decider: Decider) -> dict[str, Any]:
    return {"id": decider.id, "status": decider.status.value, "will_be": decider.will_be}


def _obstacles(found: list[Mapping[str, Any]] | None) -> tuple[Obstacle, ...]:
    return tuple(read_obstacle(each) for each in found or ())


def _kind(value: str | None) -> CancelKind | None:
    return None if value is None else CancelKind(value)


def _where(job: BriefJob) -> str:
    node = "" if job.node is None else f", node {job.node!r}"
    workflow = "" if job.workflow_id is None else f" of workflow {job.workflow_id}"
    return f" ({job.task_name}, queue {job.queue!r}{node}{workflow if node else workflow and ',' + workflow})"


def _last_line(error: str | None) -> str:
    """The line of a traceback that says what it was."""
    lines = (error or "").strip().splitlines()
    return lines[-1] if lines else ""
