"""What every command can be told, and the app that it works on."""

from __future__ import annotations

import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from procrastinate_deps.app import App
from procrastinate_deps.exceptions import LoadFromPathError, MissingApp, ProcrastinateException

if TYPE_CHECKING:
    from collections.abc import Iterable

PROJECT_FILE = "pyproject.toml"
PROJECT_TABLE = "procrastinate_deps"


class NamedApp(NamedTuple):
    """The dotted path of an app, and who gave it."""

    path: str
    source: str
    folder: Path


@dataclass(slots=True)
class Settings:
    """The options that are the same for all commands."""

    app_path: str | None = None
    schema: str | None = None
    log_level: str | None = None
    log_format: str = "text"

    @property
    def debug(self) -> bool:
        return self.log_level == "debug"

    def named_app(self) -> NamedApp | None:
        """The app that the command line, the environment or else the nearest pyproject.toml names."""
        here = Path.cwd()
        if self.app_path:
            return NamedApp(self.app_path, "--app or PROCRASTINATE_DEPS_APP", here)
        return _app_of_project(here)

    def app(self) -> App:
        """The named app, imported. Raises MissingApp or LoadFromPathError."""
        named = self.named_app()
        if named is None:
            raise MissingApp(
                "no app is named: give --app package.module.app, set PROCRASTINATE_DEPS_APP, or write "
                f'app = "package.module.app" under [tool.{PROJECT_TABLE}] in {PROJECT_FILE}'
            )
        app = _load(named)
        if self.schema is not None and self.schema != app.connector.schema:
            raise ProcrastinateException(
                f"the schema {self.schema!r} was asked for, but the app {named.path} (from {named.source}) uses "
                f"{app.connector.schema!r}: --schema and PROCRASTINATE_DEPS_SCHEMA are for commands without an app"
            )
        return app

    def database(self) -> App:
        """The named app, or else one without tasks: for commands that need only the database."""
        return self.taskless_app() if self.named_app() is None else self.app()

    def taskless_app(self) -> App:
        """An app on the database that the environment says."""
        if self.schema is None:
            return App()
        from procrastinate_deps.connectors.default import DefaultConnector

        try:
            return App(DefaultConnector(schema=self.schema))
        except ValueError as error:
            raise ProcrastinateException(f"--schema: {error}") from error


def _app_of_project(start: Path) -> NamedApp | None:
    for folder in (start, *start.parents):
        file = folder / PROJECT_FILE
        if file.is_file():
            return _read_project(file)
    return None


def _read_project(file: Path) -> NamedApp | None:
    try:
        table = tomllib.loads(file.read_text("utf-8")).get("tool", {}).get(PROJECT_TABLE, {})
    except (OSError, ValueError) as error:
        raise MissingApp(f"{file} can't be read to find the app in it: {error}") from error
    path = table.get("app") if isinstance(table, dict) else None
    if path is None:
        return None
    if not isinstance(path, str):
        raise MissingApp(f"{file}: [tool.{PROJECT_TABLE}] app is {path!r}; write it as a dotted path in quotes")
    return NamedApp(path, str(file), file.parent)


def _load(named: NamedApp) -> App:
    # an installed script doesn't search the current folder, as `python -m` does
    _search([named.folder, Path.cwd()])
    try:
        return App.from_path(named.path)
    except LoadFromPathError as error:
        raise LoadFromPathError(f"the app of {named.source}: {error}") from error
    except Exception as error:
        raise LoadFromPathError(
            f"the app of {named.source}: importing {named.path!r} failed: {type(error).__name__}: {error}"
        ) from error


def _search(folders: Iterable[Path]) -> None:
    for folder in folders:
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
