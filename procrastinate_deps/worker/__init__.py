"""The worker: fetches jobs, runs them, and records how they ended."""

from procrastinate_deps.worker.options import DeleteJobs
from procrastinate_deps.worker.worker import Worker

__all__ = ["DeleteJobs", "Worker"]
