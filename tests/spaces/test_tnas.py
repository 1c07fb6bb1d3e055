import json
import math
import pathlib

import pytest
import torch
from torch.nn.functional import cross_entropy

from pipeline import spaces
from pipeline.core.errors import GenotypeError
from pipeline.core.rng import torch_stream
from pipeline.nets.cells import edge_list
from pipeline.nets.cost import count_multiply_adds, count_parameters
from pipeline.nets.init import initialise
from pipeline.spaces.tnas import TNas

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
SPACE = TNas()
DECODING = json.loads((GOLDEN / "tnas_decoding.json").read_text())["cases"]
COUNTS = json.loads((GOLDEN / "tnas_param_counts.json").read_text())["counts"]
STEP = json.loads((GOLDEN / "tnas_meta_step.json").read_text())
WORDS = {
    "avg": "avg_pool_3x3", "max": "max_pool_3x3", "skip": "skip_connect", "sep3": "sep_conv_3x3",
    "sep5": "sep_conv_5x5", "dil3": "dil_conv_3x3", "dil5": "dil_conv_5x5",
}  # fmt: skip
PUBLISHED = {
    "AUTO_MAML_2": (
        "avg-0 avg-1 avg-1 avg-2 avg-1 avg-2 dil3-3 avg-2",
        "avg-0 dil5-1 avg-0 dil5-1 skip-3 dil5-2 skip-4 skip-3",
        25_958_512,
    ),
    "AUTO_MAML_3": (
        "dil5-1 dil5-0 dil5-2 dil3-1 sep5-2 sep3-3 skip-4 dil3-3",
        "sep5-0 avg-1 avg-1 skip-2 skip-2 avg-1 skip-2 max-1",
        27_713_488,
    ),
}
TEXT = "Genotype(normal={}, normal_concat=range(2, 6), reduce={}, reduce_concat=range(2, 6))"


def published(name):
    cells = PUBLISHED[name][:2]
    pairs = ([(WORDS[word.split("-")[0]], int(word.split("-")[1])) for word in cell.split()] for cell in cells)
    return SPACE.from_text(TEXT.format(*pairs))


def flat(cell):
    return [list(pair) for node in cell for pair in node]


def alphas(seed, spread=1.0):
    generator = torch_stream(seed, "alphas")
    return [spread * torch.randn(14, 8, generator=generator) for _ in range(2)]


@pytest.mark.parametrize("case", DECODING, ids=[case["name"] for case in DECODING])
def test_alphas_decode_to_the_genotype_of_the_reference_strongest_edge_first(case):
    genotype = spaces.decode_alphas(torch.tensor(case["alphas_normal"]), torch.tensor(case["alphas_reduce"]))
    assert flat(genotype.normal) == case["genotype"]["normal"]
    assert flat(genotype.reduce) == case["genotype"]["reduce"]
    assert count_parameters(SPACE.build(genotype, n_classes=5, channels=16)) == case["n_params_C16_5way"]
    assert SPACE.from_text(SPACE.to_text(genotype)) == genotype


def decoded_slowly(alpha):
    """The rule, edge by edge, on plain numbers: (score, operation) of each, then the two best of each node."""
    nodes, edges = [], edge_list(4)
    for node in range(2, 6):
        found = []
        for row, (source, target) in zip(alpha.softmax(-1).tolist(), edges, strict=True):
            if target == node:
                score = max(row[1:])
                found.append((-score, source, SPACE.operations[1 + row[1:].index(score)]))
        nodes.append(tuple((operation, source) for _, source, operation in sorted(found)[:2]))
    return tuple(nodes)


@pytest.mark.parametrize("spread", [1e-3, 1.0, 10.0])
@pytest.mark.parametrize("seed", range(10))
def test_decoding_follows_the_rule(seed, spread):
    normal, reduce = alphas(seed, spread)
    genotype = spaces.decode_alphas(normal, reduce)
    assert genotype.cells == (decoded_slowly(normal), decoded_slowly(reduce))
    assert "none" not in str(genotype)


@pytest.mark.parametrize("seed", range(10))
def test_a_constant_added_to_a_row_changes_no_genotype(seed):
    # halves, so that nothing is rounded
    given = [(2 * alpha).round() / 2 for alpha in alphas(seed, 2.0)]
    shift = torch.randint(-8, 8, (14, 1), generator=torch_stream(seed, "shift")) / 2
    assert spaces.decode_alphas(*given) == spaces.decode_alphas(*(alpha + shift for alpha in given))


