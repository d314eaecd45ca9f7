"""Plain functions, as someone has them who enqueues functions."""

from __future__ import annotations

import time
from os.path import join  # noqa: F401 - an imported function: it is not this module's
from typing import Any

import anyio
import anyio.lowlevel

from procrastinate_deps.contrib.naq import enqueue, enqueue_sync

ran: list[Any] = []


class SourceError(ConnectionError):
    """An error of one's own."""


def step(name: str = "step") -> str:
    ran.append(name)
    return f"{name} is done"


async def async_step(name: str) -> str:
    await anyio.lowlevel.checkpoint()
    return step(name)


def failing(name: str = "failing") -> None:
    ran.append(name)
    raise SourceError(f"{name} can't be reached")


def by_name(a: int, b: int = 2, *, c: int = 3) -> list[Any]:
    return [a, b, c]


def by_position(a: int, /, b: int, *more: int, c: int = 3, **others: Any) -> list[Any]:
    return [a, b, *more, c, others]


def takes_self(self: int, func: str, job_id: int) -> list[Any]:
    return [self, func, job_id]


async def sleeps_for_ever() -> None:
    ran.append("sleeps")
    await anyio.sleep_forever()


def sleeps_a_little() -> None:
    time.sleep(0.05)


def split(count: int) -> int:
    """Enqueues more while it runs, in a thread."""
    parts = [enqueue_sync(step, f"part {number}") for number in range(count)]
    return enqueue_sync(step, "joined", depends_on=parts).job_id


async def split_async(count: int) -> int:
    parts = [await enqueue(step, f"part {number}") for number in range(count)]
    return (await enqueue(step, "joined", depends_on=parts)).job_id


def _private() -> None:
    ran.append("private")
