"""Architectures as graphs with typed vertices: facts of MetaD2A's encoding, and validity beside igraph's own words."""

import igraph
import pytest
import torch

from pipeline import spaces
from pipeline.core.errors import CapabilityError, GenotypeError
from pipeline.core.rng import torch_stream
from pipeline.spaces.graph_form import GraphForm

SPACE = spaces.get("nas_bench_201")()
FORM = SPACE.graph_form
TEXT = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
TYPES = [0, 5, 5, 4, 3, 5, 4, 1]
# per vertex its type and a bit for each lower vertex; the edges from each operation to the next are understood
ROWS = [[0], [5, 1], [5, 1, 0], [4, 0, 1, 0], [3, 1, 0, 0, 0], [5, 0, 1, 0, 0, 0], [4, 0, 0, 1, 1, 0, 0]]
ROWS += [[1, 0, 0, 0, 0, 1, 1, 1]]


def test_a_cell_has_the_types_and_edges_of_the_published_rows():
    cell = SPACE.from_text(TEXT)
    assert SPACE.to_types(cell).tolist() == TYPES == [row[0] for row in ROWS]
    bits = {(j, i) for i, row in enumerate(ROWS) for j, bit in enumerate(row[1:]) if bit}
    assert set(FORM.edges) == bits | {(i, i + 1) for i in range(1, 6)}
    assert len(FORM.edges) == 15 and (FORM.n_vertices, FORM.n_types) == (8, 7)


def test_all_15625_cells_survive_their_graph():
    for cell in SPACE.enumerate():
        assert SPACE.from_types(SPACE.to_types(cell)) == cell
        assert SPACE.from_igraph(SPACE.to_igraph(cell)) == cell


def test_all_cells_are_valid_and_have_types_of_their_own():
    types = torch.stack([SPACE.to_types(cell) for cell in SPACE.enumerate()])
    assert FORM.valid(types, FORM.adjacency().expand(len(types), -1, -1)).all()
    assert len(types.unique(dim=0)) == 15_625
    assert SPACE.all_from_types(types) == list(SPACE.enumerate())


def test_a_graph_of_igraph_is_directed_and_typed():
    graph = SPACE.to_igraph(SPACE.from_text(TEXT))
    assert graph.is_dag() and graph.vs["type"] == TYPES
    assert sorted(graph.get_edgelist()) == list(FORM.edges)


def valid_by_igraph(types, adjacency):
    graph = igraph.Graph(n=len(types), edges=adjacency.nonzero().tolist(), directed=True)
    kinds = types.tolist()
    return (
        graph.is_dag()
        and len(kinds) == 8
        and kinds[0] == 0
        and kinds[-1] == 1
        and all(2 <= kind <= 6 for kind in kinds[1:-1])
        and all(graph.indegree(v) > 0 for v in range(1, 8))
        and all(graph.outdegree(v) > 0 for v in range(7))
    )


def random_graphs(n):
    """Types that are often right, edges that mostly lead forwards."""
    draws = torch_stream(0, "graphs")
    types = torch.randint(2, 7, (n, 8), generator=draws)
    types[:, 0], types[:, -1] = 0, 1
    odd = torch.rand(n, 8, generator=draws) < 0.02
    types[odd] = torch.randint(-1, 8, (int(odd.sum()),), generator=draws)
    chance = torch.full((8, 8), 0.6).triu(1) + torch.full((8, 8), 0.002).tril()
    adjacency = torch.rand(n, 8, 8, generator=draws) < chance
    return types, adjacency


def test_a_batch_of_graphs_is_judged_as_igraph_judges_each():
    types, adjacency = random_graphs(1500)
    found = FORM.valid(types, adjacency).tolist()
    assert found == [valid_by_igraph(*one) for one in zip(types, adjacency, strict=True)]
    assert found[:200] == [SPACE.is_valid(*one) for one in zip(types[:200], adjacency[:200], strict=True)]
    assert 200 < sum(found) < 1300