def test_a_row_dominated_by_none_loses_its_edge_though_none_is_never_chosen():
    normal, reduce = (alpha.clone() for alpha in alphas(0, 0.1))
    # of the last node: edges 9 to 13, inputs 0 to 4
    normal[9, 3], normal[12, 5] = 5.0, 4.0
    kept = spaces.decode_alphas(normal, reduce).normal[3]
    assert kept == (("skip_connect", 0), ("sep_conv_5x5", 3))
    normal[9, 0] = 20.0
    left = spaces.decode_alphas(normal, reduce).normal[3]
    assert left[0] == ("sep_conv_5x5", 3) and left[1][1] != 0
    normal[:, 0] = 20.0
    assert "none" not in str(spaces.decode_alphas(normal, reduce))


def test_decoding_reads_alphas_of_a_graph_and_of_double_precision():
    given = alphas(0)
    expected = spaces.decode_alphas(*given)
    assert spaces.decode_alphas(*(alpha.double().requires_grad_() for alpha in given)) == expected


def test_alphas_of_another_shape_or_without_a_value_are_refused():
    normal, reduce = alphas(0)
    with pytest.raises(GenotypeError, match=r"reduce cell have shape \(9, 8\); this space needs \(14, 8\)"):
        spaces.decode_alphas(normal, reduce[:9])
    normal[0, 0] = math.nan
    with pytest.raises(GenotypeError, match="normal cell hold values that are no numbers.*Lower the learning rate"):
        spaces.decode_alphas(normal, reduce)


def test_the_order_of_a_nodes_inputs_is_kept_and_can_be_set_aside():
    genotype = published("AUTO_MAML_2")
    assert genotype.reduce[3] == (("skip_connect", 4), ("skip_connect", 3))
    assert "('skip_connect', 4), ('skip_connect', 3)" in SPACE.to_text(genotype)
    ordered = genotype.in_order()
    assert ordered != genotype and ordered.reduce[3] == (("skip_connect", 3), ("skip_connect", 4))
    assert ordered.in_order() == ordered and torch.equal(SPACE.mask_of(ordered), SPACE.mask_of(genotype))
    sample = SPACE.sample(torch_stream(0, "sample"))
    assert sample.in_order() == sample


