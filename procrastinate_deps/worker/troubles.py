"""As the worker's loops know it; see `procrastinate_deps.troubles`."""

from procrastinate_deps.troubles import READ_ONLY, Backoff, passes_by_itself

__all__ = ["READ_ONLY", "Backoff", "passes_by_itself"]
