"""Drawings of graphs: golden ones, and that no text of a user's breaks one."""

from __future__ import annotations

import html
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procrastinate_deps import drawing
from procrastinate_deps.graphs import Graph
from procrastinate_deps.jobs import Status
from tests.unit.made_graphs import NOW, job

# What each line of a drawing must look like: labels are made of these characters only.
MERMAID_LINE = re.compile(
    r"""flowchart\ (LR|TD)
    | \ {4}(j\d+|g\d+|more|note)\["([\w\ \-.,:/()×…+=]|\#\d+;)*"\]
    | \ {4}[jg]\d+\ (-->|==>)\ [jg]\d+
    | \ {4}classDef\ \w+\ fill:\#\w{6},stroke:\#\w{6},color:\#\w{6}
    | \ {4}class\ [jg]\d+(,[jg]\d+)*\ \w+""",
    re.VERBOSE,
)
DOT_TEXT = r'"(?:[^"\\\n\r]|\\["\\])*"'
DOT_LINE = re.compile(
    rf"""digraph\ workflow\ \{{ | \}}
    | \ {{4}}rankdir=(LR|TB);
    | \ {{4}}(node|edge)\ \[[\w\-=, "\#]*\];
    | \ {{4}}label={DOT_TEXT};
    | \ {{4}}(j\d+|g\d+|more)\ \[label={DOT_TEXT},\ fillcolor="\#\w{{6}}",\ color="\#\w{{6}}"\];
    | \ {{4}}[jg]\d+\ ->\ [jg]\d+(\ \[penwidth=2.5,\ color="\#\w{{6}}"\])?;""",
    re.VERBOSE,
)


def etl() -> Graph:
    return Graph(
        [
            job(1, 0, 5, task_name="shop.extract"),
            job(2, 0, 7, task_name="shop.extract", status=Status.FAILED),
            job(3, 7.5, task_name="shop.load", node="load"),
            job(4, task_name="report", status=Status.BLOCKED),
        ],
        [(1, 3), (2, 3), (3, 4)],
    )


def large(count: int) -> Graph:
    """One job, then many of one task, then one that waits for them all."""
    parts = [job(n, task_name="a.part", status=Status.SUCCEEDED if n % 2 else Status.TODO) for n in range(2, count + 2)]
    jobs = [job(1, 0, 1, task_name="a.split", node="split"), *parts, job(0, task_name="a.join", status=Status.BLOCKED)]
    return Graph(jobs, [(1, part.id) for part in parts] + [(part.id, 0) for part in parts])


def test_mermaid() -> None:
    assert drawing.to_mermaid(etl()) == (
        "flowchart LR\n"
        '    j1["extract (1)"]\n'
        '    j2["extract (2)"]\n'
        '    j3["load (3)"]\n'
        '    j4["report (4)"]\n'
        "    j1 --> j3\n"
        "    j2 ==> j3\n"
        "    j3 --> j4\n"
        "    classDef blocked fill:#eceff3,stroke:#8792a2,color:#1c2430\n"
        "    class j4 blocked\n"
        "    classDef doing fill:#d9e8ff,stroke:#2563c9,color:#1c2430\n"
        "    class j3 doing\n"
        "    classDef succeeded fill:#d6f2dd,stroke:#23814a,color:#1c2430\n"
        "    class j1 succeeded\n"
        "    classDef failed fill:#ffdcd9,stroke:#c3291c,color:#1c2430\n"
        "    class j2 failed\n"
    )


def test_dot() -> None:
    assert drawing.to_dot(etl(), direction="TD") == (
        "digraph workflow {\n"
        "    rankdir=TB;\n"
        '    node [shape=box, style="rounded,filled", fontname="sans-serif", fillcolor="#ffffff"];\n'
        '    edge [color="#8792a2"];\n'
        '    j1 [label="extract (1)", fillcolor="#d6f2dd", color="#23814a"];\n'
        '    j2 [label="extract (2)", fillcolor="#ffdcd9", color="#c3291c"];\n'
        '    j3 [label="load (3)", fillcolor="#d9e8ff", color="#2563c9"];\n'
        '    j4 [label="report (4)", fillcolor="#eceff3", color="#8792a2"];\n'
        "    j1 -> j3;\n"
        '    j2 -> j3 [penwidth=2.5, color="#1c2430"];\n'
        "    j3 -> j4;\n"
        "}\n"
    )


def test_json() -> None:
    found = json.loads(drawing.to_json(etl(), NOW))
    assert found["statuses"] == {"blocked": 1, "doing": 1, "succeeded": 1, "failed": 1}
    assert found["layers"] == [["j1", "j2"], ["j3"], ["j4"]]
    assert found["edges"] == [
        {"parent": "j1", "child": "j3", "deciding": False, "edges": 1},
        {"parent": "j2", "child": "j3", "deciding": True, "edges": 1},
        {"parent": "j3", "child": "j4", "deciding": False, "edges": 1},
    ]
    assert found["critical_path"] == [2, 3]
    assert found["critical_path_s"] == 999.5
    assert found["notes"] == []
    assert found["nodes"][1] == {
        "key": "j2",
        "label": "extract (2)",
        "status": "failed",
        "layer": 0,
        "jobs": 1,
        "id": 2,
        "task": "shop.extract",
        "node": None,
        "workflow_id": None,
        "created_at": "2024-01-01T00:00:00+00:00",
        "started_at": "2024-01-01T00:00:00+00:00",
        "finished_at": "2024-01-01T00:00:07+00:00",
        "slack_s": 0.0,
        "critical": True,
    }
    assert (found["nodes"][0]["slack_s"], found["nodes"][0]["critical"]) == (2.0, False)


