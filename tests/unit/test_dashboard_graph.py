"""What the dashboard draws of a graph, and of numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from procrastinate_deps.dashboard import charts, graph_data
from procrastinate_deps.dashboard.hiding import Hider
from procrastinate_deps.dashboard.rendering import compact, duration, number, short_json, when
from procrastinate_deps.dashboard.shortening import pretty
from procrastinate_deps.dependencies import RunWhen
from procrastinate_deps.explanations import Doomed
from procrastinate_deps.jobs import CancelKind, Status
from procrastinate_deps.statements import GraphRow

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def job(job_id: int, status: Status = Status.TODO, task: str = "t", **fields: Any) -> GraphRow:
    given: dict[str, Any] = {
        "created_at": NOW - timedelta(minutes=5), "node": None, "workflow_id": 1, "run_when": RunWhen.ALL_SUCCEEDED,
        "cancel_kind": None, "started_at": None, "finished_at": None, "gate": None,
    }  # fmt: skip
    return GraphRow(id=job_id, task_name=task, status=status, **{**given, **fields})


def nodes(data: dict[str, Any]) -> dict[str, Any]:
    return {node["key"]: node for node in data["nodes"]}


def test_a_chain() -> None:
    rows = [
        job(1, Status.SUCCEEDED, started_at=NOW - timedelta(seconds=9), finished_at=NOW - timedelta(seconds=3)),
        job(2, Status.DOING, started_at=NOW - timedelta(seconds=2), node="two"),
        job(3, Status.BLOCKED),
    ]
    data = graph_data.graph_data(rows, [(1, 2), (2, 3), (7, 3)], [], now=NOW, focus=2)
    assert [(node["key"], node["layer"]) for node in data["nodes"]] == [("j1", 0), ("j2", 1), ("j3", 2)]
    assert data["edges"] == [
        {"from": "j1", "to": "j2", "count": 1, "critical": 1},
        {"from": "j2", "to": "j3", "count": 1, "unmet": 1},
    ]
    two = nodes(data)["j2"]
    assert (two["focus"], two["ended_at"], two["run_s"], two["ready_at"]) == (
        True, NOW, 2.0, NOW - timedelta(seconds=3),
    )  # fmt: skip
    assert data["critical"]["jobs"] == [1, 2]
    assert (data["grouped"], data["truncated"], data["counts"]) == (
        False, False, {"blocked": 1, "doing": 1, "succeeded": 1},
    )  # fmt: skip


def test_why_jobs_are_or_will_be_cancelled() -> None:
    rows = [
        job(1, Status.FAILED, node="bad", finished_at=NOW),
        job(2, Status.CANCELLED, cancel_kind=CancelKind.UPSTREAM, finished_at=NOW),
        job(3, Status.CANCELLED, cancel_kind=CancelKind.MANUAL, finished_at=NOW),
        job(4, Status.BLOCKED),
        job(5),
    ]
    fate = Doomed(job_id=4, kind=CancelKind.UPSTREAM, because=2, root=1, root_status=Status.FAILED)
    data = graph_data.graph_data(rows, [(1, 2), (2, 4), (5, 4)], [fate], now=NOW)
    why = {key: node.get("why") for key, node in nodes(data).items()}
    assert why["j2"] == "cancelled: bad failed"
    assert why["j3"] == "cancelled by hand"
    assert why["j4"] == "will be cancelled: job 2, because of job 1 (failed)"
    assert {(edge["from"], edge["to"]) for edge in data["edges"] if edge.get("deciding")} == {
        ("j1", "j2"),
        ("j2", "j4"),
    }
    assert data["doomed"] == 1


def wide(width: int, depth: int) -> tuple[list[GraphRow], list[tuple[int, int]]]:
    rows, edges = [], []
    for layer in range(depth):
        first = layer * (width + 1) + 1
        rows += [job(first + at, Status.SUCCEEDED, "page", finished_at=NOW) for at in range(width)]
        rows.append(job(first + width, task="join"))
        edges += [(first + at, first + width) for at in range(width)]
        if layer:
            edges += [(first - 1, first + at) for at in range(width)]
    return rows, edges


def test_many_jobs_of_one_task_are_one_box_until_it_is_opened() -> None:
    rows, edges = wide(40, 2)
    data = graph_data.graph_data(rows, edges, [], now=NOW)
    assert [(node["key"], node["jobs"]) for node in data["nodes"]] == [
        ("g0:page", 40), ("j41", 1), ("g2:page", 40), ("j82", 1),
    ]  # fmt: skip
    assert [edge["count"] for edge in data["edges"]] == [40, 40, 40]
    assert data["grouped"]
    opened = graph_data.graph_data(rows, edges, [], now=NOW, opened=["g2:page", "g7:nothing"])
    assert len(opened["nodes"]) == 43
    assert opened["opened"] == ["g2:page"]
    assert {node.get("group") for node in opened["nodes"]} == {None, "g2:page"}


def test_of_an_opened_group_so_many_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_data, "OPENED", 10)
    rows, edges = wide(40, 1)
    data = graph_data.graph_data(rows, edges, [], now=NOW, opened=["g0:page"])
    assert nodes(data)["g0:page:rest"]["jobs"] == 30
    assert len(data["nodes"]) == 12


def test_a_graph_of_any_size_has_few_boxes() -> None:
    rows, edges = wide(9, 1000)
    data = graph_data.graph_data(rows, edges, [], now=NOW)
    assert len(data["nodes"]) <= graph_data.MAX_BOXES
    assert sum(node["jobs"] for node in data["nodes"]) == len(rows)
    layers = {node["key"]: node["layer"] for node in data["nodes"]}
    assert all(layers[edge["from"]] < layers[edge["to"]] for edge in data["edges"])


def test_no_jobs() -> None:
    data = graph_data.graph_data([], [], [], now=NOW)
    assert (data["nodes"], data["layers"], data["critical"]["jobs"]) == ([], 0, [])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"), (0, "0 s"), (0.0001, "< 1 ms"), (0.0123, "12 ms"), (0.9996, "1000 ms"), (1, "1.0 s"),
        (59.94, "59.9 s"), (59.96, "1 min"), (252, "4 min 12 s"), (3600, "1 h"), (3725, "1 h 2 min"),
        (200_000, "2 d 7 h"), (-3, "0 s"),
    ],
)  # fmt: skip
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_numbers() -> None:
    assert [compact(n) for n in (0, 999, 1000, 12_345, 4_792_643, 10**10)] == [
        "0",
        "999",
        "1k",
        "12.3k",
        "4.79M",
        "10G",
    ]
    assert number(4_792_643) == "4\u202f792\u202f643"


def test_times_are_marked_with_the_exact_ones() -> None:
    text = str(when(datetime.now(UTC) - timedelta(hours=2, minutes=5)))
    assert text.endswith(">2 h ago</time>")
    assert ' UTC">' in text
    assert ">in 4 min<" in str(when(datetime.now(UTC) + timedelta(minutes=4, seconds=30)))
    assert when(None) == "–"


def test_values_are_escaped() -> None:
    assert "<b>" not in str(pretty({"<b>": ["<b>", {"x": "</span>"}, True, None, 1.5]}).text)
    assert short_json({"a": "é", "b": [1]}) == 'a="é", b=[1]'
    assert len(short_json({"a": "x" * 500})) == 120


def test_hiding_at_any_depth() -> None:
    hider = Hider(["*secret*", "PIN"])
    shown = hider("t", {"a": [{"mySecret1": {"x": 1}, "pin": 3, "b": 2}], "pins": 1})
    assert shown == {"a": [{"mySecret1": "(hidden)", "pin": "(hidden)", "b": 2}], "pins": 1}
    assert Hider(lambda task, name, value: value == 7)("t", {"a": 7, "b": {"c": 7}}) == {
        "a": "(hidden)", "b": {"c": "(hidden)"},
    }  # fmt: skip


@pytest.mark.parametrize(("value", "top"), [(0, 1), (1, 1), (3, 5), (50, 50), (51, 100), (0.03, 0.05), (7e9, 1e10)])
def test_the_top_of_a_chart(value: float, top: float) -> None:
    assert charts.nice_top(value) == pytest.approx(top)


def test_a_chart_without_numbers_has_its_axes() -> None:
    series = charts.slots([], [], "hour", NOW)
    drawn = charts.draw(series, "hour")
    assert (len(series), series[-1].start, drawn.runs, drawn.rate_top) == (60, NOW, 0, 1)
    assert (drawn.run_line, drawn.run_band, drawn.wait_line) == ("", "", "")
    assert drawn.latency_ticks[0].label == "1 ms"
    assert (drawn.latency_ticks[0].y, drawn.latency_ticks[-1].y) == (100, 0)


def test_a_search_finds_jobs_within_groups() -> None:
    rows = [job(n, task="many", node=f"part {n}" if n % 2 else None) for n in range(1, 1001)] + [job(2000, task="end")]
    edges = [(n, 2000) for n in range(1, 1001)]

    def look(find: str | None, **more: Any) -> dict[str, Any]:
        return graph_data.graph_data(rows, edges, [], now=NOW, find=find, **more)

    closed = look(None)
    assert (set(nodes(closed)), closed["found"]) == ({"g0:many", "j2000"}, None)
    found = look("Part 777")
    assert found["found"] == {"jobs": 1, "shown": [777]}
    assert {key: node["jobs"] for key, node in nodes(found).items()} == {"g0:many": 999, "j777": 1, "j2000": 1}
    assert (found["grouped"], found["opened"]) == (True, [])
    assert {(edge["from"], edge["count"]) for edge in found["edges"]} == {("g0:many", 999), ("j777", 1)}
    exact = look("77")
    assert exact["found"]["shown"][:2] == [77, 177]
    assert exact["found"]["jobs"] == 19
    assert look("part")["found"]["jobs"] == 500
    assert len(look("part")["found"]["shown"]) == graph_data.FOUND
    assert look("MANY")["found"] == {"jobs": 1000, "shown": []}
    assert look("nothing")["found"] == {"jobs": 0, "shown": []}
    opened = look("part 777", opened=["g0:many"])
    assert opened["opened"] == ["g0:many"]
    assert nodes(opened)["j777"]["group"] == "g0:many"
    assert nodes(opened)["g0:many:rest"]["jobs"] == 1000 - graph_data.OPENED - 1
