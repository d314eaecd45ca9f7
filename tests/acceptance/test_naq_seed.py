"""The first users' page about NAQ's job dependencies, word for word: its code with only the import changed.

That page is not part of this repository. Where it is absent these tests say so and check nothing; test_naq.py covers
every pattern of it.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.cli_process import DEADLINE_S, REPO, Cli, environment

if TYPE_CHECKING:
    from pathlib import Path

SEED = REPO.parent / "shared" / "seeds" / "naq-job-dependencies.md"
OURS = "from procrastinate_deps.contrib.naq import"

# What each block's variables are, besides the functions: those that it expects to be there.
BEFORE = {
    "Dependency Failures": "prepare_data = enqueue_sync(prepare_data)",
    "Dependency Status": "job_id = enqueue_sync(prepare_data, depends_on=[enqueue_sync(prepare_dataset)]).job_id",
}
AFTER = {"Dynamic Workflows": "final_job = create_dynamic_workflow(250)"}

# These fail in the second run.
FAILING = [
    "process_data",
    "fetch_order_data",
    "train_model_a",
    "risky_operation",
    "transform_data",
    "evaluate_model",
    "fetch_finance_data",
    "prepare_data",
    "fetch_source_a",
    "fetch_source_b",
    "validate_input_data",
]
SUCCEEDED, FAILED, CANCELLED = "succeeded", "failed", "cancelled"
# By heading and variable, in the order of the page. All others succeed, and so does everything in the first run.
SECOND_RUN: dict[str, dict[str, str]] = {
    "Sequential Dependencies": {"job_a": FAILED, "job_b": CANCELLED},
    "Parallel with Convergence": {"job_b": FAILED, "job_d": CANCELLED},
    "Fan-out Pattern": {"job_b": FAILED, "job_d": CANCELLED},
    "Success Dependencies": {"job_a": FAILED, "job_b": CANCELLED},
    "Always-Run Dependencies": {"job_a": FAILED},
    "Data Pipeline": {"transform_job": FAILED, "load_job": CANCELLED, "validate_job": CANCELLED},
    "Machine Learning Pipeline": {"evaluate": FAILED, "deploy": CANCELLED},
    "Report Generation": {"finance_data": FAILED, "generate_report": CANCELLED},
    "Dependency Status": {},
    "Dependency Failures": {"prepare_data": FAILED, "process_job": CANCELLED},
    "Partial Failures": {"source_a": FAILED, "source_b": FAILED},
    "Conditional Dependencies": {"validation_job": FAILED, "success_job": CANCELLED},
    "Dynamic Workflows": {},
}

TASKS = """
import os

def _made(name):
    def function(**arguments):
        if name in os.environ.get("FAILING", "").split(","):
            raise RuntimeError(f"{name} fails")
        return arguments
    function.__qualname__ = function.__name__ = name
    return function

for _name in %r:
    globals()[_name] = _made(_name)
"""

# Runs each block in a namespace of its own, with the page's functions in it, and says which variable is which job.
RUN_BLOCKS = """
import json, sys
import tasks
from procrastinate_deps.contrib.naq import enqueue_sync
from procrastinate_deps.contrib.naq.client import EnqueuedJob

jobs = {}
for heading, code in json.load(sys.stdin):
    names = {name: value for name, value in vars(tasks).items() if not name.startswith("_")}
    names["enqueue_sync"] = enqueue_sync
    exec(compile(code, heading, "exec"), names)
    jobs[heading] = {name: value.job_id for name, value in names.items() if isinstance(value, EnqueuedJob)}
json.dump(jobs, sys.stderr)
"""


def sections(language: str) -> list[tuple[str, str]]:
    """The page's code blocks in a language, each with the heading above it."""
    found: list[tuple[str, str]] = []
    heading = ""
    for part in re.finditer(r"^#+ (.*?)$|^```(\w*)\n(.*?)^```$", SEED.read_text("utf-8"), re.DOTALL | re.MULTILINE):
        if part[1] is not None:
            heading = part[1].strip()
        elif part[2] == language:
            found.append((heading, part[3]))
    return found


