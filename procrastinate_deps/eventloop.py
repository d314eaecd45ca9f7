"""Which event loop runs: uvloop where the extra `[uvloop]` is installed, else asyncio's own."""

from __future__ import annotations

import asyncio
from typing import Any

from procrastinate_deps.exceptions import ProcrastinateException


def backend_options(uvloop: bool | None = None) -> dict[str, Any]:
    """What to give `anyio.run`.

    Parameters
    ----------
    uvloop:
        Whether to run on uvloop. Default: where it is installed.

    Raises
    ------
    ProcrastinateException:
        uvloop was asked for and can't be imported.
    """
    if uvloop is False:
        return {}
    try:
        # As anyio will: one that is installed but broken is none.
        import uvloop as _  # noqa: F401 - only tried
    except ImportError as error:
        if uvloop:
            raise ProcrastinateException(
                f"uvloop was asked for and can't be imported ({error}); "
                "install procrastinate-deps[uvloop], or leave the choice out"
            ) from error
        return {}
    return {"use_uvloop": True}


def running() -> str:
    """The name of the loop that runs this: "uvloop" or "asyncio"."""
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]
