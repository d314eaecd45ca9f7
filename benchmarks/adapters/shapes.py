"""The graphs that are measured, as lists of parents: element n has the positions of job n's parents, all before n."""

from __future__ import annotations

from typing import TypeAlias

Graph: TypeAlias = list[list[int]]


def graph(shape: str, size: int, width: int = 1) -> Graph:
    """
    size: of a chain or a layered graph how many follow each other, else how many stand beside each other.
    width: of each layer.
    unequal: `width` chains of one, two or three jobs, and after those in each layer the jobs of two chains of `size`.
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
    if shape == "unequal":
        return _unequal(size, width)
    raise ValueError(f"shape={shape!r}: pass independent, chain, fan-out, fan-in, layered or unequal")


def _unequal(longest: int, short: int) -> Graph:
    parents: Graph = []
    last: dict[int, int] = {}
    for layer in range(longest):
        for chain in range(short + 2):
            if layer < (longest if chain >= short else chain % 3 + 1):
                parents.append([last[chain]] if layer else [])
                last[chain] = len(parents) - 1
    return parents
