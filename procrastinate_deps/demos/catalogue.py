"""The demos by name: each is a module of this package with a coroutine function `demo`."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

PACKAGE = __name__.rpartition(".")[0]

GROUPS: dict[str, tuple[str, ...]] = {
    "first": ("demo_workflow",),
    "basic": ("sequential", "convergence", "cleanup", "fan_out"),
    "complex": ("etl", "ml", "conditional"),
    "failures": ("propagation", "recovery", "partial", "circuit_breaker"),
    "growth": ("map_list", "recursion"),
    "surgery": ("deleted_parent", "cycle"),
    "large": ("wide",),
}

NAMES = tuple(name for names in GROUPS.values() for name in names)


@dataclass(frozen=True, slots=True)
class Demo:
    """A demo, loaded: what it shows, and how it is run."""

    name: str
    text: str
    run: Callable[..., Awaitable[None]]
    options: Sequence[click.Parameter]

    @property
    def summary(self) -> str:
        """What it shows, in one line."""
        return self.text.partition("\n")[0].rstrip(".")


def module_name(name: str) -> str:
    return f"{PACKAGE}.{name}"


def load(name: str) -> Demo:
    # by its own name, also where Python was started with it: its tasks are then named as every worker knows them
    module = importlib.import_module(module_name(name))
    return Demo(name, (module.__doc__ or "").strip(), module.demo, getattr(module, "OPTIONS", ()))
