import json
import pathlib

import pytest
import torch

from pipeline.core.errors import ConfigError, GenotypeError
from pipeline.core.rng import numpy_stream, torch_stream
from pipeline.nets.cells import edge_list
from pipeline.spaces.darts import Darts
from pipeline.spaces.darts_fewshot import DartsFewShot
from pipeline.spaces.genotype import Genotype
from tests.spaces.genotypes import PUBLISHED, genotype

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
SPACES = pytest.mark.parametrize("space", [DartsFewShot(), Darts()], ids=["darts_fewshot", "darts"])


def parameters(network):
    return sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize(("channels", "n_cells", "expected"), [(16, 5, 1_499_888), (48, 5, 12.85e6), (48, 8, 19.39e6)])
def test_the_supernet_has_the_parameters_of_the_reference(channels, n_cells, expected):
    network = DartsFewShot().supernet(n_classes=64, channels=channels, n_cells=n_cells)
    assert parameters(network) == pytest.approx(expected, rel=0 if isinstance(expected, int) else 4e-4)


@pytest.mark.parametrize(("n_cells", "n_classes", "normal", "reduce", "total", "backbone"), PUBLISHED)
def test_published_genotypes_have_the_parameters_of_the_reference(n_cells, n_classes, normal, reduce, total, backbone):
    network = DartsFewShot().build(genotype(normal, reduce), n_classes=n_classes, channels=48, n_cells=n_cells)
    assert parameters(network) == total
    assert parameters(network) - parameters(network.classifier) == backbone


@SPACES
def test_a_genotype_survives_its_mask(space):
    for seed in range(50):
        sample = space.sample(torch_stream(seed, "sample"))
        mask = space.mask_of(sample)
        assert space.genotype_of(mask) == sample
        assert mask.sum() == 2 * 2 * space.n_nodes and not mask[:, :, 0].any()


@SPACES
def test_edge_groups_hold_the_edges_of_one_node_each(space):
    groups = space.edge_groups
    assert groups[:3] == [(0, 2), (2, 5), (5, 9)] and groups[-1][1] == space.n_edges
    for target, (start, stop) in enumerate(groups, start=2):
        assert {end for _, end in edge_list(space.n_nodes)[start:stop]} == {target}


@SPACES
def test_samples_reach_every_operation_and_every_edge_but_never_none(space):
    seen = torch.zeros_like(space.full_mask())
    stream = numpy_stream(0, "sample")
    for _ in range(200):
        seen |= space.mask_of(space.sample(stream))
    assert torch.equal(seen, space.full_mask())


@SPACES
def test_a_mutation_changes_exactly_one_operation_or_one_input(space):
    kinds = set()
    for seed in range(200):
        before = space.sample(torch_stream(seed, "sample"))
        after = space.mutate(before, torch_stream(seed, "mutate"))
        pairs = [
            (old, new)
            for old_cell, new_cell in zip(before.cells, after.cells, strict=True)
            for old_node, new_node in zip(old_cell, new_cell, strict=True)
            for old, new in zip(old_node, new_node, strict=True)
            if old != new
        ]
        assert len(pairs) == 1
        (old, new), *_ = pairs
        assert (old[0] == new[0]) != (old[1] == new[1])
        assert new[0] != "none"
        kinds.add("operation" if old[0] != new[0] else "input")
    assert kinds == {"operation", "input"}


def test_the_genotype_of_a_mask_prefers_edges_with_fewer_operations_then_earlier_ones():
    space = DartsFewShot()
    mask = space.full_mask()
    mask[0, 6] = torch.tensor([False, False, False, True, False, False, True, False])
    mask[0, 7] = torch.tensor([False] * 7 + [True])
    assert space.genotype_of(mask).normal == (
        (("skip_connect", 0), ("skip_connect", 1)),
        (("skip_connect", 0), ("skip_connect", 1)),
        (("conv_3x3", 2), ("dil_conv_3x3", 1)),
    )


def test_a_mask_that_leaves_a_node_one_edge_is_no_genotype():
    space = DartsFewShot()
    mask = space.full_mask()
    mask[1, 2:4] = False
    with pytest.raises(GenotypeError, match="Node 3 of the reduce cell has 1 edges"):
        space.genotype_of(mask)
    with pytest.raises(GenotypeError, match="torch.bool"):
        space.genotype_of(mask.float())


def test_channels_that_the_norm_of_the_supernet_cannot_hold_are_refused():
    with pytest.raises(ConfigError, match="cannot hold a layer of 24 channels"):
        DartsFewShot().supernet(n_classes=5, channels=24, n_cells=2)


def test_a_node_can_be_fed_by_none():
    space = DartsFewShot()
    text = space.to_text(space.sample(torch_stream(0, "sample")))
    parsed = space.from_text(text.replace(text.split("'")[1], "none"))
    network = space.build(parsed, n_classes=4, channels=4, n_cells=3)
    images = torch.randn(2, 3, 9, 9, generator=torch_stream(0, "images"))
    assert network(images).shape == (2, 4)


def test_training_with_drop_path_needs_and_obeys_the_generator_of_the_network():
    space = DartsFewShot()
    network = space.build(genotype(*PUBLISHED[0][2:4]), n_classes=4, channels=4, n_cells=5)
    images = torch.randn(4, 3, 16, 16, generator=torch_stream(0, "images"))
    network.drop_path.probability = 0.3
    outputs = []
    for seed in (0, 0, 1):
        network.drop_path.generator = torch_stream(seed, "drop")
        outputs.append(network(images))
    assert torch.equal(outputs[0], outputs[1]) and not torch.allclose(outputs[0], outputs[2])
    network.eval()
    assert torch.equal(network(images), network(images))


def test_the_operations_that_run_are_those_of_the_reference_and_a_node_that_reads_one_input_twice_is_refused():
    distinct, doubled = json.loads((GOLDEN / "tegnas_mask_conversion.json").read_text())
    space = Darts()

    def of(pairs) -> Genotype:
        nodes = tuple(tuple(map(tuple, pairs[i : i + 2])) for i in range(0, len(pairs), 2))
        return Genotype(nodes, nodes)

    mask = space.mask_of(of(distinct["normal"]))
    active = [[edge, space.operations[operation]] for edge, operation in mask[0].nonzero().tolist()]
    assert active == distinct["evaluated_normal"]
    # the reference runs `none` on another edge in place of the second of two equal inputs
    assert [1, "none"] in doubled["evaluated_normal"]
    with pytest.raises(GenotypeError, match="twice"):
        space.mask_of(of(doubled["normal"]))


def test_mutations_go_on_where_nodes_of_a_cell_hold_the_same_pairs():
    space, draws = DartsFewShot(), torch_stream(0, "chain")
    found, n_equal = space.sample(draws), 0
    for _ in range(2000):
        n_equal += any(len(set(cell)) < len(cell) for cell in found.cells)
        found = space.mutate(found, draws)
    assert n_equal > 20
