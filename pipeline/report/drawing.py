"""Cells as drawings: nodes in layers, operations on coloured edges, from the plain graph of a genotype file."""

import itertools
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.core.errors import ArtifactError
from pipeline.core.wording import n_of
from pipeline.report.svg import HUES, Svg, text_width

LAYER = 168
NARROW = 96
ROW = 66
SLOT = 17.0
TIGHT = 6.0
PER_ROW = 5
MARGIN = 18

# first match decides; an operation of no family gets a hue from its name
FAMILIES = (("skip", 2), ("sep", 0), ("dil", 1), ("pool", 5), ("1x5", 4), ("5x1", 4), ("1x7", 4), ("conv", 3))
PLAIN = frozenset({"", "concat", "input", "output"})
DASHES = (("5x5", "7 3"), ("7x7", "2 3"), ("avg", "7 3"), ("1x1", "2 3"))


def hue(operation: str) -> int:
    """Index of the operation's colour; the same in every drawing."""
    for part, index in FAMILIES:
        if part in operation:
            return index
    return zlib.crc32(operation.encode()) % len(HUES)


def dash(operation: str) -> str | None:
    """Dash pattern that tells members of a family apart without colour."""
    return next((pattern for part, pattern in DASHES if part in operation), None)


def layers(n_nodes: int, edges: Sequence[Sequence]) -> list[int]:
    """Layer of each node: the longest path from a source. Raises ArtifactError for a graph with a cycle."""
    layer = [0] * n_nodes
    for _ in range(n_nodes):
        moved = False
        for start, end, _operation in edges:
            if layer[end] <= layer[start]:
                layer[end], moved = layer[start] + 1, True
        if not moved:
            return layer
    raise ArtifactError("A cell of the genotype file has a cycle, so it cannot be drawn. Run the search stage again.")


def is_chain(n_nodes: int, edges: Sequence[Sequence]) -> bool:
    """Whether every node has at most one input and one output."""
    starts, ends = [edge[0] for edge in edges], [edge[1] for edge in edges]
    return len(set(starts)) == len(starts) and len(set(ends)) == len(ends) and len(edges) == n_nodes - 1


