"""An advisory lock on a file, shared or exclusive, that the operating system frees when its holder dies."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from procrastinate_deps.exceptions import EmbeddedServerError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

if sys.platform == "win32":
    import ctypes
    import msvcrt
    from ctypes import wintypes

    _LOCK_FAIL_IMMEDIATELY = 1
    _LOCK_EXCLUSIVE = 2
    _ERROR_LOCK_VIOLATION = 33

    class _Overlapped(ctypes.Structure):
        _fields_ = (
            ("internal", ctypes.c_void_p),
            ("internal_high", ctypes.c_void_p),
            ("offset", wintypes.DWORD),
            ("offset_high", wintypes.DWORD),
            ("event", wintypes.HANDLE),
        )

    _kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)

    def _lock(descriptor: int, *, shared: bool, blocking: bool) -> bool:
        flags = (0 if shared else _LOCK_EXCLUSIVE) | (0 if blocking else _LOCK_FAIL_IMMEDIATELY)
        handle = wintypes.HANDLE(msvcrt.get_osfhandle(descriptor))
        if _kernel32.LockFileEx(handle, flags, 0, 1, 0, ctypes.byref(_Overlapped())):
            return True
        code = ctypes.get_last_error()
        if code == _ERROR_LOCK_VIOLATION:
            return False
        raise ctypes.WinError(code)

    def _unlock(descriptor: int) -> None:
        handle = wintypes.HANDLE(msvcrt.get_osfhandle(descriptor))
        _kernel32.UnlockFileEx(handle, 0, 1, 0, ctypes.byref(_Overlapped()))

else:
    import fcntl

    def _lock(descriptor: int, *, shared: bool, blocking: bool) -> bool:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if blocking else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


class FileLock:
    """
    One hold on one file. Two objects in one process exclude each other as two processes do (flock, not POSIX locks).

    A forked child inherits the hold, and `release` gives up only this process's share of it: a child that still lives
    still counts. `unlock` ends the hold for every process that shares it.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.path = path
        self._flags = os.O_RDWR | (os.O_CREAT if create else 0)
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int:
        if self._descriptor is None:
            raise EmbeddedServerError(f"the lock on {self.path} is not held")
        return self._descriptor

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    def acquire(self, *, shared: bool = False, blocking: bool = True) -> bool:
        if self._descriptor is not None:
            raise EmbeddedServerError(f"the lock on {self.path} is held already by this object")
        # Not inheritable by programs that this process starts (PEP 446), the server among them.
        try:
            descriptor = os.open(self.path, self._flags, 0o600)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise EmbeddedServerError(f"can't open the lock file {self.path}: {error.strerror}") from error
        try:
            locked = _lock(descriptor, shared=shared, blocking=blocking)
        except BaseException:
            os.close(descriptor)
            raise
        if locked:
            self._descriptor = descriptor
        else:
            os.close(descriptor)
        return locked

    def release(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def unlock(self) -> None:
        if self._descriptor is not None:
            _unlock(self._descriptor)
        self.release()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.unlock()
        else:
            # Interrupted half-way: a process that shares this hold (it is starting the server) keeps it until done.
            self.release()