def test_what_makes_a_graph_invalid():
    types, edges = torch.tensor(TYPES), FORM.adjacency()
    assert SPACE.is_valid(types, edges)
    for vertex, kind in ((0, 1), (0, 2), (7, 0), (7, 3), (2, 0), (2, 1), (2, 7), (2, -1)):
        changed = types.clone()
        changed[vertex] = kind
        assert not SPACE.is_valid(changed, edges)
    alone = edges.clone()
    alone[:, 3] = False
    idle = edges.clone()
    idle[3] = False
    circle = edges.clone()
    circle[5, 2] = True
    loop = edges.clone()
    loop[4, 4] = True
    assert not any(SPACE.is_valid(types, wrong) for wrong in (alone, idle, circle, loop))
    assert not SPACE.is_valid(types[:7], edges[:7, :7])


def test_other_connected_edges_are_valid_and_stand_for_the_same_cell():
    types, edges = torch.tensor(TYPES), torch.ones(8, 8, dtype=torch.bool).triu(1)
    assert SPACE.is_valid(types, edges)
    assert SPACE.to_text(SPACE.from_igraph(FORM.to_igraph(types, edges))) == TEXT


def test_an_early_end_shortens_the_graph_and_is_filled_up_again():
    types = torch.tensor([0, 4, 1, 0, 0, 0, 0, 0])
    edges = torch.zeros(8, 8, dtype=torch.bool)
    edges[0, 1] = edges[1, 2] = True
    graph = FORM.to_igraph(types, edges)
    assert graph.vcount() == 3 and graph.vs["type"] == [0, 4, 1]
    back = FORM.from_igraph(graph)
    assert torch.equal(back[0], types) and torch.equal(back[1], edges)
    assert not SPACE.is_valid(types, edges)


@pytest.mark.parametrize(
    "types",
    [
        torch.tensor([0, 5, 5, 4, 3, 5, 4, 0]),
        torch.tensor([0, 5, 5, 1, 3, 5, 4, 1]),
        torch.tensor([0, 5, 5, 7, 3, 5, 4, 1]),
        torch.tensor([0, 5, 5, 4, 3, 4, 1]),
        torch.tensor([TYPES]),
        torch.tensor(TYPES).float(),
    ],
)
def test_types_of_no_cell_are_refused(types):
    with pytest.raises(GenotypeError):
        SPACE.from_types(types)


@pytest.mark.parametrize(
    "graph",
    [
        igraph.Graph(n=8, directed=True),
        igraph.Graph(n=8, vertex_attrs={"type": TYPES}),
        igraph.Graph(n=9, directed=True, vertex_attrs={"type": [*TYPES, 1]}),
        igraph.Graph(n=3, directed=True, vertex_attrs={"type": [0, 4, 1]}),
        igraph.Graph(n=8, directed=True, vertex_attrs={"type": [str(kind) for kind in TYPES]}),
    ],
)
def test_graphs_of_no_cell_are_refused(graph):
    with pytest.raises(GenotypeError):
        SPACE.from_igraph(graph)


def test_adjacency_of_another_size_than_the_types_is_refused():
    with pytest.raises(GenotypeError, match="go with an adjacency"):
        SPACE.is_valid(torch.tensor(TYPES), FORM.adjacency()[:7, :7])


def test_edges_that_lead_backwards_make_no_form():
    with pytest.raises(GenotypeError, match="from a lower to a higher"):
        GraphForm(n_vertices=3, n_types=4, edges=((0, 1), (2, 1)))


@pytest.mark.parametrize("name", [name for name in spaces.names() if "encodes" not in spaces.get(name).capabilities])
def test_a_space_that_encodes_nothing_says_which_does(name):
    space = spaces.get(name)()
    for ask in (
        lambda: space.graph_form,
        lambda: space.to_types(None),
        lambda: space.from_types(torch.tensor(TYPES)),
        lambda: space.all_from_types(torch.tensor([TYPES])),
        lambda: space.to_igraph(None),
        lambda: space.from_igraph(None),
        lambda: space.is_valid(torch.tensor(TYPES), FORM.adjacency()),
    ):
        with pytest.raises(CapabilityError, match="nas_bench_201"):
            ask()
