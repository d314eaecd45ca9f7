"""What can go wrong with a request, as its page says it: never a traceback, a connection string or a server's words."""

from __future__ import annotations

from procrastinate_deps.connectors.errors import TIMED_OUT
from procrastinate_deps.exceptions import (
    AppNotOpen,
    ConnectorException,
    JobNotFound,
    ProcrastinateException,
    SchemaNotReady,
    WorkflowNotFound,
)


class Problem(Exception):  # noqa: N818 - it is an answer
    """Ends a request with this status and these words."""

    def __init__(self, status: int, title: str, text: str = "") -> None:
        super().__init__(title)
        self.status = status
        self.title = title
        self.text = text


def problem_of(error: Exception) -> Problem | None:
    """What to say of an error; None: it is nobody's fault but ours, and the log has it."""
    match error:
        case Problem():
            return error
        case JobNotFound():
            return Problem(404, "There is no such job", "It was deleted, or it was never deferred.")
        case WorkflowNotFound():
            return Problem(404, "There is no such workflow", "It was deleted, or it was never deferred.")
        case SchemaNotReady():
            return Problem(
                503, "The database isn't ready", "Its tables are missing, or of another version: run the migrations."
            )
        case ConnectorException() if error.sqlstate == TIMED_OUT:
            return Problem(
                503,
                "That took too long",
                "The database was given a time limit and ended the question. Narrow the filters.",
            )
        case ConnectorException() | AppNotOpen():
            return Problem(503, "The database doesn't answer", "This page tries again by itself.")
        case ProcrastinateException():
            return Problem(409, "That can't be done", str(error))
    return None