def there_is_a_page(capsys: pytest.CaptureFixture[str]) -> bool:
    if SEED.exists():
        return True
    with capsys.disabled():
        print(f"\nNOT CHECKED: the code of {SEED.name}, which is not in ../shared/seeds", file=sys.stderr, flush=True)
    return False


@pytest.fixture
def cli(dsn: str, tmp_path: Path) -> Cli:
    more = {
        "PROCRASTINATE_DEPS_DSN": dsn,
        "PROCRASTINATE_DEPS_APP": "procrastinate_deps.contrib.naq.app",
        "PROCRASTINATE_DEPS_NAQ_MODULES": "tasks",
    }
    return Cli(tmp_path, environment(**more))


def python(cli: Cli, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cli.folder,
        env=cli.env,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done
    return done


def run_blocks(cli: Cli) -> tuple[dict[str, dict[str, int]], str]:
    """Enqueue all of the page; the job of each variable of each block, and what was printed."""
    blocks: list[tuple[str, str]] = []
    for heading, code in sections("python"):
        changed = re.sub(r"^from naq import", OURS, code, flags=re.MULTILINE)
        blocks.append((heading, "\n".join([BEFORE.get(heading, ""), changed, AFTER.get(heading, "")])))
    functions = set(re.findall(r"enqueue_sync\(\s*(\w+)", "\n".join(code for _, code in blocks)))
    (cli.folder / "tasks.py").write_text(TASKS % sorted(functions))
    (cli.folder / "enqueue_all.py").write_text(RUN_BLOCKS)
    done = python(cli, "enqueue_all.py", stdin=json.dumps(blocks))
    jobs: dict[str, dict[str, int]] = json.loads(done.stderr)
    return jobs, done.stdout


@pytest.mark.parametrize(("failing", "ends"), [([], {}), (FAILING, SECOND_RUN)], ids=["all well", "with failures"])
def test_each_block_of_the_page(
    cli: Cli, capsys: pytest.CaptureFixture[str], failing: list[str], ends: dict[str, dict[str, str]]
) -> None:
    if not there_is_a_page(capsys):
        return
    jobs, printed = run_blocks(cli)
    # a block that came to the page since is to be thought about
    assert list(jobs) == list(SECOND_RUN)
    assert printed.splitlines() == ["Job Status: blocked", f"Dependencies: {{{_status_parent(jobs, cli)}: 'todo'}}"]
    cli("worker", "--one-shot", "--concurrency", 10, "--log-level", "critical", FAILING=",".join(failing))
    found = {job["id"]: job["status"] for job in cli.json("list-jobs")}
    assert set(found.values()) <= {SUCCEEDED, FAILED, CANCELLED}
    for heading, variables in jobs.items():
        assert variables or heading == "Dependency Status", heading
        for name, job_id in variables.items():
            assert (heading, name, found[job_id]) == (heading, name, ends.get(heading, {}).get(name, SUCCEEDED))


def _status_parent(jobs: dict[str, dict[str, int]], cli: Cli) -> int:
    """The job that the block about the status waits for: it was enqueued between those before and after it."""
    before = max(jobs["Report Generation"].values())
    job: dict[str, Any] = cli.json("job-status", before + 1)
    assert job["task_name"] == "tasks.prepare_dataset"
    return before + 1


def test_each_command_of_the_page(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    if not there_is_a_page(capsys):
        return
    (cli.folder / "tasks.py").write_text(TASKS % ["prepare_data"])
    enqueueing = "from tasks import prepare_data; from procrastinate_deps.contrib.naq import enqueue_sync; "
    python(cli, "-c", f"{enqueueing} enqueue_sync(prepare_data, queue_name='workflow_queue')")
    commands = re.findall(r"^naq (.*)$", "\n".join(code for _, code in sections("bash")), re.MULTILINE)
    assert len(commands) >= 5
    for command in commands:
        words = shlex.split(command.replace("<job_id>", "1"))
        match words[0]:
            case "worker":
                assert "workflow_queue" in cli.run(*words, PROCRASTINATE_DEPS_WORKER_ONE_SHOT="1").err
            case "dashboard":
                assert "8000" in cli(*words, "--help")
            case "list-jobs":
                assert "tasks.prepare_data" in cli(*words)
            case "job-status":
                assert "job 1: succeeded" in cli(*words)
            case _:
                assert cli.run(*words).status == 0
