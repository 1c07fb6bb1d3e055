"""NAS-Bench-201 against facts published with the benchmark, and against a network written out edge by edge."""

import itertools

import pytest
import torch

from pipeline import spaces
from pipeline.core.errors import ConfigError, GenotypeError, UnknownNameError
from pipeline.core.rng import torch_stream
from pipeline.nets.cost import count_multiply_adds, count_parameters
from pipeline.nets.stage_network import EDGES, StageNetwork
from pipeline.strategies.prune_by_rank import PruneByRank
from tests.strategies.test_prune_by_rank import INDICATORS, TRACES, measure

SPACE = spaces.get("nas_bench_201")()
EMPTY = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
TEXT = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|none~2|"


def test_all_15625_cells_survive_their_text():
    cells = list(SPACE.enumerate())
    texts = [SPACE.to_text(cell) for cell in cells]
    assert len(set(texts)) == len(set(cells)) == 15_625
    assert [SPACE.from_text(text) for text in texts] == cells


def test_a_text_names_operations_in_the_order_of_the_benchmark():
    names = SPACE.from_text(TEXT).operations
    assert names == ("avg_pool_3x3", "nor_conv_1x1", "skip_connect", "nor_conv_1x1", "skip_connect", "none")


@pytest.mark.parametrize(
    "text",
    [
        TEXT[:-1],
        TEXT.replace("~2|", "~1|"),
        TEXT.replace("|+|", "|"),
        TEXT + "+|none~0|",
        "|none~0|+|none~1|none~0|+|none~0|none~1|none~2|",
        "|none~0|+|none~0|+|none~0|none~1|none~2|",
    ],
)
def test_a_text_with_other_edges_is_refused_with_an_example(text):
    with pytest.raises(GenotypeError, match="Expected a text such as"):
        SPACE.from_text(text)


def test_an_unknown_operation_is_named_with_its_nearest():
    with pytest.raises(UnknownNameError, match="nor_conv_3x3"):
        SPACE.from_text(TEXT.replace("nor_conv_1x1", "nor_conv_3x33"))


def test_the_cells_fall_into_as_many_classes_as_the_benchmark_counts():
    assert len({SPACE.isomorphism_class(cell) for cell in SPACE.enumerate()}) == 6_466


def test_cells_of_one_class_compute_the_same():
    direct = SPACE.from_text("|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|")
    detour = SPACE.from_text("|skip_connect~0|+|none~0|none~1|+|none~0|nor_conv_3x3~1|none~2|")
    assert SPACE.isomorphism_class(direct) != SPACE.isomorphism_class(SPACE.from_text(EMPTY))
    networks = [SPACE.build(cell, n_classes=4, channels=4, n_cells=3).eval() for cell in (direct, detour)]
    images = torch.randn(2, 3, 8, 8, generator=torch_stream(0, "images"))
    first, second = (network(images) for network in networks)
    torch.testing.assert_close(first, second)


# megabytes of weights and operations as the benchmark prints them: a constant, and so much per edge of a kind
@pytest.mark.parametrize(("n_classes", "constant"), [(10, 73_306), (100, 79_156), (120, 80_456)])
def test_parameters_are_those_of_the_benchmark(n_classes, constant):
    for seed in range(5):
        cell = SPACE.sample(torch_stream(seed, "cell"))
        network = SPACE.build(cell, n_classes=n_classes, channels=16, n_cells=15)
        n_1x1, n_3x3 = (cell.operations.count(name) for name in ("nor_conv_1x1", "nor_conv_3x3"))
        assert count_parameters(network) == constant + 28_000 * n_1x1 + 243_040 * n_3x3


@pytest.mark.parametrize(
    ("n_classes", "side", "constant", "per_1x1", "per_3x3"),
    [
        (10, 32, 7_943_872, 4_362_240, 35_819_520),
        (100, 32, 7_949_632, 4_362_240, 35_819_520),
        (120, 16, 1_993_792, 1_090_560, 8_954_880),
    ],
)
def test_multiply_adds_are_those_of_the_benchmark_without_norms_activations_and_pools(
    n_classes, side, constant, per_1x1, per_3x3
):
    # the benchmark adds 2 for a norm and 1 for a ReLU per entry of a map of the cells; we count products only
    entries = 5 * sum((16 << stage) * (side >> stage) ** 2 for stage in range(3))
    images = torch.zeros(1, 3, side, side)

    def counted(text):
        return count_multiply_adds(
            SPACE.build(SPACE.from_text(text), n_classes=n_classes, channels=16, n_cells=15), images
        )

    empty = counted(EMPTY)
    assert 0 < constant - empty < 0.03 * constant
    assert counted(EMPTY.replace("none~2", "nor_conv_1x1~2")) - empty == per_1x1 - 3 * entries
    assert counted(EMPTY.replace("none~2", "nor_conv_3x3~2")) - empty == per_3x3 - 3 * entries
    assert counted(EMPTY.replace("none~2", "avg_pool_3x3~2")) == empty