@pytest.mark.parametrize("way", [5, 20])
@pytest.mark.parametrize("channels", [4, 8, 16])
@pytest.mark.parametrize("name", [*PUBLISHED, "supernet"])
def test_networks_have_the_parameters_of_the_reference(name, channels, way):
    if name == "supernet":
        network = SPACE.relax(way, channels)
        found = count_parameters(network) - count_parameters(network.alphas)
    else:
        found = count_parameters(SPACE.build(published(name), n_classes=way, channels=channels))
    assert found == COUNTS[f"{name}_C{channels}_way{way}"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_genotypes_have_the_multiply_adds_of_the_reference(name):
    network = SPACE.build(published(name), n_classes=5, channels=16)
    assert count_multiply_adds(network, torch.zeros(1, 3, 84, 84)) == PUBLISHED[name][2]


def test_the_supernet_has_the_multiply_adds_of_the_reference():
    assert count_multiply_adds(SPACE.relax(5, 16), torch.zeros(1, 3, 84, 84)) == 61_607_616


@pytest.mark.parametrize("size", [28, 32, 84])
def test_images_of_the_usual_sizes_fit(size):
    images = torch.randn(2, 3, size, size, generator=torch_stream(0, "images"))
    built = SPACE.build(published("AUTO_MAML_3"), n_classes=5, channels=4, n_cells=2)
    for network in (built, SPACE.relax(5, 4)):
        loss = cross_entropy(network(images), torch.tensor([0, 1]))
        assert loss.isfinite()
        assert all(slope.isfinite().all() for slope in torch.autograd.grad(loss, list(network.parameters())))


def test_the_outline_of_the_network_is_fixed():
    first = SPACE.build(published("AUTO_MAML_3"), n_classes=5, channels=4)
    second = SPACE.build(
        published("AUTO_MAML_3"), n_classes=5, channels=4, n_cells=5, stem="plain", stem_multiplier=1, auxiliary=True
    )
    assert first.state_dict().keys() == second.state_dict().keys() and len(first.cells) == 2


def convolutions_only(seed):
    """A sample without poolings, which have a norm in the supernet alone."""
    sample, at = str(SPACE.sample(torch_stream(seed, "sample"))), iter(range(99))
    others = ("sep_conv_3x3", "skip_connect", "dil_conv_5x5")
    for pool in ("max_pool_3x3", "avg_pool_3x3"):
        while pool in sample:
            sample = sample.replace(pool, others[next(at) % 3], 1)
    return SPACE.from_text(sample)


@pytest.mark.parametrize("size", [28, 32])
@pytest.mark.parametrize("seed", range(3))
def test_a_supernet_whose_softmax_has_decided_is_the_discrete_network_with_its_weights(seed, size):
    genotype = convolutions_only(seed)
    whole = initialise(SPACE.relax(5, 4), "torch_default", torch_stream(seed, "weights"))
    alone = SPACE.build(genotype, n_classes=5, channels=4)
    mask, edges = SPACE.mask_of(genotype), edge_list(4)
    # edges that were not kept have decided for `none`
    mask[:, :, 0] = ~mask.any(dim=2)
    with torch.no_grad():
        for alpha, chosen in zip((whole.alphas.normal, whole.alphas.reduce), mask, strict=True):
            alpha.copy_(1000.0 * chosen)
    alone.stem.load_state_dict(whole.stem.state_dict())
    alone.classifier.load_state_dict(whole.classifier.state_dict())
    for source, target in zip(whole.cells, alone.cells, strict=True):
        target.preprocess0.load_state_dict(source.preprocess0.state_dict(), strict=False)
        target.preprocess1.load_state_dict(source.preprocess1.state_dict(), strict=False)
        nodes = genotype.reduce if source.reduction else genotype.normal
        pairs = [(name, edges.index((start, i + 2))) for i, node in enumerate(nodes) for name, start in node]
        for (name, edge), operation in zip(pairs, target.edges, strict=True):
            operation.load_state_dict(source.edges[edge][name].state_dict(), strict=False)
    images = torch.randn(4, 3, size, size, generator=torch_stream(0, "images"))
    torch.testing.assert_close(whole.train()(images), alone.train()(images), rtol=1e-4, atol=1e-5)


def test_logits_and_gradients_of_the_supernet_are_those_of_the_reference():
    network = SPACE.relax(5, 4).double().train()
    rules = {
        "alphas.normal": lambda i: 0.5 * torch.sin(0.77 * i + 0.1),
        "alphas.reduce": lambda i: 0.5 * torch.sin(1.31 * i + 0.6),
        "classifier.bias": lambda i: 0.05 * torch.sin(1.1 * i + 0.2),
    }
    with torch.no_grad():
        for name, weight in network.named_parameters():
            i = torch.arange(weight.numel(), dtype=torch.float64)
            if name in rules:
                weight.copy_(rules[name](i).view(weight.shape))
            elif weight.ndim > 1:
                weight.copy_((1.5 / math.sqrt(weight[0].numel()) * torch.sin(1.7 * i + 0.3)).view(weight.shape))
    columns = 3.1 * torch.arange(20, dtype=torch.float64) / 20
    images = torch.sin(0.013 * torch.arange(5 * 3 * 400, dtype=torch.float64) + 0.5).view(5, 3, 20, 20)
    images = images + torch.sin(torch.arange(1, 6).view(5, 1, 1, 1) * columns)
    logits = network(images)
    loss = cross_entropy(logits, torch.arange(5))
    loss.backward()
    expected = STEP["support_task0"]
    # stored in single precision
    torch.testing.assert_close(logits, torch.tensor(expected["logits"], dtype=torch.float64), rtol=1e-6, atol=1e-6)
    assert loss.item() == pytest.approx(expected["loss"], rel=1e-12)
    grads = {name: weight.grad for name, weight in network.named_parameters()}
    assert grads["alphas.normal"][0].tolist() == pytest.approx(expected["grad_alpha_normal_row0"], rel=1e-9)
    assert grads.pop("alphas.normal").norm().item() == pytest.approx(expected["grad_alpha_normal_norm"], rel=1e-9)
    assert grads.pop("alphas.reduce").norm().item() == pytest.approx(expected["grad_alpha_reduce_norm"], rel=1e-9)
    rest = torch.cat([slope.flatten() for slope in grads.values()])
    assert rest.norm().item() == pytest.approx(expected["grad_w_norm"], rel=1e-9)
