"""Says how many jobs could end while a statement is under way."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from procrastinate_deps.worker.runner import Runner


class Pace:
    """How fast jobs ended, as long as there were any to run, from one statement to the next, and how long those took.

    Of the last two the slower pace and the shorter statement: neither long jobs that end at once nor one late answer
    make it fetch more.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._ended = 0
        self._busy_s = 0.0
        self._per_s = 0.0
        self._per_s_before = 0.0
        self._statement_s = 0.0
        self._statement_s_before = 0.0

    @property
    def per_statement(self) -> int:
        """How many jobs would end while a statement is under way."""
        return int(min(self._per_s, self._per_s_before) * min(self._statement_s, self._statement_s_before))

    @contextmanager
    def statement(self) -> Iterator[None]:
        """While one is under way that fetches jobs."""
        ended, busy_s = self._runner.ended, self._runner.busy_s
        if busy_s > self._busy_s:
            self._per_s_before, self._per_s = self._per_s, (ended - self._ended) / (busy_s - self._busy_s)
            self._ended, self._busy_s = ended, busy_s
        sent_at = time.monotonic()
        yield
        self._statement_s_before, self._statement_s = self._statement_s, time.monotonic() - sent_at

    def reset(self) -> None:
        """What was seen says nothing about what comes."""
        self._per_s = self._per_s_before = 0.0
