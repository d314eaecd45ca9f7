"""The graphs that are measured, as lists of parents: element n has the positions of job n's parents, all before n."""

from __future__ import annotations

from typing import TypeAlias

Graph: TypeAlias = list[list[int]]


def graph(shape: str, size: int, width: int = 1) -> Graph:
    """
    size: of a chain or a layered graph how many follow each other, else how many stand beside each other.
    width: of each layer.
    """
    if shape == "independent":
        return [[] for _ in range(size)]
    if shape == "chain":
        return [[n - 1] if n else [] for n in range(size)]
    if shape == "fan-out":
        return [[], *([0] for _ in range(size))]
    if shape == "fan-in":
        return [*([] for _ in range(size)), list(range(size))]
    if shape == "layered":
        layers = [range(n * width, (n + 1) * width) for n in range(size)]
        return [list(layers[n - 1]) if n else [] for n in range(size) for _ in layers[n]]
    raise ValueError(f"shape={shape!r}: pass independent, chain, fan-out, fan-in or layered")
