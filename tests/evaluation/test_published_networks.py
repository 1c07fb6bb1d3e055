"""The genotypes that TE-NAS and TEG-NAS published, and those of DARTS, as networks of the published sizes.

Published parameter counts leave the auxiliary classifier out and are rounded to a tenth of a million.
"""

import pytest
import torch

from pipeline import spaces
from pipeline.core.config import BUDGETS, build, resolve
from pipeline.evaluation.settings import DARTS_SETS, NetworkConfig
from pipeline.nets.cost import count_parameters

WORDS = {
    "sep3": "sep_conv_3x3",
    "sep5": "sep_conv_5x5",
    "dil3": "dil_conv_3x3",
    "dil5": "dil_conv_5x5",
    "skip": "skip_connect",
    "avg": "avg_pool_3x3",
    "max": "max_pool_3x3",
}
SHORT = {
    "TENAS_cifar10": (
        "dil3-0 sep5-1 sep3-0 sep3-2 skip-0 dil5-1 sep3-1 sep5-3",
        "sep5-0 sep5-1 sep5-1 sep5-2 sep3-1 sep3-3 sep5-2 sep3-4",
    ),
    "TENAS_imagenet": (
        "sep3-0 skip-1 dil5-1 sep3-2 sep3-0 dil5-3 sep3-0 dil3-4",
        "dil3-0 sep5-1 dil3-0 sep3-2 sep3-0 dil3-1 sep3-0 sep5-4",
    ),
    "TEGNAS_RL": (
        "sep5-0 sep5-1 dil3-0 dil3-1 skip-1 sep5-0 dil5-2 avg-1",
        "sep5-1 sep5-0 dil5-0 max-2 sep3-2 sep5-1 sep5-2 sep3-3",
    ),
    "TEGNAS_Evolution": (
        "sep5-1 dil5-0 skip-2 sep5-1 skip-0 sep5-1 sep3-2 sep5-1",
        "sep5-1 sep5-0 dil5-2 sep5-1 sep5-3 dil5-2 dil5-4 sep5-3",
    ),
    "DARTS_V2": (
        "sep3-0 sep3-1 sep3-0 sep3-1 sep3-1 skip-0 skip-0 dil3-2",
        "max-0 max-1 skip-2 max-1 max-0 skip-2 skip-2 max-1",
    ),
}


def text_of(name):
    """The genotype in the text that the published tools print."""
    normal, reduce = (
        [(WORDS[word.split("-")[0]], int(word.split("-")[1])) for word in cell.split()] for cell in SHORT[name]
    )
    return f"Genotype(normal={normal}, normal_concat=range(2, 6), reduce={reduce}, reduce_concat=range(2, 6))"


def network_of(name, dataset, n_classes, **more):
    known = {*BUDGETS, *DARTS_SETS}
    size = build(NetworkConfig, resolve(NetworkConfig, None, ("paper", dataset), known, "network"))
    space = spaces.get("darts")()
    outline = {field: getattr(size, field) for field in ("channels", "n_cells", "stem", "stem_multiplier")}
    return space.build(space.from_text(text_of(name)), n_classes=n_classes, **outline, **more)


@pytest.mark.parametrize(
    ("dataset", "n_classes", "expected", "published"),
    [("cifar10", 10, 3_349_342, 3.3e6), ("imagenet", 1000, 4_718_752, 4.7e6)],
)
def test_the_second_order_genotype_of_darts_has_its_published_parameters(dataset, n_classes, expected, published):
    found = count_parameters(network_of("DARTS_V2", dataset, n_classes))
    assert found == pytest.approx(published, abs=0.05e6)
    assert found == expected


def test_the_architecture_that_te_nas_found_on_imagenet_has_the_published_parameters():
    # 5.4 million in the paper's table
    assert count_parameters(network_of("TENAS_imagenet", "imagenet", 1000)) == pytest.approx(5.4e6, abs=0.05e6)


# the paper's table says 3.8 million for CIFAR-10; the genotype released as TENAS_cifar10 has 4.14 at the same 36
# channels and 20 cells at which the count of DARTS is right, so it is not the (only) network of that row
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("TENAS_cifar10", 4_137_526),
        ("TENAS_imagenet", 3_779_398),
        ("TEGNAS_RL", 3_557_782),
        ("TEGNAS_Evolution", 3_979_846),
    ],
)
def test_published_genotypes_build_at_the_size_of_cifar(name, expected):
    network = network_of(name, "cifar10", 10).eval()
    assert count_parameters(network) == expected
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_the_auxiliary_classifier_is_as_large_as_that_of_darts():
    with_it, without = (
        count_parameters(network_of("DARTS_V2", "cifar10", 10, auxiliary=flag)) for flag in (True, False)
    )
    channels = 36 * 4 * 4
    assert with_it - without == channels * 128 + 2 * 128 + 4 * 128 * 768 + 2 * 768 + 768 * 10 + 10


@pytest.mark.parametrize("name", list(SHORT))
def test_the_text_of_a_published_genotype_reads_back(name):
    space = spaces.get("darts")()
    genotype = space.from_text(text_of(name))
    assert space.from_text(space.to_text(genotype)) == genotype
