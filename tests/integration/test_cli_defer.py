"""`defer`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.cli_process import Cli, environment
from tests.integration.worker_helpers import query

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def cli(dsn: str, tmp_path: Path) -> Cli:
    return Cli(tmp_path, environment(PROCRASTINATE_DEPS_DSN=dsn, PROCRASTINATE_DEPS_APP="shop.app"))


def test_the_task_says_what_is_not_given(cli: Cli) -> None:
    job = cli.json("job-status", cli.id("charge", '{"order": 7}'))
    assert (job["task_name"], job["task_kwargs"], job["queue"], job["priority"]) == ("charge", {"order": 7}, "money", 0)
    assert (job["status"], job["lock"], job["queueing_lock"], job["scheduled_at"]) == ("todo", None, None, None)
    assert cli.json("job-status", cli.id("ship"))["run_when"] == "all_succeeded"


def test_every_option_reaches_the_job(cli: Cli) -> None:
    parents = [cli.id("charge"), cli.id("charge")]
    options = ["--queue", "q", "--lock", "l", "--queueing-lock", "ql", "--at", "2099-01-31T12:00:00+02:00"]
    options += ["--priority", "-3", "--depends-on", str(parents[0]), "--depends-on", str(parents[1])]
    job = cli.json("job-status", cli.id("ship", *options, "--run-when", "any_failed"))
    assert (job["queue"], job["lock"], job["queueing_lock"], job["priority"]) == ("q", "l", "ql", -3)
    assert (job["scheduled_at"], job["run_when"]) == ("2099-01-31T10:00:00+00:00", "any_failed")
    assert (job["status"], job["parents"]) == ("blocked", {str(parent): "todo" for parent in parents})


def test_in_counts_from_now(cli: Cli, dsn: str) -> None:
    cli.id("charge", "--in", "3600")
    ((seconds,),) = query(
        dsn, "SELECT extract(epoch FROM scheduled_at - created_at)::float8 FROM procrastinate_deps.jobs"
    )
    assert seconds == pytest.approx(3600, abs=5)


def test_an_option_by_its_variable(cli: Cli) -> None:
    variables = {"PROCRASTINATE_DEPS_DEFER_QUEUE": "from_the_environment", "PROCRASTINATE_DEPS_DEFER_IN": "3600"}
    assert cli("defer", "charge", **variables) == "1\n"
    job = cli.json("job-status", 1)
    assert (job["queue"], job["gate"]) == ("from_the_environment", "scheduled")


def test_arguments_from_stdin(cli: Cli) -> None:
    assert cli.run("defer", "charge", "-", stdin='{"order": "ü"}').out == "1\n"
    assert cli.json("job-status", 1)["task_kwargs"] == {"order": "ü"}


def test_an_unknown_task(cli: Cli) -> None:
    assert "did you mean 'charge'?" in cli.run("defer", "chrage").error
    assert cli.json("list-jobs") == []
    assert cli.json("job-status", cli.id("chrage", "--unknown"))["queue"] == "default"


def test_an_unknown_task_needs_no_app(cli: Cli) -> None:
    del cli.env["PROCRASTINATE_DEPS_APP"]
    assert cli.id("of.another.program", "--unknown") == 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["charge", "{order: 7}"], "is not JSON"),
        (["charge", '{"order": NaN}'], "NaN"),
        (["charge", "[7]"], "not a JSON object"),
        (["charge", "--at", "tomorrow"], "ISO 8601"),
        (["charge", "--at", "2099-01-31T12:00:00"], "no time zone"),
        (["charge", "--at", "2099-01-31T12:00:00Z", "--in", "5"], "only one of them"),
        (["charge", "--run-when", "sometimes"], "all_finished"),
        (["charge", "--depends-on", "x"], "not a valid"),
        (["charge", "--depends-on", "0"], "not in the range"),
        ([], "TASK"),
    ],
)
def test_what_was_typed_wrong(cli: Cli, arguments: list[str], error: str) -> None:
    done = cli.run("defer", *arguments)
    assert (done.status, done.out) == (2, "")
    assert error in done.err


def test_a_parent_that_does_not_exist(cli: Cli) -> None:
    assert "99" in cli.run("defer", "charge", "--depends-on", "99").error
    assert cli.json("list-jobs") == []


def test_a_queueing_lock_that_is_taken(cli: Cli) -> None:
    cli.id("charge", "--queueing-lock", "once")
    assert "'once'" in cli.run("defer", "charge", "--queueing-lock", "once").error
    done = cli.run("defer", "charge", "--queueing-lock", "once", "--ignore-already-enqueued")
    assert (done.status, done.out) == (0, "")
    assert "'once'" in done.err
    assert len(cli.json("list-jobs")) == 1
