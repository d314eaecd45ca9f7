"""The program around the commands: the shared options, the log, and how errors end it."""

from __future__ import annotations

import contextlib
import errno
import sys
import traceback
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from procrastinate_deps.cli import logs
from procrastinate_deps.cli.settings import Settings
from procrastinate_deps.exceptions import ProcrastinateException

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENVIRONMENT_PREFIX = "PROCRASTINATE_DEPS"
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
INTERRUPTED = 130  # what a shell gives a program that SIGINT ended

# Given before or after the command's name. Their one environment variable is that of the former.
_SHARED: dict[str, dict[str, Any]] = {
    "app_path": {
        "names": ["--app", "-a"],
        "envvar": f"{ENVIRONMENT_PREFIX}_APP",
        "metavar": "PATH",
        "help": "The app: package.module.app.  [default: [tool.procrastinate_deps] app in the nearest pyproject.toml]",
    },
    "schema": {
        "names": ["--schema"],
        "envvar": f"{ENVIRONMENT_PREFIX}_SCHEMA",
        "metavar": "NAME",
        "help": "The PostgreSQL schema of the tables, where no app says it.  [default: procrastinate_deps]",
    },
    "log_level": {
        "names": ["--log-level"],
        "envvar": f"{ENVIRONMENT_PREFIX}_LOG_LEVEL",
        "type": click.Choice(LOG_LEVELS, case_sensitive=False),
        "help": "What is logged to stderr; debug shows tracebacks too.  [default: warning; for the worker info]",
    },
    "log_format": {
        "names": ["--log-format"],
        "envvar": f"{ENVIRONMENT_PREFIX}_LOG_FORMAT",
        "type": click.Choice(["text", "json"]),
        "help": "How it is logged: text, or one JSON object per line.  [default: text]",
    },
}


class Failure(click.ClickException):
    """An error that ends the program with status 1 and one line on stderr."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        click.echo(f"Error: {self.message}", file=sys.stderr if file is None else file)


def one_line(error: BaseException) -> str:
    """The error as one line: a driver's message may have several."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    text = str(error) if isinstance(error, (ProcrastinateException, OSError)) else f"{type(error).__name__}: {error}"
    return " ".join(text.split()) or type(error).__name__


@contextlib.contextmanager
def failing_in_one_line(settings: Settings) -> Iterator[None]:
    """Turn errors into a `Failure`; at log level debug their traceback is shown first."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except KeyboardInterrupt:
        raise click.exceptions.Exit(INTERRUPTED) from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            raise  # click knows: who read our output has gone
        if settings.debug:
            traceback.print_exception(error)
        raise Failure(one_line(error)) from error


class Command(click.Command):
    """A command that takes the shared options too, and has the log configured."""

    def __init__(self, *args: Any, log_level: str = "warning", group: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._log_level = log_level
        name = f"{group}_{self.name}" if group else self.name
        for parameter in self.params:
            if isinstance(parameter, click.Option):
                parameter.show_envvar = True
                flag = max(parameter.opts, key=len).lstrip("-").replace("-", "_")
                if flag != parameter.name:  # click would name the variable by the latter
                    parameter.envvar = f"{ENVIRONMENT_PREFIX}_{name}_{flag}".replace("-", "_").upper()
        taken = {name for parameter in self.params for name in parameter.opts}
        for destination, shared in _SHARED.items():
            if not taken.intersection(shared["names"]):
                self.params.append(_shared_option(destination, shared))

    def invoke(self, ctx: click.Context) -> Any:
        settings = ctx.find_object(Settings) or Settings()
        logs.configure(settings.log_level or self._log_level, settings.log_format)
        with failing_in_one_line(settings):
            return super().invoke(ctx)


def _shared_option(destination: str, shared: dict[str, Any]) -> click.Option:
    def store(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        # the environment has spoken at the program's own option, which is weaker than what was typed
        if ctx.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE:
            setattr(ctx.find_object(Settings), destination, value)

    # -a is free for a command's own use
    options = {name: value for name, value in shared.items() if name != "names"}
    return click.Option(
        [shared["names"][0], f"shared_{destination}"], expose_value=False, callback=store, show_envvar=True, **options
    )


def _shared_options(function: Callable[..., None]) -> Callable[..., None]:
    for destination, shared in reversed(_SHARED.items()):
        options = {name: value for name, value in shared.items() if name != "names"}
        function = click.option(*shared["names"], destination, show_envvar=True, **options)(function)
    return function


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="\b\nExamples:\n"
    "  procrastinate-deps migrate\n"
    "  procrastinate-deps --app shop.app worker --concurrency 10\n"
    "  procrastinate-deps list-jobs --status failed --format json\n"
    "  procrastinate-deps job-status 7",
)
@click.version_option(package_name="procrastinate-deps", prog_name="procrastinate-deps")
@_shared_options
@click.pass_context
def program(
    ctx: click.Context, app_path: str | None, schema: str | None, log_level: str | None, log_format: str | None
) -> None:
    """Run workers, and defer, look at and manage jobs.

    The database is that of the app; without an app it is the one that PROCRASTINATE_DEPS_DSN or libpq's variables
    (PGHOST, PGDATABASE, ...) name, or else the embedded server. Every option has an environment variable.
    """
    ctx.obj = Settings(app_path, schema, log_level, log_format or "text")
