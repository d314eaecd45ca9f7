"""What can be given: checked where it is said, since the database would tell of it in its own words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from procrastinate_deps.dependencies import MAX_JOB_ID
from procrastinate_deps.exceptions import JobNotFound
from procrastinate_deps.jsontext import storable_text

if TYPE_CHECKING:
    from procrastinate_deps.dependencies import HasJobId

# an index entry is 2,704 bytes at most
MAX_LOCK_BYTES = 2000
MAX_NAME = 255
_PRIORITIES = range(-(2**31), 2**31)


def check_job_id(given: object) -> int:
    """The id. Raises TypeError for what is none, JobNotFound for what no job can have."""
    # a bool is an int to Python, and True would mean job 1
    if not isinstance(given, int) or isinstance(given, bool):
        raise TypeError(f"job_id={given!r}: pass the id that defer() returned, an int")
    return _possible(given)


def the_one_job(given: int | HasJobId, name: str) -> int:
    """The id of a job, given by it, or as a Job or a node. `name` is the parameter's, for the error."""
    job_id = given if isinstance(given, int) else getattr(given, "job_id", None)
    if not isinstance(job_id, int) or isinstance(job_id, bool):
        raise TypeError(f"{name}={given!r}: pass one job, by the id that its defer() returned, or as a Job or a node")
    return _possible(job_id)


def _possible(job_id: int) -> int:
    if not 0 < job_id <= MAX_JOB_ID:
        raise JobNotFound(f"job {job_id} can't exist: ids are positive and fit in 64 bits", job_id=job_id)
    return job_id


def check_name(given: object, parameter: str, whose: str) -> str:
    """The name of a queue, a node or a workflow. Raises ValueError, which says `whose` and by which parameter."""
    if not isinstance(given, str) or not 1 <= len(given) <= MAX_NAME or storable_text(given) != given:
        raise ValueError(
            f"{parameter}={given!r:.300}: {whose} name is a text of 1 to {MAX_NAME} characters, without NUL and halves "
            "of surrogate pairs"
        )
    return given


def check_queue(given: object) -> str:
    """A queue's name. Raises ValueError."""
    return check_name(given, "queue", "a queue's")


def check_node(given: object) -> str:
    """A node's name. Raises ValueError."""
    return check_name(given, "node", "a node's")


def check_priority(given: object) -> int:
    """A job's priority. Raises TypeError, ValueError."""
    if not isinstance(given, int) or isinstance(given, bool):
        raise TypeError(f"priority={given!r:.300}: pass a whole number; jobs of a higher one are fetched first")
    if given not in _PRIORITIES:
        raise ValueError(f"priority={given}: pass a number from {_PRIORITIES.start} to {_PRIORITIES.stop - 1}")
    return given


def check_new_values(
    priority: int | None, queue: str | None, lock: str | None
) -> tuple[int | None, str | None, str | None]:
    """What a retry gives a job in the place of what it had; None: that stays. Raises TypeError, ValueError."""
    return (
        None if priority is None else check_priority(priority),
        None if queue is None else check_queue(queue),
        None if lock is None else check_lock(lock, "lock"),
    )


def check_lock(given: object, name: str) -> str:
    """A lock, or a queueing lock: `name` tells which, for the error. Raises ValueError."""
    if not isinstance(given, str) or storable_text(given) != given or len(given.encode()) > MAX_LOCK_BYTES:
        raise ValueError(
            f"{name}={given!r:.300}: pass a text of up to {MAX_LOCK_BYTES} bytes, without NUL and halves of surrogate "
            "pairs"
        )
    return given
