"""The app: what a user makes. It registers tasks, holds the connector and runs workers."""

from __future__ import annotations

import contextlib
import difflib
import functools
import logging
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar, Unpack

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
from procrastinate_deps.waiting import Waiting
from procrastinate_deps.workflow_info import check_workflow_id
from procrastinate_deps.workflows import Workflow, WorkflowBuilder, new_workflow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Mapping
    from types import TracebackType

    from procrastinate_deps.connectors.base import AsyncConnector, SyncConnector
    from procrastinate_deps.dependencies import HasJobId
    from procrastinate_deps.jsontext import JsonDumps
    from procrastinate_deps.schema import SchemaManager
    from procrastinate_deps.statements import Statement
    from procrastinate_deps.workflow_info import WorkflowInfo

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
        self._waiting = Waiting(self._connectors)
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
        before = self._connectors, self._waiting
        self._connectors = ConnectorPair(connector)
        self._waiting = Waiting(self._connectors)
        try:
            yield self
        finally:
            self._connectors, self._waiting = before

    def check_connection(self) -> bool:
        """Whether the database answers and has the tables."""
        return self.job_manager.check_connection()

    async def check_connection_async(self) -> bool:
        """`check_connection` for async code."""
        return await self.job_manager.check_connection_async()

    # Waiting

    def wait_for_job(self, job: int | HasJobId, timeout: float | None = None) -> Any:
        """Wait until a job has ended, and return its result; see `wait_for_job_async`."""
        return self._waiting.job(job, timeout)

    async def wait_for_job_async(self, job: int | HasJobId, timeout: float | None = None) -> Any:  # noqa: ASYNC109
        """Wait until a job has ended, and return its result.

        Told by a notification, on one connection for all waits of this app; where none comes, jobs are looked at: after
        50 ms, then ever less often, at last every 5 seconds. A job that is retried has not ended. In a task a wait
        takes the slot of its job; better to let another job depend on it.

        Parameters
        ----------
        job:
            Its id, or a Job.
        timeout:
            Seconds to wait at most. Default: for as long as it takes. 0: look once.

        Returns
        -------
        What the task returned; None where it returned nothing or stores no results (`store_result=False`); a
        `NotStored` where its result could not be stored.

        Raises
        ------
        JobFailed:
            It failed, was aborted or was cancelled; with the stored error.
        TimeoutError:
            It has not ended in time.
        JobNotFound:
            It never was, or was deleted, perhaps while it was waited for: workers can be told to delete what has ended.
        EndlessWait:
            Called in a running job, for itself or for a job that waits for it.
        """
        return await self._waiting.job_async(job, timeout)

    def wait_for_workflow(
        self, workflow_id: int, timeout: float | None = None, *, raise_on_failure: bool = True
    ) -> WorkflowInfo:
        """Wait until a workflow has ended; see `wait_for_workflow_async`."""
        return self._waiting.workflow(workflow_id, timeout, raise_on_failure)

    async def wait_for_workflow_async(
        self,
        workflow_id: int,
        timeout: float | None = None,  # noqa: ASYNC109
        *,
        raise_on_failure: bool = True,
    ) -> WorkflowInfo:
        """Wait until all jobs of a workflow, and of those nested in it, have ended; as `wait_for_job_async` does.

        Parameters
        ----------
        timeout:
            Seconds to wait at most. Default: for as long as it takes. 0: look once.
        raise_on_failure:
            Whether a workflow that has failed or was cancelled raises JobFailed. Default: True.

        Returns
        -------
        The workflow as it has ended.

        Raises
        ------
        JobFailed:
            It has not succeeded: with the error of the first of its jobs that failed, else was aborted, else was
            cancelled.
        TimeoutError, EndlessWait:
            As for a job.
        WorkflowNotFound:
            It never was, or was deleted.
        """
        return await self._waiting.workflow_async(workflow_id, timeout, raise_on_failure)

    # Running statements: what the job manager asks of an app

    @property
    def json_dumps(self) -> JsonDumps:
        return self._connectors.connector.json_dumps

    def execute(self, statement: Statement[T], connection: Any = None) -> T:
        return self._connectors.execute(statement, connection)

    async def execute_async(self, statement: Statement[T], connection: Any = None) -> T:
        return await self._connectors.execute_async(statement, connection)

    # Workflows

    def workflow(
        self,
        name: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        unique: bool = False,
        priority: Literal["critical_path"] | None = None,
        connection: Any = None,
    ) -> WorkflowBuilder:
        """Build a workflow in a `with` block, or `async with`; it is sent when the block is left::

            async with app.workflow("etl", metadata={"day": "2024-05-01"}) as wf:
                parts = [wf.add(extract, source=source) for source in sources]
                parts >> wf.add(load.configure(run_when="all_succeeded", node="load"))
            status = await wf.wait_async(timeout=60)

        All goes as one statement: all of it is deferred, or nothing. Leaving the block by an error sends nothing.

        Parameters
        ----------
        name:
            What people know it by, 1 to 255 characters.
        metadata:
            Any values of your own, as JSON can hold them.
        unique:
            Whether there is at most one live workflow of this name that is unique. Default: no.
        priority:
            "critical_path": each job's priority is higher the longer the chain of jobs is that still has to run from it
            on, by the tasks' mean run times of the last 3 days; 0 to 1000 is added to its own. Default: their own.
        connection:
            A connection of your own: the workflow becomes part of its transaction.

        Raises
        ------
        On leaving the block, and then nothing was deferred: CircularDependency, which names the nodes of the cycle;
        InvalidArguments, which names the node; WorkflowAlreadyRunning, AlreadyEnqueued, DependencyNotFound,
        WorkflowNotFound.
        """
        return new_workflow(self, name, metadata=metadata, unique=unique, priority=priority, connection=connection)

    def get_workflow(self, workflow_id: int, connection: Any = None) -> Workflow:
        """A workflow, as it is now. Raises WorkflowNotFound."""
        found = Workflow(self, check_workflow_id(workflow_id))
        found.refresh(connection=connection)
        return found

    async def get_workflow_async(self, workflow_id: int, connection: Any = None) -> Workflow:
        """`get_workflow` for async code."""
        found = Workflow(self, check_workflow_id(workflow_id))
        await found.refresh_async(connection=connection)
        return found

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
