"""The app: what a user makes. It registers tasks, holds the connector and runs workers."""

from __future__ import annotations

import contextlib
import difflib
import functools
import logging
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack

import anyio

from procrastinate_deps import builtin_tasks
from procrastinate_deps.blueprints import Blueprint
from procrastinate_deps.connectors.pair import ConnectorPair
from procrastinate_deps.eventloop import backend_options
from procrastinate_deps.exceptions import TaskNotFound
from procrastinate_deps.jobs import JobSpec
from procrastinate_deps.loading import import_all, load_from_path
from procrastinate_deps.manager import JobManager
from procrastinate_deps.periodic import PeriodicDefaults
from procrastinate_deps.tasks import JobDeferrer, JobOptions, configure_job

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Mapping
    from types import TracebackType

    from procrastinate_deps.connectors.base import AsyncConnector, SyncConnector
    from procrastinate_deps.jsontext import JsonDumps
    from procrastinate_deps.schema import SchemaManager
    from procrastinate_deps.statements import Statement

logger = logging.getLogger(__name__)

A = TypeVar("A", bound="App")
T = TypeVar("T")


class App(Blueprint):
    """Registers tasks, defers their jobs and runs workers.

    Parameters
    ----------
    connector:
        How the database is reached. Default: the environment says it when the app is opened. PROCRASTINATE_DEPS_DSN;
        else libpq, where any of PGHOST, PGHOSTADDR, PGSERVICE and PGDATABASE is set; else the embedded server, where
        the extra `[embedded]` is installed.
    import_paths:
        Modules that define tasks and are not imported otherwise ("package.module"): a worker imports them first.
    worker_defaults:
        Options of `run_worker` that hold where the call doesn't give them.
    periodic_defaults:
        Options of periodic tasks: `{"max_delay": 600}`, in seconds; a period that no worker could defer for longer is
        left out.
    """

    def __init__(
        self,
        connector: AsyncConnector | SyncConnector | None = None,
        *,
        import_paths: Iterable[str] | None = None,
        worker_defaults: Mapping[str, Any] | None = None,
        periodic_defaults: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self._connectors = ConnectorPair(_default_connector() if connector is None else connector)
        self.import_paths = list(import_paths or ())
        self.worker_defaults = dict(worker_defaults or {})
        self.periodic_defaults = PeriodicDefaults(**(periodic_defaults or {}))
        self.job_manager = JobManager(self)
        self._imported = False
        builtin_tasks.register(self)

    @classmethod
    def from_path(cls, path: str) -> Self:
        """The app at a dotted path, as "package.module.app". Raises LoadFromPathError."""
        return load_from_path(path, cls)

    @property
    def bound_app(self) -> App:
        return self

    @property
    def connector(self) -> AsyncConnector | SyncConnector:
        """The connector that was given, or the default one."""
        return self._connectors.connector

    @property
    def schema_manager(self) -> SchemaManager:
        """Applies the schema and says which version is there."""
        # alembic takes longer to import than all the rest
        from procrastinate_deps.schema import SchemaManager

        return SchemaManager(self.connector)

    # Opening and closing

    def open(self, pool: Any = None) -> Self:
        """Connect, for code that is not async: `app.open()` and `app.close()`, or `with app.open():`.

        Parameters
        ----------
        pool:
            A pool of the driver's own, open already; it is not closed by `close`. Default: one is made.
        """
        self._connectors.open(pool)
        return self

    def close(self) -> None:
        self._connectors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def open_async(self, pool: Any = None) -> _Opening[Self]:
        """Connect, for async code: `await app.open_async()` and `close_async`, or `async with app.open_async():`.

        Parameters
        ----------
        pool:
            A pool of the driver's own, open already; it is not closed by `close_async`. Default: one is made.
        """
        return _Opening(self, functools.partial(self._connectors.open_async, pool))

    async def close_async(self) -> None:
        await self._connectors.close_async()

    @contextlib.contextmanager
    def replace_connector(self, connector: AsyncConnector | SyncConnector) -> Iterator[Self]:
        """Use another connector inside the `with`: in a test, or in a script. It is opened and closed on its own."""
        before, self._connectors = self._connectors, ConnectorPair(connector)
        try:
            yield self
        finally:
            self._connectors = before

    def check_connection(self) -> bool:
        """Whether the database answers and has the tables."""
        return self.job_manager.check_connection()

    async def check_connection_async(self) -> bool:
        """`check_connection` for async code."""
        return await self.job_manager.check_connection_async()

    # Running statements: what the job manager asks of an app

    @property
    def json_dumps(self) -> JsonDumps:
        return self._connectors.connector.json_dumps

    def execute(self, statement: Statement[T], connection: Any = None) -> T:
        return self._connectors.execute(statement, connection)

    async def execute_async(self, statement: Statement[T], connection: Any = None) -> T:
        return await self._connectors.execute_async(statement, connection)

    # Tasks and workers

    def configure_task(
        self,
        name: str,
        *,
        allow_unknown: bool = True,
        task_kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[JobOptions],
    ) -> JobDeferrer[...]:
        """Set how and when a job shall run whose task is known by name, here or only where a worker runs it.

        Parameters
        ----------
        allow_unknown:
            Whether the task may be unknown here. Default: True; such a job has the default queue and priority.
        task_kwargs, options:
            As for `Task.configure`.

        Raises
        ------
        TaskNotFound:
            The task is unknown, and allow_unknown is False.
        """
        self.perform_import_paths()
        if task := self.tasks.get(name):
            return task.configure(task_kwargs=task_kwargs or {}, **options)
        if not allow_unknown:
            similar = difflib.get_close_matches(name, self.tasks, n=1)
            hint = f"did you mean {similar[0]!r}?" if similar else "list its module in App(import_paths=[...])"
            raise TaskNotFound(f"no task is named {name!r}; {hint}")
        return configure_job(self, None, JobSpec(task_name=name), task_kwargs=task_kwargs, **options)

    def perform_import_paths(self) -> None:
        """Import the modules of `import_paths`, once, so that their tasks are registered."""
        if self._imported:
            return
        self._imported = True
        import_all(self.import_paths)
        logger.debug("All tasks are imported", extra={"action": "imported_tasks", "tasks": list(self.tasks)})

    async def run_worker_async(self, **options: Any) -> None:
        """Run a worker until it is stopped, by SIGINT or SIGTERM for instance. The app is open.

        Parameters
        ----------
        options:
            See `procrastinate_deps.worker.Worker`; those of `worker_defaults` hold where they are not given.
        """
        # The worker stands above the app: it can't be imported with it.
        from procrastinate_deps.worker import Worker

        self.perform_import_paths()
        await Worker(self, **{**self.worker_defaults, **options}).run()

    def run_worker(self, *, uvloop: bool | None = None, **options: Any) -> None:
        """Open the app, run a worker until it is stopped, close the app; see `run_worker_async`.

        Parameters
        ----------
        uvloop:
            Whether the event loop is uvloop. Default: where it is installed, which the extra `[uvloop]` does.
        """

        async def opened() -> None:
            async with self.open_async():
                await self.run_worker_async(**options)

        anyio.run(opened, backend_options=backend_options(uvloop))


def _default_connector() -> AsyncConnector:
    # psycopg needs libpq, which those who bring another connector may not have
    from procrastinate_deps.connectors.default import DefaultConnector

    return DefaultConnector()


class _Opening(Generic[A]):
    """What `open_async` gives: to be awaited, or for `async with`."""

    def __init__(self, app: A, connect: Callable[[], Awaitable[None]]) -> None:
        self._app = app
        self._connect = connect

    def __await__(self) -> Generator[Any, None, A]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> A:
        await self._connect()
        return self._app

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self._app.close_async()
