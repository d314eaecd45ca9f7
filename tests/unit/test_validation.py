"""What a job can't be given is refused where it is said, in words of ours and before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from procrastinate_deps import App, SyncPsycopgConnector
from procrastinate_deps.exceptions import JobNotFound, WorkflowNotFound

# nothing is there: whatever went to the database would say so
app = App(SyncPsycopgConnector(conninfo="postgresql://nobody@127.0.0.1:1/nowhere"))
VERBS_OF_A_JOB = [
    "cancel_job_by_id",
    "explain",
    "get_children",
    "get_job",
    "get_job_status",
    "get_parent_results",
    "get_parent_statuses",
    "get_parents",
    "list_events",
    "retry_job_by_id",
]


@app.task(name="anything")
def anything() -> None:
    """Never runs."""


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"priority": 2**31}, ValueError, "from -2147483648 to 2147483647"),
        ({"priority": "high"}, TypeError, "pass a whole number"),
        ({"priority": True}, TypeError, "pass a whole number"),
        ({"priority": 1.5}, TypeError, "pass a whole number"),
        ({"queue": ""}, ValueError, "1 to 255 characters"),
        ({"queue": "q" * 256}, ValueError, "1 to 255 characters"),
        ({"queue": 3}, ValueError, "1 to 255 characters"),
        ({"queue": "a\x00b"}, ValueError, "without NUL"),
        ({"lock": 3}, ValueError, "^lock=3: pass a text"),
        ({"lock": "\ud800"}, ValueError, "surrogate"),
        ({"lock": "é" * 1001}, ValueError, "up to 2000 bytes"),
        ({"queueing_lock": b"a"}, ValueError, "^queueing_lock=b'a': pass a text"),
    ],
)
def test_a_jobs_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        anything.configure(**options)
    declare: Any = app.task
    with pytest.raises(error, match=message):
        declare(name="another", **options)(anything.func)
    assert "another" not in app.tasks


def test_the_longest_that_fits() -> None:
    deferrer = anything.configure(priority=-(2**31), queue="q" * 255, lock="é" * 1000, queueing_lock="")
    assert (deferrer.spec.priority, len(deferrer.spec.queue)) == (-(2**31), 255)


@pytest.mark.parametrize(("given", "error"), [("7", TypeError), (True, TypeError), (None, TypeError), (1.0, TypeError)])
@pytest.mark.parametrize("verb", VERBS_OF_A_JOB)
def test_what_is_no_id_of_a_job(verb: str, given: Any, error: type[Exception]) -> None:
    method = getattr(app.job_manager, verb)
    with pytest.raises(error, match="pass the id that defer"):
        method(given)
    for impossible in (0, -1, 2**63):
        with pytest.raises(JobNotFound, match="can't exist"):
            method(impossible)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"queue": ""}, "1 to 255"),
        ({"priority": 2**31}, "from -2147483648"),
        ({"lock": "x" * 2001}, "up to 2000 bytes"),
    ],
)
def test_what_a_retry_can_not_give(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        app.job_manager.retry_job_by_id(1, **values)
    with pytest.raises(ValueError, match=message):
        app.job_manager.retry_jobs([1], **values)


@pytest.mark.parametrize("verb", ["get_workflow", "list_workflow_edges", "cancel_workflow", "retry_workflow"])
def test_what_is_no_id_of_a_workflow(verb: str) -> None:
    method = getattr(app.job_manager, verb)
    with pytest.raises(TypeError, match="pass the workflow's id"):
        method("7")
    with pytest.raises(WorkflowNotFound, match="can't exist"):
        method(2**63)


@pytest.mark.parametrize("verb", ["add_dependencies", "remove_dependencies"])
@pytest.mark.parametrize("child", [None, [1, 2], "1"])
def test_what_is_no_child(verb: str, child: Any) -> None:
    with pytest.raises(TypeError, match=r"child=.*pass one job"):
        getattr(app.job_manager, verb)(child, [1])


@pytest.mark.parametrize("verb", ["pause_queue", "resume_queue"])
def test_what_is_no_queue(verb: str) -> None:
    with pytest.raises(ValueError, match="a queue's name"):
        getattr(app.job_manager, verb)("")
