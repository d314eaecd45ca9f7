"""What is asked before an action is done: by a page, where no script has asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from procrastinate_deps.dashboard.rendering import number

if TYPE_CHECKING:
    from collections.abc import Sequence


def jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{number(count)} jobs"


def about_jobs(action: str, ids: Sequence[int]) -> str:
    which = f"job {ids[0]}" if len(ids) == 1 else jobs(len(ids))
    return {
        "retry": f"Run {which} again? Children that have not started wait again.",
        "cancel": f"Cancel {which}? What has started or ended stays as it is.",
        "abort": f"Cancel {which}, and ask what runs to stop?",
        "delete": f"Delete {which} for good? What has not ended counts as cancelled for its children.",
    }[action]


def about_queue(action: str, queue: str) -> str:
    if action == "pause":
        return f"Let no more jobs of queue {queue} start? Those that run go on."
    return f"Let jobs of queue {queue} start again?"


def about_periodic(task: str) -> str:
    return f"Defer a job of {task} now, besides its schedule?"


def about_workflow(action: str, mode: str, workflow_id: int) -> str:
    match action, mode:
        case "cancel", _:
            return f"Cancel the jobs of workflow {workflow_id} that have not ended, and ask the running ones to stop?"
        case "delete", _:
            return f"Delete workflow {workflow_id} and all its jobs for good?"
        case _, "all":
            return f"Run all jobs of workflow {workflow_id} again that have ended?"
        case _, "failed_and_downstream":
            return f"Run again what failed in workflow {workflow_id}, and everything after it, however that ended?"
    return f"Run the jobs of workflow {workflow_id} again that failed, were aborted or were cancelled by hand?"
