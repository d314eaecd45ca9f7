"""Notices that the code has changed, by the library watchfiles (the extra `[reload]`)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from procrastinate_deps.exceptions import ProcrastinateException

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

# Changes within so long after one another are one: an editor that saves all, a checkout.
QUIET_MS = 200
# Those who never fall quiet are heard all the same.
LIMIT_MS = 2000


def python_changes(folders: Iterable[Path]) -> Callable[[], AsyncIterator[str]]:
    """A function that watches the .py files in and below these folders, but for those of virtual environments.

    Raises
    ------
    ProcrastinateException:
        watchfiles is not installed.
    """
    try:
        import watchfiles
    except ImportError as error:
        raise ProcrastinateException(
            f"--reload needs the package watchfiles ({error}): install procrastinate-deps[reload]"
        ) from error

    logging.getLogger(watchfiles.__name__).setLevel(logging.WARNING)
    watched = _outermost(folders)

    class Project(watchfiles.PythonFilter):
        ignore_dirs = (*watchfiles.PythonFilter.ignore_dirs, "site-packages")

    async def changes() -> AsyncIterator[str]:
        async for found in watchfiles.awatch(*watched, watch_filter=Project(), debounce=LIMIT_MS, step=QUIET_MS):
            yield ", ".join(sorted({_shown(Path(path), watched) for _, path in found}))

    return changes


def _outermost(folders: Iterable[Path]) -> list[Path]:
    given = {folder.resolve() for folder in folders}
    return sorted(folder for folder in given if not given.intersection(folder.parents))


def _shown(path: Path, folders: Iterable[Path]) -> str:
    for folder in folders:
        if path.is_relative_to(folder):
            return str(path.relative_to(folder))
    return str(path)
