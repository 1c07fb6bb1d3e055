import pytest
import torch

from pipeline.core.errors import UnknownNameError
from pipeline.nets.auxiliary import AuxiliaryHead
from pipeline.nets.cell_network import TrainableCellNetwork, reduction_cells
from pipeline.nets.init import initialise
from pipeline.nets.stems import HALVING, STEMS, make_stem

CELL = [[("sep_conv_3x3", 0), ("skip_connect", 1)], [("dil_conv_3x3", 0), ("max_pool_3x3", 2)]]


def network(n_cells=5, **more):
    built = TrainableCellNetwork(CELL, CELL, in_channels=3, channels=4, n_cells=n_cells, n_classes=7, **more)
    return initialise(built, "torch_default", torch.Generator().manual_seed(0))


def images(size=16, n=4):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [16, 30, 33])
def test_the_downsampling_stem_gives_maps_of_a_quarter_and_an_eighth(size):
    first, second = make_stem("downsampling", 3, 6)
    before = first(images(size))
    assert before.shape == (4, 6, -(-size // 4), -(-size // 4))
    assert second(before).shape == (4, 6, -(-size // 8), -(-size // 8))
    assert {"downsampling"} == HALVING


def test_an_unknown_stem_is_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'plain'"):
        make_stem("plane", 3, 6)


@pytest.mark.parametrize("stem", sorted(set(STEMS) - {"none"}))
@pytest.mark.parametrize("multiplier", [1, 3])
@pytest.mark.parametrize("n_cells", [1, 2, 5, 8])
def test_every_stem_and_depth_gives_logits_and_features(stem, multiplier, n_cells):
    built = network(n_cells, stem=stem, stem_multiplier=multiplier, auxiliary=True).eval()
    x = images(40)
    assert built(x).shape == (4, 7)
    assert built.features(x).shape == (4, built.feature_dim) == (4, 2 * 4 * 2 ** len(reduction_cells(n_cells)))
    torch.testing.assert_close(built.classifier(built.features(x)), built(x))


def test_the_stem_has_the_channels_of_its_multiplier_and_the_cells_do_not():
    built = network(stem_multiplier=3)
    assert built.stem[0].out_channels == 12
    assert built.cells[0].channels == 4
    assert built.cells[0].preprocess0.conv.in_channels == 12
    assert built.cells[1].preprocess0.conv.in_channels == 12


def test_the_auxiliary_classifier_speaks_in_training_alone():
    built, x = network(auxiliary=True), images()
    logits, others = built.train()(x)
    assert logits.shape == others.shape == (4, 7)
    assert isinstance(built.eval()(x), torch.Tensor)
    assert isinstance(network().train()(x), torch.Tensor)


def test_all_weights_but_its_own_are_the_same_without_the_auxiliary_classifier():
    with_it, without = network(auxiliary=True).state_dict(), network().state_dict()
    assert {name for name in with_it if name not in without} == {n for n in with_it if n.startswith("auxiliary.")}
    assert list(with_it)[: len(without)] == list(without)
    assert all(torch.equal(with_it[name], without[name]) for name in without)


@pytest.mark.parametrize(("n_cells", "place"), [(2, 1), (5, 3), (8, 5), (14, 9), (20, 13)])
def test_the_auxiliary_classifier_reads_the_cell_at_two_thirds_of_the_depth(n_cells, place):
    built, x = network(n_cells, auxiliary=True).train(), images()
    maps = []
    for cell in built.cells:
        cell.register_forward_hook(lambda module, arguments, result: maps.append(result.detach()))
    _, others = built(x)
    assert len(maps) == n_cells
    torch.testing.assert_close(others, built.auxiliary(maps[place]))
    assert max(reduction_cells(n_cells)) == place


@pytest.mark.parametrize("size", [1, 2, 7, 8])
def test_the_auxiliary_classifier_takes_maps_of_any_size_and_sees_all_of_them(size):
    head = initialise(AuxiliaryHead(6, 5), "torch_default", torch.Generator().manual_seed(0)).eval()
    seen = torch.rand(2, 6, size, size, generator=torch.Generator().manual_seed(2)).requires_grad_()
    logits = head(seen)
    assert logits.shape == (2, 5)
    logits.sum().backward()
    assert (seen.grad != 0).all()
