"""What the database reports, as this package's exceptions. The only place that knows SQLSTATEs."""

from __future__ import annotations

import json
import logging
import random
import re
from collections.abc import Callable, Mapping
from typing import Any

from procrastinate_deps import exceptions
from procrastinate_deps.exceptions import ConnectorException, ProcrastinateException

logger = logging.getLogger(__name__)

MAX_RETRIES = 5
"""How often one of our own statements is sent again after a deadlock or a serialisation failure."""

RETRY_WAIT_S = 0.02
"""The first wait before that, at most; each later one may be twice as long."""

OLDEST_SERVER = 15
"""PostgreSQL's oldest major version that is supported."""

RETRYABLE = frozenset({"40001", "40P01"})

_Details = Mapping[str, Any]
_OURS: dict[str, Callable[[str, _Details], ProcrastinateException]] = {
    "PD001": lambda text, detail: exceptions.DependencyNotFound(text, ids=detail.get("ids", ())),
    "PD002": lambda text, detail: exceptions.JobAlreadyStarted(text),
    "PD003": lambda text, detail: exceptions.CircularDependency(text, cycle=detail.get("cycle", ())),
    "PD004": lambda text, detail: exceptions.DependencyNotMet(
        text,
        job_id=detail.get("job_id"),
        parents={int(id_): status for id_, status in detail.get("parents", {}).items()},
    ),
    "PD005": lambda text, detail: exceptions.TransitionRefused(text),
    "PD006": lambda text, detail: exceptions.IsolationLevelError(text, sqlstate="PD006"),
    "PD007": lambda text, detail: exceptions.JobNotFound(text, job_id=detail.get("job_id")),
    "PD008": lambda text, detail: exceptions.WorkerNotRegistered(text),
    "PD009": lambda text, detail: exceptions.WorkflowNotFound(text, workflow_id=detail.get("workflow_id")),
    "PD010": lambda text, detail: exceptions.WorkflowAlreadyRunning(
        text, workflow_id=detail.get("workflow_id"), workflow_name=detail.get("name")
    ),
    "PD011": lambda text, detail: exceptions.WorkflowCancelled(text, workflow_id=detail.get("workflow_id")),
}

# What a server says of a prepared statement that another session has, or that this one has not; 08P01 is vaguer.
_NOT_PREPARED = frozenset({"26000", "42P05"})
_OTHERS_STATEMENT = re.compile(r"bind message supplies \d+ parameters")
_NOT_PREPARED_HINT = (
    "A pooler that gives each transaction another session (PgBouncer in transaction mode) mixes prepared statements "
    "up: pass prepare_statements=False to the connector"
)
_STARTUP_PARAMETER = "unsupported startup parameter"
_STARTUP_PARAMETER_HINT = (
    "PgBouncer takes no settings from a client that connects: leave it out of the connection string, of PGOPTIONS and "
    "of server_settings, or name it in PgBouncer's ignore_startup_parameters"
)

TIMED_OUT = "57014"
"""The SQLSTATE of a statement that its timeout has ended."""

_NO_SCHEMA = frozenset({"3F000", "42P01", "42883", "42704"})  # undefined schema, table, function, type
_NODE = re.compile(r"\(workflow_id, node\)=\((\d+), (.*)\)", re.DOTALL)
_QUEUEING_LOCK = re.compile(r"\(queueing_lock\)=\((.*)\)", re.DOTALL)


def translate(
    *,
    sqlstate: str | None,
    message: str,
    detail: str | None = None,
    hint: str | None = None,
    constraint: str | None = None,
) -> ProcrastinateException:
    """The exception that stands for a driver's error with these fields."""
    if sqlstate in _OURS:
        return _OURS[sqlstate](f"{message}. {hint}" if hint else message, _json_detail(detail))
    if sqlstate == "23505":
        if constraint == "jobs_queueing_lock":
            key = _QUEUEING_LOCK.search(detail or "")
            return exceptions.AlreadyEnqueued(queueing_lock=key[1]) if key else exceptions.AlreadyEnqueued(message)
        if constraint == "jobs_node":
            node = _NODE.search(detail or "")
            if node is None:
                return exceptions.DuplicateNode(message)
            return exceptions.DuplicateNode(f"workflow {node[1]} has a node {node[2]!r} already", node=node[2])
        return exceptions.UniqueViolation(message, constraint_name=constraint)
    text = f"{message} ({sqlstate})" if sqlstate else message
    if sqlstate in _NO_SCHEMA:
        return exceptions.SchemaNotReady(
            f"the schema is missing, or not the one of this version: {text}. Run: {exceptions.MIGRATE_COMMAND}",
            sqlstate=sqlstate,
        )
    if sqlstate == "55P03":
        return exceptions.LockNotAvailable(text, sqlstate=sqlstate)
    if sqlstate in _NOT_PREPARED or (sqlstate == "08P01" and _OTHERS_STATEMENT.match(message)):
        return ConnectorException(f"{text}. {_NOT_PREPARED_HINT}", sqlstate=sqlstate)
    if _STARTUP_PARAMETER in message:
        return ConnectorException(f"{text}. {_STARTUP_PARAMETER_HINT}", sqlstate=sqlstate)
    return ConnectorException(text, sqlstate=sqlstate)


def check_server_version(major: int) -> None:
    """Refuse a server that this was never tested on, before it fails somewhere inside."""
    if major < OLDEST_SERVER:
        raise ConnectorException(f"the server is PostgreSQL {major}; this needs PostgreSQL {OLDEST_SERVER} or newer")


def log_unprepared() -> None:
    logger.info(
        "There is a pooler between here and PostgreSQL: statements are not prepared. Pass prepare_statements=True if "
        "it keeps sessions (PgBouncer in session mode) or prepared statements (1.21 and later)",
        extra={"action": "statements_not_prepared"},
    )


def retry_wait_s(attempt: int) -> float:
    """How long to wait before the retry number `attempt`, from 0; random, so that two that met don't meet again."""
    return random.uniform(0.1, 1) * RETRY_WAIT_S * float(2**attempt)


def _json_detail(detail: str | None) -> _Details:
    try:
        found = json.loads(detail or "{}")
    except ValueError:  # a person's text, not ours
        return {}
    return found if isinstance(found, dict) else {}
