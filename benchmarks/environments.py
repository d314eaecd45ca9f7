"""A virtual environment for each peer, on one Python for all, with pinned packages."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import Peer

REPOSITORY = Path(__file__).parent.parent
# The first of these is one that every peer runs on.
PREFERRED = ("3.12", "3.13", "3.14")
_MARKER = "installed"
_DRIVERS = ("asyncpg", "psycopg", "uvloop")


class NotInstalledError(Exception):
    """A peer can't be measured here; the message says why."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    path: str
    version: str

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.version.split(".")[:2])


def interpreter(path: str | None = None) -> Interpreter:
    """The Python that every peer gets: this path, or one that all of them run on, or else the one that runs this."""
    if path is not None:
        found = _asked(path)
        if found is None:
            raise NotInstalledError(f"{path} is no Python with the modules venv and ensurepip")
        return found
    for wanted in PREFERRED:
        for candidate in _candidates(wanted):
            found = _asked(candidate)
            if found is not None and found.version.startswith(f"{wanted}."):
                return found
    return Interpreter(sys.executable, sys.version.split()[0])


def _candidates(version: str) -> Iterator[str]:
    if on_path := shutil.which(f"python{version}"):
        yield on_path
    # where version managers keep those that are not on the path
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    uv = Path.home() / ".local" / "share" / "uv" / "python"
    for pattern in (pyenv.glob(f"versions/{version}*/bin/python3"), uv.glob(f"cpython-{version}*/bin/python3")):
        yield from map(str, sorted(pattern))


def _asked(path: str) -> Interpreter | None:
    question = "import ensurepip, venv, sys; print(sys.executable, sys.version.split()[0], sep='\\n')"
    try:
        done = subprocess.run([path, "-c", question], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return Interpreter(*done.stdout.splitlines()) if done.returncode == 0 else None


def ready(peer: Peer, home: Path, chosen: Interpreter) -> Path:
    """
    The interpreter of the peer's environment, which is made, or made anew when its requirements have changed.

    raises NotInstalledError
    """
    if chosen.numbers < peer.least_python:
        needed = ".".join(map(str, peer.least_python))
        raise NotInstalledError(
            f"{peer.name} needs Python {needed}, and {chosen.version} is all there is: see --python"
        )
    folder = home / "environments" / peer.environment
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    wanted = _fingerprint(peer, chosen)
    marker = folder / _MARKER
    if marker.exists() and marker.read_text() == wanted:
        return python
    print(f"installing {peer.environment} (Python {chosen.version})", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    packages = ["-r", str(peer.requirements)]
    if peer.ours:
        packages += ["-e", str(REPOSITORY)]
    for command in (
        [chosen.path, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", "-q", "install", *packages],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            tail = " ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
            raise NotInstalledError(f"{peer.name} can't be installed: {tail}")
    marker.write_text(wanted)
    return python


def _fingerprint(peer: Peer, chosen: Interpreter) -> str:
    text = peer.requirements.read_text() + chosen.path + chosen.version
    if peer.ours:
        text += (REPOSITORY / "pyproject.toml").read_text()
    return hashlib.sha256(text.encode()).hexdigest()


def versions(peer: Peer, python: Path) -> dict[str, str]:
    """Of the peer, and of the drivers in its environment."""
    question = (
        "import json, sys\n"
        "from importlib import metadata\n"
        "installed = {each.name.lower(): each.version for each in metadata.distributions()}\n"
        "print(json.dumps({name: installed[name] for name in sys.argv[1:] if name in installed}))"
    )
    names = [peer.distribution, *_DRIVERS]
    done = subprocess.run(
        [str(python), "-c", question, *names], capture_output=True, text=True, check=True, cwd=python.parent
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found