def _chain_points(edges: Sequence[Sequence], layer: Sequence[int]) -> tuple[list, list]:
    """A chain in rows of PER_ROW nodes, read like text."""
    points = [(LAYER * (position % PER_ROW), 1.4 * ROW * (position // PER_ROW)) for position in layer]
    return points, [[points[start], points[end]] for start, end, _ in edges]


def _layered_points(edges: Sequence[Sequence], layer: Sequence[int]) -> tuple[list, list]:
    """Positions by the layered drawing of Sugiyama et al. (1981), turned so that data flows to the right.

    Returns the nodes' positions and, per edge, its way through the layers it crosses.
    """
    import igraph

    depth, hops, chains = list(layer), [], []
    for start, end, _ in edges:
        chain = [start, *range(len(depth), len(depth) + layer[end] - layer[start] - 1), end]
        depth.extend(range(layer[start] + 1, layer[end]))
        hops.extend(itertools.pairwise(chain))
        chains.append(chain)
    graph = igraph.Graph(n=len(depth), edges=hops, directed=True)
    coordinates = graph.layout_sugiyama(layers=depth, hgap=1, vgap=1, maxiter=200).coords
    labelled = {layer[end] for _, end, operation in edges if operation not in PLAIN}
    gaps = [0.0] + [LAYER if place in labelled else NARROW for place in range(1, max(depth) + 1)]
    across = list(itertools.accumulate(gaps))
    points = [(across[place], ROW * x) for place, (x, _) in zip(depth, coordinates, strict=False)]
    return points[: len(layer)], [[points[node] for node in chain] for chain in chains]


def _curve(route: Sequence[tuple[float, float]]) -> str:
    """A smooth path through the points of a route, horizontal at each of them."""
    (x, y), *rest = route
    parts = [f"M{x:.1f} {y:.1f}"]
    for x2, y2 in rest:
        bend = (x2 - x) / 2
        straight = abs(y2 - y) < 0.05
        parts.append(
            f"H{x2:.1f}" if straight else f"C{x + bend:.1f} {y:.1f} {x2 - bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
        )
        x, y = x2, y2
    return "".join(parts)


def _slots(edges: Sequence[Sequence], routes: Sequence[list], side: int, towards: int, step: float) -> list[float]:
    """Where each edge touches its start (side 0) or end (side 1) node, as a height relative to the node's middle.

    Edges of a node are ordered by the height of the point `towards` of their route, so that they do not cross there.
    """
    heights = [0.0] * len(edges)
    for node in {edge[side] for edge in edges}:
        group = [index for index, edge in enumerate(edges) if edge[side] == node]
        group.sort(key=lambda index: (routes[index][towards][1], index))
        # names need room; edges without one lie close
        gap = step if any(edges[index][2] not in PLAIN for index in group) else TIGHT
        for place, index in enumerate(group):
            heights[index] = gap * (place - (len(group) - 1) / 2)
    return heights


def draw_cell(cell: Mapping[str, Any]) -> Svg:
    """One cell: {"name", "nodes": [labels], "edges": [[from, to, operation], ...]}, data flowing to the right.

    Each operation's name stands on the last, level stretch of its edge, beside the node that receives it.
    """
    nodes = [str(label) for label in cell["nodes"]]
    edges = [(start, end, operation or "") for start, end, operation in cell["edges"]]
    layer = layers(len(nodes), edges)
    chain = is_chain(len(nodes), edges)
    points, routes = (_chain_points if chain else _layered_points)(edges, layer)
    enter = _slots(edges, routes, 1, -2, SLOT)
    leave = _slots(edges, routes, 0, 1, TIGHT)
    n_labelled = [sum(end == node and name not in PLAIN for _, end, name in edges) for node in range(len(nodes))]
    widths = [max(38.0, text_width(label) + 16) for label in nodes]
    sizes = [(width, max(26.0, SLOT * n + 6)) for width, n in zip(widths, n_labelled, strict=True)]
    tallest = max(height for _, height in sizes)
    left = MARGIN + max(width for width, _ in sizes) / 2
    top = MARGIN + 24 + tallest / 2 - min(y for route in [points, *routes] for _, y in route)
    bottom = top + max(y for route in [points, *routes] for _, y in route) + tallest / 2 + MARGIN
    heading = cell["name"] if chain or cell["name"] == "cell" else f"{cell['name']} cell"
    drawing = Svg(left + max(x for x, _ in points) + left, bottom, heading)
    places = []
    for index, (start, end, operation) in enumerate(edges):
        (x1, y1), *middle, (x2, y2) = ((x + left, y + top) for x, y in routes[index])
        begin = (x1 + sizes[start][0] / 2, y1 + leave[index])
        finish = (x2 - sizes[end][0] / 2 - 7, y2 + enter[index])
        places.append(_draw_edge(drawing, operation, [begin, *middle, finish]))
    # names after all lines, so that none is crossed out
    for (_, _, operation), (x, y, anchor) in zip(edges, places, strict=True):
        if operation not in PLAIN:
            drawing.text(x, y, operation, f"halo small f{hue(operation)}", anchor)
    for (x, y), (width, height), label in zip(points, sizes, nodes, strict=True):
        drawing.box(x + left - width / 2, y + top - height / 2, width, height, "node")
        drawing.label(x + left, y + top + 4, label)
    drawing.text(MARGIN, 16, heading, "title")
    return drawing


def _draw_edge(drawing: Svg, operation: str, route: list) -> tuple[float, float, str]:
    """One edge with its arrow head. Returns where its name goes: x, y and what of the name lies at x."""
    plain, colour = operation in PLAIN, hue(operation)
    (x1, y1), (x, y) = route[0], route[-1]
    line, head = ("rule", "faint") if plain else (f"s{colour}", f"f{colour}")
    if x < x1:
        # the edge of a chain that goes on in the next row
        half = (y1 + y) / 2
        way = f"M{x1:.1f} {y1:.1f}h10V{half:.1f}H{x - 14:.1f}V{y:.1f}H{x:.1f}"
        drawing.path(way, line, 2.0, dash(operation), tip=operation or None)
        place, anchor = ((x1 + x) / 2, half - 4), "middle"
    else:
        stretch = text_width(operation, 11) + 8
        if not plain and x - stretch > route[-2][0] + 12:
            route = [*route[:-1], (x - stretch, y), (x, y)]
        drawing.path(_curve(route), line, 1.5 if plain else 2.0, dash(operation), tip=operation or None)
        place, anchor = (x - 2, y - 4), "end"
    drawing.polygon([(x + 7, y), (x - 1, y - 4), (x - 1, y + 4)], head)
    return *place, anchor


def draw_legend(operations: Sequence[str], width: float) -> Svg:
    """Names of the operations beside a piece of their edges, in as many rows as `width` pixels ask for."""
    legend, x, y = Svg(width, 24, "legend"), MARGIN, 14
    for operation in operations:
        size = 40 + text_width(operation, 11) + 18
        if x + size > width and x > MARGIN:
            x, y = MARGIN, y + 20
        legend.line(x, y, x + 30, y, f"s{hue(operation)}", 2.6, dash(operation))
        legend.text(x + 37, y + 4, operation, "small")
        x += size
    legend.height = y + 16
    return legend


def draw_architectures(architectures: Sequence[Mapping[str, Any]], title: str) -> str:
    """All found architectures as one SVG document.

    Args:
        architectures: entries of a genotype file: {"seed", "genotype", "graph": {"cells": [...]}} and, where they are
            for some tasks alone, "k_shot" and "episodes"; those with the same genotype are drawn once, with all their
            seeds.
    """
    merged: dict[str, list] = {}
    for entry in architectures:
        merged.setdefault(entry["genotype"], []).append(entry)
    parts = []
    for entries in merged.values():
        heading = Svg(200, 24, "")
        heading.text(MARGIN, 16, _found_by(entries), "soft small")
        parts += [heading, *(draw_cell(cell) for cell in entries[0]["graph"]["cells"])]
    width = max(420.0, *(part.width for part in parts))
    parts.append(draw_legend(_operations(architectures), width))
    document, y = Svg(width, sum(part.height for part in parts), title), 0.0
    for part in parts:
        document.place(part, 0, y)
        y += part.height
    return document.render()


def _found_by(entries: Sequence[Mapping[str, Any]]) -> str:
    """search seeds 0, 1; 1-shot, 12 tasks."""
    seeds = list(dict.fromkeys(str(entry["seed"]) for entry in entries))
    words = [f"search seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}"]
    for k_shot in sorted({entry["k_shot"] for entry in entries if "k_shot" in entry}):
        n_tasks = sum(len(entry.get("episodes", ())) for entry in entries if entry.get("k_shot") == k_shot)
        words.append(f"{k_shot}-shot" + (f", {n_of(n_tasks, 'task')}" if n_tasks else ""))
    return "; ".join(words)


def _operations(architectures: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of all operations that are drawn, families side by side."""
    names = {
        edge[2] for entry in architectures for cell in entry["graph"]["cells"] for edge in cell["edges"] if edge[2]
    }
    return sorted(names - PLAIN, key=lambda name: (hue(name), name))
