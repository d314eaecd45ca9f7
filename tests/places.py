"""Where the tests' servers live."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")
MEMORY_MIN_BYTES = 4 * 2**30


def server_folder(prefix: str) -> Path:
    """
    A new folder with a path short enough for a socket (107 bytes), which every account may enter.

    In memory where there is room: on a busy disk an initdb takes 8 s instead of 1.
    """
    parent = Path("/tmp")
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MEMORY_MIN_BYTES:
        parent = MEMORY
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    folder.chmod(0o755)
    return folder
