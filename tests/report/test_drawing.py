"""Drawings of cells: every node and operation is there, and stands where a reader can tell it apart."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from pipeline.core.errors import ArtifactError
from pipeline.report.drawing import HUES, draw_architectures, draw_cell, hue, is_chain, layers
from tests.made_results import graph

SVG = "{http://www.w3.org/2000/svg}"
CHAIN = {
    "name": "network",
    "nodes": [f"n{i}" for i in range(8)],
    "edges": [[i, i + 1, "conv_3x3"] for i in range(7)],
}


def drawn(*genotypes: str, cells=None) -> ElementTree.Element:
    entries = [{"seed": seed, "genotype": text, "graph": cells or graph()} for seed, text in enumerate(genotypes)]
    return ElementTree.fromstring(draw_architectures(entries, "Cells"))


def texts(root) -> list[str]:
    return ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]


def boxes(root) -> list[tuple[float, ...]]:
    found = [element for element in root.iter(f"{SVG}rect")]
    return [tuple(float(element.get(name)) for name in ("x", "y", "width", "height")) for element in found]


def test_a_cells_nodes_lie_in_the_order_of_their_longest_way_from_an_input():
    edges = graph()["cells"][0]["edges"]
    assert layers(6, edges) == [0, 0, 1, 2, 3, 4]


def test_a_cycle_is_refused():
    with pytest.raises(ArtifactError, match="cycle"):
        layers(2, [[0, 1, "a"], [1, 0, "b"]])


def test_every_node_and_every_operation_is_written():
    root = drawn("a")
    written = texts(root)
    for cell in graph()["cells"]:
        for _, _, operation in cell["edges"]:
            assert operation == "concat" or operation in written
    assert written.count("output") == 2 and "concat" not in written


def test_no_two_nodes_of_a_cell_overlap():
    root = ElementTree.fromstring(draw_cell(graph()["cells"][0]).render())
    found = boxes(root)
    assert len(found) == 6
    for i, (x, y, w, h) in enumerate(found):
        for x2, y2, w2, h2 in found[i + 1 :]:
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y


def test_no_two_operation_names_of_a_cell_overlap():
    root = ElementTree.fromstring(draw_cell(graph()["cells"][1]).render())
    names = [element for element in root.iter(f"{SVG}text") if "halo" in element.get("class", "")]
    places = [(float(element.get("x")), float(element.get("y"))) for element in names]
    assert len(places) == 6
    for i, (x, y) in enumerate(places):
        assert all(abs(x - x2) > 90 or abs(y - y2) >= 12 for x2, y2 in places[i + 1 :])


def test_everything_lies_inside_the_drawing():
    for cell in (*graph()["cells"], CHAIN):
        drawing = draw_cell(cell)
        root = ElementTree.fromstring(drawing.render())
        for x, y, w, h in boxes(root):
            assert x >= 0 and y >= 0 and x + w <= drawing.width and y + h <= drawing.height


def test_the_only_cell_of_a_space_is_headed_once():
    cell = {"name": "cell", "nodes": ["a", "b", "c"], "edges": [[0, 1, "x"], [0, 2, "x"], [1, 2, "x"]]}
    assert "cell" in texts(ElementTree.fromstring(draw_cell(cell).render()))


def test_two_edges_between_the_same_nodes_are_two_lines():
    cell = {"name": "normal", "nodes": ["a", "b"], "edges": [[0, 1, "conv_3x3"], [0, 1, "skip_connect"]]}
    root = ElementTree.fromstring(draw_cell(cell).render())
    assert len({element.get("d") for element in root.iter(f"{SVG}path")}) == 2


def test_a_fixed_network_is_drawn_as_a_chain_that_turns_at_the_end_of_a_row():
    assert is_chain(8, CHAIN["edges"]) and not is_chain(6, graph()["cells"][0]["edges"])
    found = boxes(ElementTree.fromstring(draw_cell(CHAIN).render()))
    assert len({y for _, y, _, _ in found}) == 2 and len(found) == 8


def test_a_network_of_one_node_is_drawn():
    root = drawn("a", cells={"cells": [{"name": "network", "nodes": ["net"], "edges": []}]})
    assert "net" in texts(root)


def test_seeds_that_found_the_same_genotype_share_a_drawing():
    written = texts(drawn("a", "b", "a"))
    assert "search seeds 0, 2" in written and "search seed 1" in written
    assert written.count("normal cell") == 2


def test_an_operation_has_one_colour_in_all_drawings():
    assert hue("sep_conv_3x3") == hue("sep_conv_5x5") != hue("dil_conv_3x3")
    assert 0 <= hue("an operation of tomorrow") < len(HUES)


def test_the_style_follows_the_readers_colour_scheme():
    text = draw_architectures([{"seed": 0, "genotype": "a", "graph": graph()}], "Cells")
    assert "prefers-color-scheme:dark" in text
    assert not re.search(r"(href|src)=", text)


def test_markup_in_a_label_stays_text():
    cell = {"name": "normal", "nodes": ["<b>", "c_{k-1}"], "edges": [[0, 1, "a&b"]]}
    written = texts(ElementTree.fromstring(draw_cell(cell).render()))
    assert {"<b>", "ck-1", "a&b"} <= set(written)
