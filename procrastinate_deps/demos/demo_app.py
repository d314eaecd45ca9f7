"""The app of all demos, and the workflow demo's tasks, in a module that every worker can import."""

from __future__ import annotations

import logging
import time
from typing import Any

import anyio

from procrastinate_deps import App, JobContext
from procrastinate_deps.demos.catalogue import NAMES, module_name

logger = logging.getLogger(__name__)

QUEUE = "demo_workflow"
# long enough to be seen, short enough not to be waited for
STEP_S = 0.3

# a worker of this app runs the jobs of all demos
app = App(import_paths=[module_name(name) for name in NAMES])


@app.task(queue=QUEUE)
async def extract(source: str, reachable: bool = True) -> str:
    await anyio.sleep(STEP_S)
    if not reachable:
        raise ConnectionError(f"{source} can't be reached")
    return f"rows of {source}"


@app.task(queue=QUEUE, pass_context=True)
async def process_data(context: JobContext) -> dict[str, Any]:
    """Runs whatever became of its parents, and so looks at them."""
    parent_statuses = await context.get_parent_statuses_async()
    await anyio.sleep(STEP_S)
    if all(status == "succeeded" for status in parent_statuses.values()):
        return {"complete": True}
    failed_jobs = [job_id for job_id, status in parent_statuses.items() if status == "failed"]
    logger.warning("Parent jobs %s failed, handling gracefully", failed_jobs)
    return {"complete": False, "without": failed_jobs}


@app.task(queue=QUEUE, run_when="all_succeeded")
async def publish() -> None:
    """Runs only on complete data."""
    await anyio.sleep(STEP_S)


@app.task(queue=QUEUE)
def clean_up() -> None:
    """A plain function: it runs in a thread."""
    time.sleep(STEP_S)
