"""Which workers live."""

from __future__ import annotations

from typing import TYPE_CHECKING

from procrastinate_deps.statements import STALLED_AFTER_S

if TYPE_CHECKING:
    from procrastinate_deps.jobs import WorkerInfo


def is_live(worker: WorkerInfo) -> bool:
    """Whether the worker gave a sign of life lately."""
    return worker.lost_at is None and worker.heartbeat_age_s < STALLED_AFTER_S
