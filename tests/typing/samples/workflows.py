"""Checked by mypy, never run: what is added to a workflow is typed by the task's own parameters.

What is wrong on purpose carries the error's code as an ignored one; mypy refuses an ignore that ignores nothing.
"""

from __future__ import annotations

from typing import assert_type

from procrastinate_deps import (
    App,
    Chain,
    Job,
    JobContext,
    Node,
    PsycopgConnector,
    Workflow,
    WorkflowBuilder,
    WorkflowInfo,
    WorkflowStatus,
    chain,
    group,
)

app = App(PsycopgConnector())


@app.task
def extract(source: str, *, limit: int = 10) -> list[str]:
    return [source] * limit


@app.task(pass_context=True)
async def split(context: JobContext, size: int) -> None:
    assert_type(context.workflow, Workflow)
    async with context.workflow.grow() as wf:
        parts = [wf.add(extract, source=str(n)) for n in range(size)]
        assert_type(parts >> wf.existing("report"), Chain)
    assert_type(await context.workflow.add_async(extract, source="x"), Node)
    await context.workflow.add_async(extract)  # type: ignore[call-arg]
    await context.add_dependencies_async(7, parts)


async def build() -> None:
    async with app.workflow("etl", metadata={"day": 1}, priority="critical_path") as wf:
        assert_type(wf, WorkflowBuilder)
        a = wf.add(extract, source="a")
        assert_type(a, Node)
        b = wf.add(extract, "b", limit=3)
        wf.add(extract)  # type: ignore[call-arg]
        wf.add(extract, source=1)  # type: ignore[arg-type]
        wf.add(extract, source="a", size=1)  # type: ignore[call-arg]
        # The context is no argument of the job.
        c = wf.add(split.configure(depends_on=[a, b, 7], run_when="all_succeeded", node="split"), size=2)
        wf.add(split.configure(depends_on=a))  # type: ignore[call-arg]
        wf.add(split.configure(depends_on=a), size="2")  # type: ignore[arg-type]
        wf.add(split.func)  # type: ignore[arg-type]
        inner = wf.workflow("inner")
        assert_type(inner, WorkflowBuilder)
        inner.add(extract, source="c")

        # Parts are joined in any form,
        assert_type(a >> [b, c], Chain)
        assert_type([a, b] >> c, Chain)
        assert_type(7 >> c, Chain)
        assert_type(chain(a, [b, inner], c) >> group(a, b), Chain)
        wf["split"] >> inner >> c
        # but a task or a name is none.
        a >> split  # type: ignore[operator]
        a >> ["split"]  # type: ignore[list-item]
        chain(a, extract)  # type: ignore[arg-type]
        wf.add(extract.configure(depends_on=[inner, group(a, b)]), source="d")
        extract.configure(workflow="etl")  # type: ignore[call-overload]

    assert_type(wf.id, int)
    assert_type(a.job_id, int)
    assert_type(await wf.wait_async(timeout=1), WorkflowStatus)
    assert_type(await wf.refresh_async(), WorkflowInfo)
    assert_type(await wf.jobs_async(limit=3), list[Job])
    assert_type(await wf.retry_async("all"), int)
    assert_type(await wf.to_mermaid_async(max_nodes=3), str)
    await wf.jobs_async(limt=3)  # type: ignore[call-arg]
    found = await app.get_workflow_async(7)
    assert_type(found, Workflow)
    assert_type(found.status, WorkflowStatus)
    extract.configure(depends_on=found, workflow=found, node="x")
    extract.configure(workflow=7)


def build_sync() -> None:
    with app.workflow("etl") as wf:
        assert_type(wf, WorkflowBuilder)
        wf.add(extract, source="a")
    with wf.grow() as more:
        assert_type(more, WorkflowBuilder)
    assert_type(wf.cancel(abort=False).cancelled, int)
    assert_type(app.get_workflow(wf.id).info, WorkflowInfo)
