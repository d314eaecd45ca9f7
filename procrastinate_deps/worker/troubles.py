"""As the worker's loops know it; see `procrastinate_deps.troubles`."""

from procrastinate_deps.troubles import READ_ONLY, Backoff, passes_by_itself

__all__ = ["FAREWELL_S", "READ_ONLY", "Backoff", "passes_by_itself"]

# What each of the last words of a worker that stops may take: to record the jobs that it put back, its numbers, and to
# leave. A statement that is cut off costs its connection, with a warning of psycopg's, so a busy machine must not be
# taken for a database that has vanished.
FAREWELL_S = 3.0
