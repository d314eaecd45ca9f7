"""NAQ's way to write workflows, on this project's jobs: change the import, and keep the code.

::

    from procrastinate_deps.contrib.naq import enqueue_sync

    job_a = enqueue_sync(process_data, data="input.csv")
    job_b = enqueue_sync(analyze_results, depends_on=[job_a])

A worker runs the functions of the modules that its operator lists, and no others: `naq_app(modules=[...])`, or `app`
here with PROCRASTINATE_DEPS_NAQ_MODULES. See docs/from-naq.md.
"""

from __future__ import annotations

from procrastinate_deps.contrib.naq.apps import MODULES_VARIABLE, NaqApp, app, naq_app
from procrastinate_deps.contrib.naq.client import (
    EnqueuedJob,
    SyncClient,
    enqueue,
    enqueue_sync,
    get_job_status,
    get_job_status_sync,
    setup_logging,
)

__all__ = [
    "MODULES_VARIABLE",
    "EnqueuedJob",
    "NaqApp",
    "SyncClient",
    "app",
    "enqueue",
    "enqueue_sync",
    "get_job_status",
    "get_job_status_sync",
    "naq_app",
    "setup_logging",
]
