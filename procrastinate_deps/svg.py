"""A drawing of a graph as SVG: its layers side by side, as few crossings as a few rounds give, curves for the edges."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from procrastinate_deps.drawing import COLOURS, MAX_EDGES, MAX_NODES, draw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from procrastinate_deps.drawing import Box, Drawing
    from procrastinate_deps.graphs import Graph
    from procrastinate_deps.jobs import Status

ROUNDS = 8
"""How often the layers are put in the order of their neighbours: more of them change little."""

MAX_BENDS = 20_000
"""Edges over several layers go round what is between, unless that takes more places than this."""

CHARACTER = 7.0
PADDING = 12.0
HEIGHT = 40.0
BEND_HEIGHT = 8.0
GAP = 14.0
LAYER_GAP = 64.0
MARGIN = 24.0
LINE = 18.0

# of XML 1.0 text: what may stand in a document at all
_FORBIDDEN = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(slots=True)
class _Place:
    """Where a box stands, or where an edge passes a layer (box None). `across` is its middle within the layer.

    `size` is what it takes up there, `width` the width of its box.
    """

    box: Box | None
    layer: int
    size: float
    width: float = 0.0
    across: float = 0.0


def to_svg(
    graph: Graph,
    *,
    max_nodes: int = MAX_NODES,
    max_edges: int = MAX_EDGES,
    direction: str = "LR",
    title: str = "",
) -> str:
    """The graph as an SVG document: boxes coloured by status, thick lines from the parents that decided.

    Parameters
    ----------
    max_nodes, max_edges:
        See `drawing.draw`.
    direction:
        "LR", from left to right, or "TD", from top to bottom. Default: "LR".
    title:
        Stands above it.
    """
    if direction not in ("LR", "TD"):
        raise ValueError(f'direction={direction!r}: pass "LR", from left to right, or "TD", from top to bottom')
    return _Picture(draw(graph, max_nodes, max_edges), flat=direction == "LR").document(title)


class _Picture:
    def __init__(self, drawing: Drawing, *, flat: bool) -> None:
        self._drawing = drawing
        # from left to right, else from top to bottom
        self._flat = flat
        self._places: dict[str, _Place] = {}
        self._layers: list[list[_Place]] = []
        self._edges: list[tuple[list[_Place], bool]] = []
        self._lay_out()

    def _lay_out(self) -> None:
        boxes = self._drawing.boxes
        self._layers = [[] for _ in range(max((box.layer for box in boxes), default=-1) + 1)]
        # side by side with equal widths, as in columns of text
        widest = [max(_width(box) for box in boxes if box.layer == layer) for layer in range(len(self._layers))]
        for box in boxes:
            width = widest[box.layer] if self._flat else _width(box)
            place = _Place(box, box.layer, HEIGHT if self._flat else width, width)
            self._places[box.key] = place
            self._layers[box.layer].append(place)
        ends = [
            (self._places[arrow.parent], self._places[arrow.child], arrow.deciding) for arrow in self._drawing.arrows
        ]
        bends = sum(child.layer - parent.layer - 1 for parent, child, _ in ends) <= MAX_BENDS
        above: dict[int, list[_Place]] = {}
        below: dict[int, list[_Place]] = {}
        for parent, child, deciding in ends:
            way = [parent]
            for layer in range(parent.layer + 1, child.layer) if bends else ():
                bend = _Place(None, layer, BEND_HEIGHT)
                self._layers[layer].append(bend)
                way.append(bend)
            way.append(child)
            self._edges.append((way, deciding))
            for upper, lower in pairwise(way):
                above.setdefault(id(lower), []).append(upper)
                below.setdefault(id(upper), []).append(lower)
        self._order(above, below)
        self._align(above, below)

    def _order(self, above: dict[int, list[_Place]], below: dict[int, list[_Place]]) -> None:
        """Each in the middle of its neighbours in the layer before, then in the one after."""
        for number in range(ROUNDS):
            down = number % 2 == 0
            neighbours = above if down else below
            for layer in self._layers if down else reversed(self._layers):
                rank = {id(each): place for place, each in enumerate(layer)}
                for each in layer:
                    others = neighbours.get(id(each))
                    each.across = (
                        sum(other.across for other in others) / len(others) if others else float(rank[id(each)])
                    )
                layer.sort(key=lambda each: each.across)
                for place, each in enumerate(layer):
                    each.across = float(place)

    def _align(self, above: dict[int, list[_Place]], below: dict[int, list[_Place]]) -> None:
        """Coordinates: as near to the neighbours as the order and the sizes allow."""
        for layer in self._layers:
            _spread(layer, [0.0] * len(layer))
        for number in range(ROUNDS):
            neighbours = above if number % 2 == 0 else below
            for layer in self._layers if number % 2 == 0 else reversed(self._layers):
                wished = []
                for each in layer:
                    others = neighbours.get(id(each)) or [each]
                    wished.append(sum(other.across for other in others) / len(others))
                _spread(layer, wished)
        least = min((each.across - each.size / 2 for layer in self._layers for each in layer), default=0.0)
        for layer in self._layers:
            for each in layer:
                each.across -= least

    def document(self, title: str) -> str:
        depths = [
            max((each.width if self._flat else HEIGHT for each in layer if each.box is not None), default=0.0)
            for layer in self._layers
        ]
        starts = [sum(depths[:layer]) + layer * LAYER_GAP for layer in range(len(depths))]
        length = starts[-1] + depths[-1] if depths else 0.0
        breadth = max((each.across + each.size / 2 for layer in self._layers for each in layer), default=0.0)
        notes = list(self._drawing.notes)
        statuses = list(dict.fromkeys(box.status for box in self._drawing.boxes if box.status is not None))
        top = MARGIN + (LINE + 8 if title else 0)
        wide, high = (length, breadth) if self._flat else (breadth, length)
        longest = max([len(title), *map(len, notes), len(statuses) * 14], default=0)
        width = max(wide, longest * CHARACTER) + 2 * MARGIN
        height = top + high + MARGIN + (len(notes) + bool(statuses)) * LINE + MARGIN

        def point(depth: float, across: float) -> tuple[float, float]:
            return (MARGIN + depth, top + across) if self._flat else (MARGIN + across, top + depth)

        lines = [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
                f'height="{height:.0f}" font-family="ui-sans-serif, system-ui, sans-serif" font-size="12">'
            ),
            f"<title>{_text(title or 'workflow')}</title>",
            (
                '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="9" markerHeight="9" '
                'orient="auto-start-reverse" markerUnits="userSpaceOnUse">'
                '<path d="M0,0.5 L8,4 L0,7.5 z" fill="#5b6675"/></marker></defs>'
            ),
            f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
        ]
        if title:
            lines.append(
                f'<text x="{MARGIN:.0f}" y="{MARGIN + 12:.0f}" font-size="16" font-weight="600" fill="#1c2430">'
                f"{_text(title)}</text>"
            )
        lines.append('<g fill="none">')
        for way, deciding in self._edges:
            points = [point(starts[way[0].layer] + self._depth(way[0], depths), way[0].across)]
            for bend in way[1:-1]:
                points.append(point(starts[bend.layer], bend.across))
                points.append(point(starts[bend.layer] + depths[bend.layer], bend.across))
            points.append(point(starts[way[-1].layer] - 1, way[-1].across))
            colour, stroke = ("#1c2430", 2.2) if deciding else ("#9aa5b3", 1.2)
            path = self._curve(points)
            lines.append(f'<path d="{path}" stroke="{colour}" stroke-width="{stroke}" marker-end="url(#tip)"/>')
        lines.append("</g>")
        for place in self._places.values():
            box = place.box
            if box is None:
                continue
            x, y = point(starts[place.layer], place.across)
            x, y = (x, y - HEIGHT / 2) if self._flat else (x - place.width / 2, y)
            lines += _drawn(box, x, y, place.width)
        y = top + high + MARGIN
        if statuses:
            lines += _legend(statuses, MARGIN, y + 10)
            y += LINE
        for note in notes:
            lines.append(f'<text x="{MARGIN:.0f}" y="{y + 10:.0f}" fill="#5b6675">{_text(note)}</text>')
            y += LINE
        return "\n".join([*lines, "</svg>"]) + "\n"

    def _depth(self, place: _Place, depths: Sequence[float]) -> float:
        if place.box is None:
            return depths[place.layer]
        return place.width if self._flat else HEIGHT

    def _curve(self, points: Sequence[tuple[float, float]]) -> str:
        parts = [f"M{points[0][0]:.1f},{points[0][1]:.1f}"]
        for number, ((x, y), (to_x, to_y)) in enumerate(pairwise(points)):
            if number % 2:
                # along a layer, straight
                parts.append(f"L{to_x:.1f},{to_y:.1f}")
            elif self._flat:
                middle = (x + to_x) / 2
                parts.append(f"C{middle:.1f},{y:.1f} {middle:.1f},{to_y:.1f} {to_x:.1f},{to_y:.1f}")
            else:
                middle = (y + to_y) / 2
                parts.append(f"C{x:.1f},{middle:.1f} {to_x:.1f},{middle:.1f} {to_x:.1f},{to_y:.1f}")
        return " ".join(parts)


def _spread(layer: Sequence[_Place], wished: Sequence[float]) -> None:
    """Put each as near to what it wishes as those before and behind it leave room: blocks that touch move together."""
    # each block: its members' wishes less their own offsets, how many, and the offset of its last one
    blocks: list[tuple[float, int]] = []
    offsets: list[float] = []
    offset = 0.0
    for number, each in enumerate(layer):
        if number:
            offset += (layer[number - 1].size + each.size) / 2 + GAP
        offsets.append(offset)
        total, count = wished[number] - offset, 1
        while blocks and blocks[-1][0] / blocks[-1][1] >= total / count:
            before, members = blocks.pop()
            total, count = total + before, count + members
        blocks.append((total, count))
    number = 0
    for total, count in blocks:
        for _ in range(count):
            layer[number].across = total / count + offsets[number]
            number += 1


def _width(box: Box) -> float:
    name, _, under = _lines(box)
    return max(len(name), len(under), 8) * CHARACTER + 2 * PADDING


def _lines(box: Box) -> tuple[str, str, str]:
    """Name and, below it, status: a group's label has both."""
    if len(box.jobs) > 1:
        return box.label.partition(": ")
    return box.label, "", "" if box.status is None else str(box.status)


