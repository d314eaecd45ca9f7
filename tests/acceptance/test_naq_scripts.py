"""Scripts that enqueue functions, and their workers: each a process of its own, as their users start them."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.integration.cli_process import DEADLINE_S, Cli, environment

if TYPE_CHECKING:
    from pathlib import Path

PIPELINE = """
from procrastinate_deps.contrib.naq import SyncClient, setup_logging

class SourceError(Exception):
    pass

def extract(source):
    print(f"extract {source}", flush=True)
    raise SourceError(source)

def clean_up(after):
    print(f"clean up after {after}", flush=True)

def main():
    setup_logging(level="warning")
    with SyncClient() as client:
        extraction = client.enqueue(extract, "api", max_retries=1, retry_on=SourceError, queue_name="workflow_queue")
        client.enqueue(clean_up, extraction.job_id, depends_on=[extraction], run_after_failure=True)
"""
GUARDED = f'{PIPELINE}\nif __name__ == "__main__":\n    main()\n'


@pytest.fixture
def cli(dsn: str, tmp_path: Path) -> Cli:
    app = "procrastinate_deps.contrib.naq.app"
    return Cli(tmp_path, environment(PROCRASTINATE_DEPS_DSN=dsn, PROCRASTINATE_DEPS_APP=app))


def python(cli: Cli, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cli.folder,
        env=cli.env,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


@pytest.mark.parametrize("start", [("pipeline.py",), ("-m", "pipeline"), ("-m", "package.pipeline"), ("-m", "package")])
def test_a_script_enqueues_its_own_functions(cli: Cli, start: tuple[str, ...]) -> None:
    module = "pipeline" if start[-1] == "pipeline.py" else start[-1]
    package = cli.folder / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(GUARDED)
    for folder in (cli.folder, package):
        (folder / "pipeline.py").write_text(GUARDED)
    listed = "package.__main__" if module == "package" else module
    done = python(cli, *start)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    worker = cli.run(
        "worker", "default", "workflow_queue", "--log-level", "INFO", PROCRASTINATE_DEPS_WORKER_ONE_SHOT="1",
        PROCRASTINATE_DEPS_NAQ_MODULES=f" {listed} ,",
    )  # fmt: skip
    assert worker.out.splitlines() == ["extract api"] * 2 + ["clean up after 1"], worker
    assert [job["task_name"] for job in cli.json("list-jobs")] == [f"{listed}.extract", f"{listed}.clean_up"]


def test_what_no_worker_can_import_is_refused(cli: Cli) -> None:
    (cli.folder / "not-a-name.py").write_text(GUARDED)
    for command, where in (
        (("not-a-name.py",), "not-a-name.py"),
        (("-c", GUARDED), "interpreter"),
        (("-",), "<stdin>"),
    ):
        done = python(cli, *command, stdin=GUARDED)
        assert done.returncode == 1
        last = done.stderr.splitlines()[-1]
        assert "FunctionPathError: extract is defined in " in last
        assert "which no worker can import: move it to a module" in last
        assert where in last or where == "<stdin>"


def test_a_module_that_enqueues_when_imported_stops_its_worker(cli: Cli) -> None:
    (cli.folder / "pipeline.py").write_text(f"{PIPELINE}\nmain()\n")
    worker = cli.run("worker", "--one-shot", PROCRASTINATE_DEPS_NAQ_MODULES="pipeline")
    assert worker.status == 1
    assert "module pipeline enqueues jobs when it is imported" in worker.err.splitlines()[-1]
    assert cli.json("list-jobs") == []


def test_a_listed_module_that_is_missing_stops_its_worker(cli: Cli) -> None:
    worker = cli.run("worker", "--one-shot", PROCRASTINATE_DEPS_NAQ_MODULES="nowhere")
    assert worker.status == 1
    assert worker.err.splitlines()[-1] == (
        "Error: PROCRASTINATE_DEPS_NAQ_MODULES or naq_app(modules=[...]): module 'nowhere' can't be imported: "
        "No module named 'nowhere'"
    )


def test_an_app_of_ones_own_lists_its_modules(cli: Cli) -> None:
    (cli.folder / "pipeline.py").write_text(GUARDED)
    (cli.folder / "jobs.py").write_text(
        "from procrastinate_deps.contrib.naq import naq_app\n"
        "app = naq_app(modules=['pipeline'], worker_defaults={'concurrency': 3})\n"
    )
    assert python(cli, "pipeline.py").returncode == 0
    worker = cli.run("--app", "jobs.app", "worker", "--one-shot")
    assert "clean up after 1" in worker.out, worker