def test_a_large_graph_is_drawn_by_groups() -> None:
    graph = large(10_000)
    drawn = drawing.draw(graph)
    assert [(box.label, len(box.jobs), box.status) for box in drawn.boxes] == [
        ("split (1)", 1, Status.SUCCEEDED),
        ("part × 10,000: 5,000 todo, 5,000 succeeded", 10_000, Status.TODO),
        ("join (0)", 1, Status.BLOCKED),
    ]
    assert [(arrow.parent, arrow.child, arrow.edges) for arrow in drawn.arrows] == [
        ("j1", "g2", 10_000),
        ("g2", "j0", 10_000),
    ]
    said = "10,002 jobs drawn as 3 boxes: a task's in one layer are one box"
    assert drawn.notes == [said]
    assert 'note["10,002 jobs drawn as 3 boxes: a task#39;s' in drawing.to_mermaid(graph)
    assert f'label="{said}";' in drawing.to_dot(graph)
    assert said in json.loads(drawing.to_json(graph, NOW))["notes"]


def test_what_is_left_out_is_said() -> None:
    graph = Graph([job(n, task_name=f"task{n}") for n in range(10_000)], [])
    for text in (drawing.to_mermaid(graph), drawing.to_dot(graph), drawing.to_json(graph, NOW)):
        assert "… 9,500 more jobs" in text
    assert len(drawing.draw(graph).boxes) == 501
    assert json.loads(drawing.to_json(graph, NOW))["nodes"][-1]["jobs"] == 0


def test_named_nodes_stay_alone_while_there_is_room() -> None:
    jobs = [job(n, task_name="part", node=f"n{n}" if n < 3 else None) for n in range(100)]
    graph = Graph(jobs, [])
    assert [box.label for box in drawing.draw(graph, 10).boxes][:3] == ["n0 (0)", "n1 (1)", "n2 (2)"]
    assert [len(box.jobs) for box in drawing.draw(graph, 3).boxes] == [100]


def test_many_edges_between_few_jobs() -> None:
    jobs = [job(n, task_name="a" if n < 30 else "b") for n in range(60)]
    graph = Graph(jobs, [(parent, child) for parent in range(30) for child in range(30, 60)])
    drawn = drawing.draw(graph)
    assert [(len(box.jobs), box.layer) for box in drawn.boxes] == [(30, 0), (30, 1)]
    assert [arrow.edges for arrow in drawn.arrows] == [900]
    jobs = [job(n) for n in range(60)]
    drawn = drawing.draw(Graph(jobs, graph.edges))
    assert len(drawn.arrows) == 500
    assert drawn.notes == ["… 400 more edges"]


@pytest.mark.parametrize(
    "label",
    [
        'say "hi"',
        "a]b[c",
        "<script>alert(1)</script>",
        "two\nlines\r\n",
        "back\\slash\\",
        "#quot; & &amp;",
        "`markdown`",
        "end\x00\x1b[31m",
        "{} | ; %% --> ==>",
        "",
        "\ud800",
    ],
)
def test_labels_are_escaped(label: str) -> None:
    check_lines(Graph([job(1, node=label or None, task_name=label or "x")], []))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_no_label_breaks_a_drawing(names: list[str]) -> None:
    jobs = [job(n, task_name=name, node=name if n % 2 else None) for n, name in enumerate(names)]
    edges = [(n, n + 1) for n in range(len(names) - 1)]
    check_lines(Graph(jobs, edges))
    check_lines(Graph(jobs, edges), max_nodes=2)


def check_lines(graph: Graph, max_nodes: int = 500) -> None:
    mermaid = drawing.to_mermaid(graph, max_nodes=max_nodes)
    dot = drawing.to_dot(graph, max_nodes=max_nodes)
    assert all(MERMAID_LINE.fullmatch(line) for line in mermaid.removesuffix("\n").split("\n")), mermaid
    assert all(DOT_LINE.fullmatch(line) for line in dot.removesuffix("\n").split("\n")), dot
    for text in (mermaid, dot):
        text.encode()
        assert text.splitlines() == text.removesuffix("\n").split("\n")
    json.loads(drawing.to_json(graph, NOW, max_nodes=max_nodes))


def test_an_escaped_label_reads_as_it_was() -> None:
    name = 'a "b" <c> & [d] #e; \\n'
    graph = Graph([job(1, node=name)], [])
    shown = f"{name} (1)"
    (mermaid,) = re.findall(r'j1\["(.*)"\]', drawing.to_mermaid(graph))
    assert re.sub(r"#(\d+);", lambda found: chr(int(found[1])), mermaid) == shown
    (dot,) = re.findall(r'label="((?:[^"\\]|\\.)*)"', drawing.to_dot(graph))
    assert html.unescape(re.sub(r"\\(.)", r"\1", dot)) == shown


def test_a_long_label_is_cut() -> None:
    (box,) = drawing.draw(Graph([job(1, node="x" * 255)], [])).boxes
    assert box.label == "x" * 47 + "… (1)"


def test_an_empty_graph() -> None:
    empty = Graph([], [])
    assert drawing.to_mermaid(empty) == "flowchart LR\n"
    assert json.loads(drawing.to_json(empty, NOW))["layers"] == []
    check_lines(empty)


@pytest.mark.parametrize("options", [{"direction": "XY"}, {"max_nodes": 0}, {"max_edges": -1}])
def test_options_that_can_not_be(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="pass"):
        drawing.to_mermaid(etl(), **options)  # type: ignore[arg-type]
