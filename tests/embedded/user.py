"""
A program that uses the embedded server as it is told: one verb a line on stdin, one JSON object a line on stdout.

Run as a script by the tests, also as another user of the system; the environment says where the package is.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import types
from pathlib import Path

# Only the embedded server is wanted, without the drivers that the package's own __init__ imports.
package = types.ModuleType("procrastinate_deps")
package.__path__ = [str(Path(folder) / "procrastinate_deps") for folder in sys.path if folder]
sys.modules["procrastinate_deps"] = package

from procrastinate_deps import embedded  # noqa: E402


class ToStdout(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(log=record.getMessage())


def say(**message: object) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def obey(verb: str, server: embedded.EmbeddedServer) -> object:
    match verb:
        case "open":
            return server.open()
        case "close":
            server.close()
            return None
        case "start":
            return embedded.start()
        case "stop":
            return embedded.stop()
        case "stop by force":
            return embedded.stop(force=True)
        case "url":
            return embedded.url()
        case "psql":
            return embedded.psql_command("-c", "SELECT 1")
        case "fork":
            return fork()
    raise ValueError(verb)


def fork() -> int:
    """A child that lives until it is killed, and does nothing."""
    import signal

    child = os.fork()
    if child == 0:
        while True:
            signal.pause()
    return child


def main() -> None:
    logging.basicConfig(level=logging.INFO, handlers=[ToStdout()])
    server = embedded.EmbeddedServer()
    while True:
        try:
            line = sys.stdin.readline()
            if not line:
                return
            try:
                say(result=obey(line.strip(), server))
            except embedded.EmbeddedServerError as error:
                say(error=str(error))
        except KeyboardInterrupt:
            say(log="interrupted")


main()
