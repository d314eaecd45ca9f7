"""`workflow list|show|watch|graph|cancel|retry|delete`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from procrastinate_deps import App, SyncPsycopgConnector
from tests.integration.cli_process import DEADLINE_S, PROGRAM, SHOP, Cli, environment, terminal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GRAPHS = """
import time


@app.task(name="step", pass_context=True)
def step(context, told="", fail=False):
    if told:
        context.set_progress(1, 4, told)
        time.sleep(1.5)
    if fail:
        raise ValueError("out of [bold]stock[/bold]")
"""


@pytest.fixture
def cli(dsn: str, tmp_path: Path) -> Cli:
    cli = Cli(tmp_path, environment(PROCRASTINATE_DEPS_DSN=dsn, PROCRASTINATE_DEPS_APP="shop.app"))
    (tmp_path / "shop.py").write_text(SHOP + GRAPHS)
    return cli


@pytest.fixture
def app(dsn: str) -> Iterator[App]:
    with App(SyncPsycopgConnector(conninfo=dsn)).open() as app:
        yield app


def diamond(app: App, name: str = "diamond", *, fail: bool = False, told: str = "", **options: object) -> int:
    """start → left, right → end, and an alert when something failed."""
    with app.workflow(name, **options) as wf:  # type: ignore[arg-type]

        def step(node: str, *after: object, run_when: str = "all_succeeded", **arguments: object) -> object:
            pattern = app.configure_task("step", depends_on=list(after), node=node, run_when=run_when)  # type: ignore[arg-type]
            return wf.add(pattern, **arguments)

        start = step("start")
        left, right = step("left", start, fail=fail), step("right", start, told=told)
        end = step("end", left, right)
        step("alert", end, run_when="any_failed")
    return wf.id


def work(cli: Cli) -> None:
    cli.run("worker", "--one-shot", "--log-level", "critical")


# list


def test_an_empty_list(cli: Cli) -> None:
    done = cli.run("workflow", "list")
    assert (done.status, done.out, done.err) == (0, "", "no such workflows\n")
    assert cli.json("workflow", "list") == []


def test_a_list(cli: Cli, app: App) -> None:
    first = diamond(app, fail=True)
    work(cli)
    second = diamond(app, "other\x1b[2J", metadata={"a": 1})
    lines = cli("workflow", "list").splitlines()
    assert [line.split()[:9] for line in lines] == [
        ["ID", "NAME", "STATUS", "PROGRESS", "JOBS", "WAITING", "DOING", "SUCCEEDED", "FAILED"],
        [str(second), r"other\x1b[2J", "running", "0%", "5", "5", "0", "0", "0"],
        [str(first), "diamond", "failed", "100%", "5", "0", "0", "3", "1"],
    ]
    newest, oldest = cli.json("workflow", "list")
    assert (newest["metadata"], newest["progress"], newest["duration_s"]) == ({"a": 1}, 0.0, None)
    assert (oldest["counts"]["failed"], oldest["live"]) == (1, 0)
    assert oldest["duration_s"] > 0
    status, screen = cli.on_terminal("workflow", "list")
    assert status == 0
    assert "\x1b[31mfailed" in screen
    assert "━━━━━━━━━━━━ 100%" in screen


def test_filters_and_pages_of_the_list(cli: Cli, app: App) -> None:
    ids = [diamond(app, name) for name in ("a", "b", "b")]
    with app.workflow("outer") as outer:
        inner = outer.workflow("inner")
        inner.add(app.configure_task("step"))
    app.job_manager.cancel_workflow(ids[0])

    def listed(*options: object) -> list[int]:
        return [each["id"] for each in cli.json("workflow", "list", *options)]

    assert listed("--name", "b") == [ids[2], ids[1]]
    assert listed("--status", "cancelled") == [ids[0]]
    assert listed() == [outer.id, *reversed(ids)]
    assert listed("--nested") == [inner.id, outer.id, *reversed(ids)]
    page = cli.run("workflow", "list", "--limit", "2", "--format", "json")
    assert [each["id"] for each in page.json] == [outer.id, ids[2]]
    assert page.err == f"there are more: workflow list --after {ids[2]}\n"
    assert listed("--after", ids[2]) == [ids[1], ids[0]]


# show


def test_the_tree(cli: Cli, app: App) -> None:
    workflow_id = diamond(app, fail=True, metadata={"owner": "me\x1b[2J"})
    work(cli)
    text = re.sub(r"  \d[\d.]* s\b", "", cli("workflow", "show", workflow_id))
    head, tree = text.split("\n\n")
    assert head.startswith(f"workflow {workflow_id} 'diamond': failed\n")
    assert "100%  5 of 5 jobs ended\n" in head
    assert "3 succeeded, 1 failed, 1 cancelled\n" in head
    assert r"owner: me\x1b[2J" in head
    assert tree.splitlines() == [
        "start (1)  succeeded",
        "├─ left (2)  failed  ValueError: out of [bold]stock[/bold]",
        "│  └─ end (4)  cancelled  all_succeeded: parent 2 failed  also after 3",
        "│     └─ alert (5)  succeeded",
        "└─ right (3)  succeeded",
    ]
    status, screen = cli.on_terminal("workflow", "show", workflow_id)
    assert status == 0
    assert "\x1b[31mfailed" in screen
    assert "[bold]stock[/bold]" in screen


def test_a_line_of_the_tree_is_cut_where_the_terminal_ends(cli: Cli, app: App) -> None:
    workflow_id = diamond(app, "n" * 200)
    _, screen = cli.on_terminal("workflow", "show", workflow_id, columns=60)
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in screen.splitlines()]
    assert max(map(len, lines)) <= 60
    assert lines[0].endswith("…")


def test_a_large_tree_is_drawn_by_groups(cli: Cli, app: App) -> None:
    with app.workflow("wide") as wf:
        first = wf.add(app.configure_task("open", node="open"))
        many = [wf.add(app.configure_task("count", depends_on=[first])) for _ in range(150)]
        wf.add(app.configure_task("close", depends_on=many))
    tree = cli("workflow", "show", wf.id).split("\n\n")[1]
    assert tree.splitlines() == [
        "open (1)  todo",
        "└─ count × 150  150 blocked",
        "   └─ close (152)  blocked",
        "152 jobs drawn as 3 boxes: a task's in one layer are one box",
    ]
    assert len(cli("workflow", "show", wf.id, "--max-jobs", 200).splitlines()) > 152


def test_a_deep_tree_goes_no_further_to_the_right(cli: Cli, app: App) -> None:
    with app.workflow("deep") as wf:
        before = wf.add(app.configure_task("t"))
        for _ in range(60):
            before = wf.add(app.configure_task("t", depends_on=[before]))
    tree = cli("workflow", "show", wf.id).split("\n\n")[1].splitlines()
    assert len(tree) == 61
    assert max(map(len, tree)) < 110
    assert "level 60: t (61)" in tree[-1]


def test_show_as_json(cli: Cli, app: App) -> None:
    workflow_id = diamond(app)
    found = cli.json("workflow", "show", workflow_id)
    assert (found["name"], found["status"], found["total"]) == ("diamond", "running", 5)
    assert [node["node"] for node in found["graph"]["nodes"]] == ["start", "left", "right", "end", "alert"]


@pytest.mark.parametrize("command", ["show", "watch", "graph", "cancel", "retry", "delete"])
def test_an_unknown_workflow(cli: Cli, command: str) -> None:
    assert cli.run("workflow", command, "99").error == "there is no workflow 99: it was deleted, or never deferred"


# graph


def test_the_graph_in_each_format(cli: Cli, app: App, tmp_path: Path) -> None:
    workflow_id = diamond(app, "<evil & co>")
    assert cli("workflow", "graph", workflow_id).startswith("flowchart LR\n")
    assert "rankdir=TB" in cli("workflow", "graph", workflow_id, "--format", "dot", "--direction", "TD")
    assert len(cli.json("workflow", "graph", workflow_id)["edges"]) == 5
    file = tmp_path / "graph.svg"
    done = cli.run("workflow", "graph", workflow_id, "--format", "svg", "-o", file)
    assert (done.status, done.out, done.err) == (0, "", f"{file}: 5 jobs\n")
    root = ET.fromstring(file.read_text())
    assert root.findtext("{http://www.w3.org/2000/svg}title") == f"<evil & co> ({workflow_id})"
    error = cli.run("workflow", "graph", workflow_id, "-o", tmp_path / "no" / "such").error
    assert "give another --output" in error


# cancel, retry, delete


def test_cancel_retry_and_delete(cli: Cli, app: App) -> None:
    workflow_id = diamond(app, fail=True)
    name = f"workflow {workflow_id} 'diamond'"
    assert cli("workflow", "cancel", workflow_id, "--dry-run") == f"would cancel 5 jobs of {name}\n"
    assert "--yes" in cli.run("workflow", "cancel", workflow_id).error
    assert app.job_manager.get_workflow(workflow_id).live == 5
    assert cli("workflow", "cancel", workflow_id, "--yes") == "5 jobs cancelled, 0 asked to abort\n"
    status, screen = cli.on_terminal("workflow", "retry", workflow_id, "--mode", "all", typed="y\n")
    assert status == 0
    assert f"retry jobs of {name} (all that have ended: 5 jobs)? [y/N]:" in screen
    assert screen.endswith("5 jobs to run again\r\n")
    work(cli)
    again = cli("workflow", "retry", workflow_id, "--dry-run")
    assert again == f"would retry jobs of {name} (1 failed or aborted, and what was cancelled)\n"
    assert cli("workflow", "retry", workflow_id, "-y") == "1 job to run again\n"
    assert cli("workflow", "delete", workflow_id, "--dry-run") == (
        f"would delete {name} with 5 jobs, of which 2 have not ended\n"
    )
    assert cli("workflow", "delete", workflow_id, "--yes") == "deleted, with 5 jobs\n"
    assert app.job_manager.list_jobs() == []


# watch


def test_watch_in_a_pipe_prints_a_line_per_change(cli: Cli, app: App) -> None:
    workflow_id = diamond(app)
    with subprocess.Popen(
        [sys.executable, *PROGRAM, "workflow", "watch", str(workflow_id)],
        cwd=cli.folder,
        env=cli.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert re.fullmatch(r"\d\d:\d\d:\d\dZ running 0% of 5 jobs: 4 blocked, 1 todo\n", first)
        work(cli)
        out, err = process.communicate(timeout=DEADLINE_S)
    lines = out.splitlines()
    assert lines[-1].endswith(" succeeded 100% of 5 jobs: 4 succeeded, 1 cancelled")
    assert len(lines) == len({line.split(" ", 1)[1] for line in lines})
    assert (process.returncode, err) == (0, "")


def test_the_status_of_a_watch_is_that_of_the_workflow(cli: Cli, app: App) -> None:
    failed = diamond(app, fail=True)
    work(cli)
    done = cli.run("workflow", "watch", failed)
    assert done.status == 1
    assert "failed 100% of 5 jobs" in done.out
    assert done.err.splitlines() == [
        "job 2 (step): failed: ValueError: out of [bold]stock[/bold]",
        f"look: workflow show {failed}; run it again: workflow retry {failed}",
    ]
    (line,) = cli.run("workflow", "watch", failed, "--format", "json").out.splitlines()
    assert json.loads(line)["counts"]["failed"] == 1
    cancelled = diamond(app)
    app.job_manager.cancel_workflow(cancelled)
    assert cli.run("workflow", "watch", cancelled).status == 1


def read_until(master: int, wanted: str, seen: str = "") -> str:
    while wanted not in seen:
        chunk = os.read(master, 65536)
        assert chunk, seen
        seen += chunk.decode()
    return seen


def watching(cli: Cli, workflow_id: int) -> tuple[str, ...]:
    return (*PROGRAM, "workflow", "watch", str(workflow_id))


def test_watch_on_a_terminal_is_live(cli: Cli, app: App) -> None:
    workflow_id = diamond(app, told="half\x1b[2J way")
    with terminal(*watching(cli, workflow_id), cwd=cli.folder, env=cli.env, columns=100, lines=30) as (process, master):
        read_until(master, "4 blocked")
        with subprocess.Popen(
            [sys.executable, *PROGRAM, "worker", "--one-shot", "--log-level", "critical"],
            cwd=cli.folder,
            env=cli.env,
        ) as worker:
            seen = read_until(master, r"25% (1 of 4) half\x1b[2J way")
            seen = read_until(master, "5 of 5", seen)
            assert worker.wait(DEADLINE_S) == 0
        assert process.wait(DEADLINE_S) == 0
    assert "right (step)" in seen
    assert "━" in seen
    assert "\x1b[2J way" not in seen.replace(r"\x1b[2J way", "")


def test_ctrl_c_ends_only_the_watching(cli: Cli, app: App) -> None:
    workflow_id = diamond(app)
    with terminal(*watching(cli, workflow_id), cwd=cli.folder, env=cli.env, columns=100, lines=30) as (process, master):
        read_until(master, "4 blocked")
        process.send_signal(signal.SIGINT)
        read_until(master, f"it goes on: workflow watch {workflow_id}")
        assert process.wait(DEADLINE_S) == 130
    assert app.job_manager.get_workflow(workflow_id).live == 5
