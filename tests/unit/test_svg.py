"""A graph as SVG: well-formed whatever the names are, no boxes over each other, arrows from box to box."""

from __future__ import annotations

import itertools
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procrastinate_deps.graphs import Graph
from procrastinate_deps.jobs import Status
from procrastinate_deps.svg import to_svg
from tests.unit.made_graphs import job

NS = "{http://www.w3.org/2000/svg}"


def boxes(text: str) -> dict[str, tuple[float, float, float, float]]:
    """By what they stand for: left, top, right and bottom."""
    found = {}
    for group in ET.fromstring(text).iter(f"{NS}g"):
        title, rect = group.find(f"{NS}title"), group.find(f"{NS}rect")
        if title is not None and rect is not None:
            x, y, width, height = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
            found[str(title.text)] = (x, y, x + width, y + height)
    return found


def paths(text: str) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Where each line begins and ends."""
    found = []
    for path in ET.fromstring(text).iter(f"{NS}path"):
        if "marker-end" in path.attrib:
            numbers = path.attrib["d"].replace("M", "").replace("C", "").replace("L", "").split()
            first, last = (tuple(map(float, pair.split(","))) for pair in (numbers[0], numbers[-1]))
            found.append(((first[0], first[1]), (last[0], last[1])))
    return found


def layered(*layers: int) -> Graph:
    """Every job of a layer after every one of the layer before, and after the very first job."""
    ids = itertools.count(1)
    rows = [[next(ids) for _ in range(size)] for size in layers]
    edges = {(parent, child) for upper, lower in itertools.pairwise(rows) for parent in upper for child in lower}
    edges |= {(1, child) for row in rows[1:] for child in row}
    return Graph([job(each) for row in rows for each in row], sorted(edges))


@pytest.mark.parametrize("direction", ["LR", "TD"])
@pytest.mark.parametrize("layers", [(1,), (1, 3, 2), (5, 1, 5), (4, 4, 4, 4)])
def test_no_box_is_over_another_and_children_stand_behind_parents(direction: str, layers: tuple[int, ...]) -> None:
    graph = layered(*layers)
    text = to_svg(graph, direction=direction)
    found = boxes(text)
    assert len(found) == sum(layers)
    for (ax, ay, bx, by), (cx, cy, dx, dy) in itertools.combinations(found.values(), 2):
        assert bx <= cx or dx <= ax or by <= cy or dy <= ay
    along = 0 if direction == "LR" else 1
    where = {int(name.split("(")[1].split(")")[0]): box for name, box in found.items()}
    for parent, child in graph.edges:
        assert where[parent][along + 2] < where[child][along]
    assert len(paths(text)) == len(graph.edges)
    for (start_x, start_y), (end_x, end_y) in paths(text):
        assert any(a <= start_x <= c and b <= start_y <= d for a, b, c, d in where.values())
        assert any(a - 2 <= end_x <= c and b - 2 <= end_y <= d for a, b, c, d in where.values())


def test_everything_is_on_the_sheet() -> None:
    text = to_svg(
        layered(1, 7, 2), title="a title that is rather longer than the graph is wide, to see what comes of it"
    )
    root = ET.fromstring(text)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for left, top, right, bottom in boxes(text).values():
        assert left >= 0
        assert top >= 0
        assert right <= width
        assert bottom <= height


def test_a_straight_chain_is_straight() -> None:
    graph = Graph([job(1), job(2), job(3)], [(1, 2), (2, 3)])
    assert {box[1] for box in boxes(to_svg(graph)).values()} == {boxes(to_svg(graph))["task1 (1): todo"][1]}


def test_statuses_groups_and_what_is_left_out() -> None:
    jobs = [job(1, node="first", status=Status.FAILED), *[job(each, task_name="many") for each in range(2, 12)]]
    text = to_svg(Graph(jobs, [(1, each) for each in range(2, 12)]), max_nodes=5)
    assert "first (1): failed" in boxes(text)
    assert "many × 10: 10 todo" in boxes(text)
    assert "11 jobs drawn as 2 boxes" in text
    assert "#ffdcd9" in text


def test_an_empty_graph() -> None:
    assert boxes(to_svg(Graph([], []))) == {}


def test_a_direction_that_is_none() -> None:
    with pytest.raises(ValueError, match="pass"):
        to_svg(Graph([], []), direction="up")


@settings(max_examples=100)
@given(st.text(), st.text(min_size=1))
def test_no_name_breaks_it(title: str, node: str) -> None:
    evil = '</text><script>alert("1")</script>&lt;\x00\x1b\ufffe'
    text = to_svg(Graph([job(1, node=node + evil), job(2, task_name=evil)], [(1, 2)]), title=title + evil)
    assert ET.fromstring(text) is not None
    assert "<script" not in text
