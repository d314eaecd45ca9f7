"""Workflows that are built and not sent, and what would have been sent."""

from __future__ import annotations

import json
from typing import Any

from procrastinate_deps import App, PsycopgConnector
from procrastinate_deps.statements import Statement
from procrastinate_deps.workflow_info import DeferredGraph
from procrastinate_deps.workflows import WorkflowBuilder
from procrastinate_deps.workflows.sending import send

app = App(PsycopgConnector())


@app.task(name="work")
def work(n: int = 0, label: str = "") -> None: ...


@app.task(name="slow", run_when="all_succeeded", priority=5)
def slow() -> None: ...


class Sent:
    """What a block would have sent: each job, by its `n`, with the `n`s of its parents."""

    def __init__(self, wf: WorkflowBuilder, mean_run_s: dict[str, float] | None = None) -> None:
        self.workflows: list[dict[str, Any]] = []
        self.jobs: list[dict[str, Any]] = []
        self.asked: list[Statement[Any]] = []
        steps = send(wf.plan).steps(json.dumps)
        try:
            statement = next(steps)
            while True:
                self.asked.append(statement)
                statement = steps.send(self._answer(statement, mean_run_s or {}))
        except StopIteration:
            pass

    def _answer(self, statement: Statement[Any], mean_run_s: dict[str, float]) -> Any:
        if statement.name == "mean_run_times":
            return mean_run_s
        if statement.name == "find_nodes":
            return {"report": 7}
        assert statement.name == "defer_graph"
        self.workflows, self.jobs = (json.loads(value) for value in statement.values)
        return DeferredGraph(
            workflow_ids=[100 + n for n in range(len(self.workflows))], job_ids=[10 + n for n in range(len(self.jobs))]
        )

    @property
    def parents(self) -> dict[int, list[int]]:
        n = [job["args"]["n"] for job in self.jobs]
        return {job["args"]["n"]: sorted(n[place] for place in job.get("after", ())) for job in self.jobs}


def built() -> WorkflowBuilder:
    """Open, to be sent by `Sent`."""
    wf = app.workflow("etl")
    wf.plan.open()
    return wf


def works(wf: WorkflowBuilder, count: int) -> list[Any]:
    return [wf.add(work, n=n) for n in range(count)]


def parents(wf: WorkflowBuilder) -> dict[int, list[int]]:
    return Sent(wf).parents