def _drawn(box: Box, x: float, y: float, width: float) -> list[str]:
    fill, border = ("#ffffff", "#8792a2") if box.status is None else COLOURS[box.status]
    name, _, under = _lines(box)
    middle = x + width / 2
    label = box.label if len(box.jobs) != 1 else f"{box.label}: {box.status}"
    above = y + (17 if under else 24)
    lines = [
        f"<g><title>{_text(label)}</title>",
        (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{HEIGHT:.0f}" rx="7" fill="{fill}" '
            f'stroke="{border}" stroke-width="1.4"/>'
        ),
        f'<text x="{middle:.1f}" y="{above:.1f}" text-anchor="middle" fill="#1c2430">{_text(name)}</text>',
    ]
    if under:
        lines.append(
            f'<text x="{middle:.1f}" y="{y + 32:.1f}" text-anchor="middle" font-size="10.5" fill="#4a5463">'
            f"{_text(under)}</text>"
        )
    return [*lines, "</g>"]


def _legend(statuses: Sequence[Status], x: float, y: float) -> list[str]:
    lines = []
    for status in sorted(statuses, key=list(COLOURS).index):
        fill, border = COLOURS[status]
        lines.append(
            f'<rect x="{x:.0f}" y="{y - 9:.0f}" width="11" height="11" rx="3" fill="{fill}" stroke="{border}"/>'
            f'<text x="{x + 16:.0f}" y="{y:.0f}" fill="#4a5463">{_text(str(status))}</text>'
        )
        x += 14 * CHARACTER
    return lines


def _text(text: str) -> str:
    """As it can stand between tags or in an attribute."""
    text = _FORBIDDEN.sub("\ufffd", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
