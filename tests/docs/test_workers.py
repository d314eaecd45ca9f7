"""docs/workers.md: what it shows works as it stands, and what it names exists."""

from __future__ import annotations

import configparser
import json
import re
import shlex
from typing import TYPE_CHECKING, Any

import click

from procrastinate_deps.cli.program import ENVIRONMENT_PREFIX, program
from tests.docs.pages import REPOSITORY, block, follow

if TYPE_CHECKING:
    from pathlib import Path

PAGE = "docs/workers.md"
TEXT = (REPOSITORY / PAGE).read_text()


def worker_options() -> dict[str, str]:
    """Those of `worker`."""
    return options_of("worker")


def options_of(name: str) -> dict[str, str]:
    """The flags of a command, and the environment variable of each."""
    with click.Context(program, info_name="procrastinate-deps", auto_envvar_prefix=ENVIRONMENT_PREFIX) as ctx:
        command = program.get_command(ctx, name)
        assert command is not None
        inner = click.Context(command, parent=ctx, info_name=name)
        options: dict[str, str] = {"--help": ""}
        for parameter in command.get_params(inner):
            if isinstance(parameter, click.Option):
                variable = parameter.envvar or f"{inner.auto_envvar_prefix}_{(parameter.name or '').upper()}"
                options |= dict.fromkeys([*parameter.opts, *parameter.secondary_opts], str(variable))
    return options


def test_the_example(empty_dsn: str, tmp_path: Path) -> None:
    records: list[dict[str, Any]] = []
    listed = ""
    for command, done in follow(PAGE, tmp_path, PROCRASTINATE_DEPS_DSN=empty_dsn, PROCRASTINATE_DEPS_LOG_FORMAT="json"):
        if "worker" in command:
            records = [json.loads(each) for each in done.stderr.splitlines()]
        listed = done.stdout
    assert listed.count("succeeded") == 2
    shown = json.loads(block(PAGE, "json"))
    (real,) = [record for record in records if (record.get("action"), record.get("job_id")) == (shown["action"], 1)]
    assert set(real) == set(shown)
    assert {name: real[name] for name in ("level", "logger", "task_name", "queue")} == {
        name: shown[name] for name in ("level", "logger", "task_name", "queue")
    }


def test_every_option_and_variable_exists() -> None:
    options = worker_options()
    prose = re.sub(r"docker run --init", "", TEXT)
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", prose))
    assert len(flags) > 10
    assert flags <= set(options)
    variables = set(re.findall(r"PROCRASTINATE_DEPS_[A-Z_]+", TEXT)) - {"PROCRASTINATE_DEPS_DSN"}
    assert variables <= set(options.values())


def test_the_service_is_stopped_with_more_patience_than_it_has_itself() -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[method-assign, assignment]
    unit.read_string(block(PAGE, "ini"))
    service = unit["Service"]
    words = shlex.split(service["ExecStart"])
    assert words[0].endswith("/procrastinate-deps")
    graceful_s = float(words[words.index("--shutdown-graceful-timeout") + 1])
    assert float(service["TimeoutStopSec"]) > graceful_s
    with program.make_context("procrastinate-deps", words[1:], resilient_parsing=False) as ctx:
        command = program.get_command(ctx, "worker")
        assert command is not None
        with command.make_context("worker", words[words.index("worker") + 1 :], parent=ctx) as inner:
            assert inner.params["processes"] == 4
