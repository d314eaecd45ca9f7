"""
The keeper: a small process that starts the server and stops it when the last user has left.

It waits for the exclusive lock that every user's shared lock withholds. The operating system frees a dead process's
locks, so the server goes also when its users were killed. It has a session of its own, out of reach of the terminal's
Ctrl-C.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from procrastinate_deps._embedded.cluster import Cluster
from procrastinate_deps._embedded.locks import FileLock
from procrastinate_deps.exceptions import EmbeddedServerError

if TYPE_CHECKING:
    from typing import Any

logger = logging.getLogger("procrastinate_deps.embedded")

KEEP_MARKER_POLL_S = 1.0
PROBE_PAUSE_S = 0.001
_STARTED = "started"

# Without the packages of this environment, and with an empty stand-in for the package: the keeper lives as long as the
# server does, in 10 MB instead of 50.
_PROGRAM = """
import sys, types
package = types.ModuleType("procrastinate_deps")
package.__path__ = [sys.argv[1]]
sys.modules["procrastinate_deps"] = package
from procrastinate_deps._embedded.keeper import main
main(sys.argv[2], int(sys.argv[3]))
"""


def join(cluster: Cluster, database: str | None = None) -> FileLock:
    """
    Become a user of the server, which is started if need be; the lock returned makes this process one until `leave`.

    database: is created if it is not there.
    raises EmbeddedServerError, OSError
    """
    users = FileLock(cluster.users_file)
    with FileLock(cluster.mutex_file) as mutex:
        users.acquire(shared=True)
        try:
            if not cluster.is_running() or not _has_keeper(cluster):
                logger.info(
                    "starting the embedded PostgreSQL in %s",
                    cluster.directory,
                    extra={"action": "start_embedded_server", "directory": str(cluster.directory)},
                )
                start_by_keeper(cluster, mutex)
            if database is not None:
                cluster.ensure_database(database)
        except BaseException:
            users.release()
            raise
    return users


def leave(cluster: Cluster, users: FileLock) -> None:
    """Give up a lock that `join` returned; the last one out stops the server."""
    mutex = FileLock(cluster.mutex_file, create=False)
    deciding = False
    try:
        with contextlib.suppress(FileNotFoundError):  # somebody deleted the folder
            # Held by somebody who starts the server or decides as we would: then the keeper sees to it.
            deciding = mutex.acquire(blocking=False)
    finally:
        users.release()
    if deciding:
        try:
            stop_if_unused(cluster)
        finally:
            mutex.unlock()


def _has_keeper(cluster: Cluster) -> bool:
    probe = FileLock(cluster.keeper_file)
    if probe.acquire(blocking=False):
        probe.unlock()
        return False
    return True


def start_by_keeper(cluster: Cluster, mutex: FileLock) -> None:
    """
    Have the server started by a keeper of its own. The caller holds the mutex and a shared lock on the users' file.

    raises EmbeddedServerError: with the end of the server's log.
    """
    if not sys.executable:
        raise EmbeddedServerError("sys.executable is empty: no interpreter to watch the embedded PostgreSQL with")
    options: dict[str, Any] = {}
    if sys.platform == "win32":
        options["creationflags"] = 0x00000208  # DETACHED_PROCESS | CREATE_NEW_PROCESS_GROUP
        descriptor = -1
    else:
        # The keeper shares the mutex: should this process die now, nobody else starts a second server meanwhile.
        options |= {"start_new_session": True, "pass_fds": [mutex.descriptor]}
        descriptor = mutex.descriptor
    package = Path(__file__).parent.parent
    command = [sys.executable, "-I", "-S", "-c", _PROGRAM, str(package), cluster.to_json(), str(descriptor)]
    keeper = subprocess.Popen(
        command,
        cwd=cluster.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        **options,
    )
    if keeper.stdout is None:
        raise EmbeddedServerError("the keeper of the embedded PostgreSQL has no output")
    with keeper.stdout as output:
        report = output.read().strip()
    if report != _STARTED:
        keeper.wait()
        raise EmbeddedServerError(report or f"the keeper of the embedded PostgreSQL ended with {keeper.returncode}")
    if sys.platform == "win32":
        keeper.returncode = 0  # it lives on, and that is meant
    else:
        keeper.wait()  # its first half, which has left the second to itself


def main(cluster_json: str, mutex_descriptor: int) -> None:
    cluster = Cluster.from_json(cluster_json)
    guard = FileLock(cluster.keeper_file)
    try:
        cluster.start()
        watching = guard.acquire(blocking=False)
    except (EmbeddedServerError, OSError) as error:
        sys.stdout.write(str(error))
        raise SystemExit(1) from None
    if mutex_descriptor >= 0:
        os.close(mutex_descriptor)
    sys.stdout.write(_STARTED)
    sys.stdout.flush()
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    if not watching:
        return  # the keeper of a server that had crashed is still there
    if sys.platform != "win32" and os.fork():
        os._exit(0)  # the user waits for this half; the other one is nobody's child
    with contextlib.suppress(FileNotFoundError):  # the folder is gone, and the server with it
        watch(cluster, guard)


def watch(cluster: Cluster, guard: FileLock) -> None:
    """Return when the server has been stopped, by this process or another."""
    # Not created: who deletes the folder after the last use must not find these in it again.
    users = FileLock(cluster.users_file, create=False)
    while True:
        users.acquire()
        users.release()  # newcomers take their lock with the mutex in hand, and so must the decision be made
        with FileLock(cluster.mutex_file, create=False):
            if stop_if_unused(cluster) or cluster.server_pid() is None:
                guard.release()
                return
        if cluster.keep_marker.exists():
            time.sleep(KEEP_MARKER_POLL_S)


def stop_if_unused(cluster: Cluster) -> bool:
    """Stop the server if no process uses it and it isn't to be kept. The caller holds the mutex, and no users' lock."""
    if cluster.keep_marker.exists():
        return False
    users = FileLock(cluster.users_file, create=False)
    if not _acquire_alone(users):
        return False
    try:
        cluster.stop()
        if cluster.temporary:
            cluster.remove()
    finally:
        users.release()
    return True


def _acquire_alone(users: FileLock) -> bool:
    """Take the users' lock exclusively; False when there are users. The caller holds the mutex: nobody joins now."""
    seen_users = False
    while not users.acquire(blocking=False):
        if not users.acquire(shared=True, blocking=False):
            time.sleep(PROBE_PAUSE_S)  # the keeper holds it, for a moment, and then waits for the mutex
            continue
        users.release()
        if seen_users:
            return False
        seen_users = True  # or it was the keeper, who let go between the two attempts: once, not twice
    return True