def slow_features(network: StageNetwork, mask, images):
    """Every operation of every edge by itself, in the order of the definition."""
    x = network.stem(images)
    for part in network.cells:
        if not hasattr(part, "edges"):
            x = part.shortcut(part.pool(x)) + part.second(part.first(x))
            continue
        nodes = [x]
        for target in range(1, 4):
            total = torch.zeros_like(x)
            for edge, (source, to) in enumerate(EDGES):
                active = [name for name, on in zip(SPACE.operations, mask[0, edge], strict=True) if on]
                if to == target:
                    for name in active:
                        out = 0 if name == "none" else part.edges[edge][name](nodes[source])
                        total = total + out / len(active)
            nodes.append(total)
        x = nodes[-1]
    return network.final(x).mean((2, 3))


@pytest.mark.parametrize("seed", range(6))
def test_a_masked_supernet_is_the_mean_of_its_active_operations(seed):
    generator = torch_stream(seed, "mask")
    network = SPACE.supernet(
        n_classes=3, channels=8, n_cells=5, norm="batchnorm" if seed % 2 else "groupnorm16"
    ).double()
    mask = torch.rand(1, 6, 5, generator=generator) < 0.5
    network.set_mask(mask)
    images = torch.randn(4, 3, 9, 9, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(network.features(images), slow_features(network, mask, images))


def test_the_supernet_under_the_mask_of_a_cell_is_the_network_of_the_cell():
    cell = SPACE.from_text(TEXT)
    supernet = SPACE.supernet(n_classes=3, channels=4, n_cells=6, norm="batchnorm").double().eval()
    supernet.set_mask(SPACE.mask_of(cell))
    network = SPACE.build(cell, n_classes=3, channels=4, n_cells=6).double().eval()
    kept = [name for name in cell.operations if name != "none"]
    for mine, theirs in zip(network.cells, supernet.cells, strict=True):
        if hasattr(mine, "edges"):
            chosen = [edge[name] for edge, name in zip(theirs.edges, kept, strict=False)]
            for one, other in zip(mine.edges, chosen, strict=True):
                one.load_state_dict(other.state_dict())
        else:
            mine.load_state_dict(theirs.state_dict())
    for part in ("stem", "final", "classifier"):
        getattr(network, part).load_state_dict(getattr(supernet, part).state_dict())
    images = torch.randn(2, 3, 8, 8, generator=torch_stream(0, "images"), dtype=torch.float64)
    torch.testing.assert_close(network(images), supernet(images))


def test_masks_and_cells_name_each_other():
    for cell in itertools.islice(SPACE.enumerate(), 0, 15_625, 97):
        assert SPACE.genotype_of(SPACE.mask_of(cell)) == cell


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(GenotypeError):
        SPACE.genotype_of(torch.ones(1, 6, 4, dtype=torch.bool))
    with pytest.raises(GenotypeError):
        SPACE.thin_supernet().set_mask(torch.ones(1, 6, 5))


def test_the_thin_network_has_one_cell_of_one_channel_and_keeps_its_batch_norms():
    network = SPACE.thin_supernet()
    assert network.features(torch.randn(5, 1, 3, 3)).shape == (5, 1)
    assert [type(module).__name__ for module in network.modules()].count("BatchNorm2d") == 6 * 2 + 1


def test_a_mutation_changes_one_edge_and_reaches_every_neighbour():
    cell = SPACE.from_text(TEXT)
    mutants = {SPACE.mutate(cell, torch_stream(seed, "mutate")) for seed in range(600)}
    assert {SPACE.distance(cell, mutant) for mutant in mutants} == {1}
    assert len(mutants) == 6 * 4


def test_samples_are_uniform_over_operations():
    counts = dict.fromkeys(SPACE.operations, 0)
    generator = torch_stream(0, "cells")
    for _ in range(1000):
        for name in SPACE.sample(generator).operations:
            counts[name] += 1
    assert all(abs(count - 1200) < 5 * (6000 * 0.2 * 0.8) ** 0.5 for count in counts.values())


@pytest.mark.parametrize("n_cells", [1, 2, 3, 5, 8])
def test_any_number_of_cells_is_spread_over_the_stages(n_cells):
    network = SPACE.build(SPACE.from_text(TEXT), n_classes=2, channels=4, n_cells=n_cells)
    assert sum(hasattr(part, "edges") for part in network.cells) == n_cells
    assert network.feature_dim == 4 * 2 ** (min(3, n_cells) - 1)


def test_a_network_without_cells_is_refused():
    with pytest.raises(ConfigError):
        SPACE.build(SPACE.from_text(TEXT), n_classes=2, channels=4, n_cells=0)


def test_pruning_follows_the_complete_trace_of_the_reference_to_its_cell():
    (trace,) = [trace for trace in TRACES if trace["space"] == "nas-bench-201"]
    strategy = PruneByRank(SPACE, INDICATORS, prune_number=trace["prune_number"])
    while not strategy.finished:
        strategy.tell(measure(strategy))
    assert [SPACE.to_text(cell) for cell in strategy.found()] == [trace["arch"]]
