"""Jobs that no database has."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from procrastinate_deps.dependencies import RunWhen
from procrastinate_deps.jobs import Job, Status


def made_up_job(**fields: Any) -> Job:
    defaults: dict[str, Any] = dict.fromkeys(Job.__dataclass_fields__)
    defaults.update(
        id=1, status=Status.TODO, queue="default", priority=0, task_name="task", task_kwargs={}, attempts=0,
        abort_requested=False, run_when=RunWhen.ALL_FINISHED, created_at=datetime(2026, 1, 1, tzinfo=UTC), rescues=0,
        claim=0, ignores_dependencies=False,
    )  # fmt: skip
    return Job(**{**defaults, **fields})
