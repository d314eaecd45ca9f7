"""The log on stderr, as text or as one JSON object per line."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
from datetime import UTC, datetime
from typing import IO, Any

if sys.platform != "win32":
    import fcntl

TEXT_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
TEXT_OF_WORKER = "%(asctime)s %(levelname)-7s [{worker}] %(name)s: %(message)s"

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """A record's time, level, logger, message and exception, and whatever `extra` gave it.

    worker_name: of the process that writes the log, where it is one of several.
    """

    def __init__(self, worker_name: str | None = None) -> None:
        super().__init__()
        self._always = {} if worker_name is None else {"worker_name": worker_name}

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        given = {name: value for name, value in vars(record).items() if name not in _STANDARD and name not in fields}
        fields |= self._always | given
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        try:
            return json.dumps(fields, default=str)
        except (TypeError, ValueError):  # keys that are no text, or something that holds itself
            return json.dumps(
                {name: value if isinstance(value, str) else repr(value) for name, value in fields.items()}
            )


class _Stderr(logging.StreamHandler[Any]):
    """Writes to what sys.stderr is at that moment: a live view on the terminal puts itself in its place."""

    def __init__(self) -> None:
        super().__init__()
        self.whole: contextlib.AbstractContextManager[object] = contextlib.nullcontext()

    @property
    def stream(self) -> IO[str]:
        return sys.stderr

    @stream.setter
    def stream(self, value: object) -> None:
        """The base class sets it once, to sys.stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record) + self.terminator
            with self.whole:
                self.stream.write(text)
                self.flush()
        except Exception:  # noqa: BLE001 - as the base class: logging says what failed, and goes on
            self.handleError(record)


class _FileLock:
    """Held while a record is written: a pipe takes only 4 KiB in one piece, a traceback may be longer.

    One who is stopped in the middle must not stop the others, so that it is not waited for long.
    """

    PATIENCE_S = 1.0
    PAUSE_S = 0.0005

    def __init__(self, file: int) -> None:
        self._file = file

    def __enter__(self) -> None:
        deadline = time.monotonic() + self.PATIENCE_S
        while True:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() < deadline:
                    time.sleep(self.PAUSE_S)
                    continue
            return

    def __exit__(self, *exception: object) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN)


def configure(level: str, log_format: str, *, text_format: str = TEXT_FORMAT) -> None:
    """Send the log to stderr. What an app that is imported later does with its loggers stands."""
    handler = _Stderr()
    handler.setFormatter(JsonFormatter() if log_format == "json" else logging.Formatter(text_format))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def speak_for(worker_name: str, lock_file: int) -> None:
    """Say in each record which worker it is from, and leave no other worker's record in the middle of one.

    lock_file: descriptor of a file that the processes share which write to the same stderr.
    """
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Stderr):
            handler.whole = _FileLock(lock_file)
            if isinstance(handler.formatter, JsonFormatter):
                handler.setFormatter(JsonFormatter(worker_name))
            else:
                handler.setFormatter(
                    logging.Formatter(TEXT_OF_WORKER.replace("{worker}", worker_name.replace("%", "%%")))
                )
