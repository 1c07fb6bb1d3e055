"""Oracles: what all must do, and each against a slow way to the same number."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline import proxies, spaces
from pipeline.core.errors import CapabilityError, ConfigError, DataError, ScoreError, TrainingError, UnknownNameError
from pipeline.core.rng import numpy_stream, stream_seed, torch_stream
from pipeline.data.accuracy_tables import read_compact_csv
from pipeline.data.transforms import resize, to_float
from pipeline.episodes.class_tasks import task_set
from pipeline.evaluation.schedules import learning_rate
from pipeline.nets.init import initialise
from pipeline.proxies.scoring import Chance, SearchImages, Trial
from pipeline.recipes import oracles
from pipeline.recipes.oracles import Bench, Question
from tests import tiny_set

CELLS = (
    "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|",
    "|skip_connect~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_1x1~2|",
    "|avg_pool_3x3~0|+|avg_pool_3x3~0|none~1|+|none~0|none~1|avg_pool_3x3~2|",
)
KNOBS = {
    "train": {"image_size": 8, "channels": 4, "n_cells": 3, "epochs": 2, "batch_size": 16, "held_out": 0.25},
    "proxy": {"proxy": "naswot", "image_size": 8, "n_images": 8, "n_region_samples": 40, "channels": 4},
    "table": {"dataset": "cifar10", "part": "valid"},
}
FACTS = {"name": "NAS-Bench-201", "space": "nas_bench_201", "source": "made", "sha256": "1" * 64, "official": False}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """Images of 16 classes, each with a colour of its own under noise, and a table of three cells."""
    folder = tmp_path_factory.mktemp("bench")
    prepared = tiny_set.prepared(folder, n_images=20)
    rng = np.random.default_rng(0)
    colours = rng.integers(40, 215, (16, 3))
    images = rng.normal(colours[prepared.labels][:, None, None], 25, prepared.images.shape).clip(0, 255)
    rows = [f"{i},{text},{70 + i}.5,{80 + i}.25,{30 + i}.0\n" for i, text in enumerate(CELLS)]
    (folder / "table.csv").write_text("index,arch_str,cifar10_valid,cifar10_test,cifar100_test\n" + "".join(rows))
    prepared = dataclasses.replace(prepared, images=images.astype(np.uint8))
    table = read_compact_csv(folder / "table.csv")
    return Bench(spaces.get("nas_bench_201")(), prepared, 0, torch.device("cpu"), table, FACTS)


def oracle(name: str, **knobs):
    return oracles.get(name)(**(KNOBS[name] | knobs))


def test_the_known_oracles_are_found_by_name():
    assert oracles.names() == ["proxy", "table", "train"] == sorted(KNOBS)


@pytest.mark.parametrize("name", oracles.names())
def test_an_oracle_gives_a_finite_number_that_its_question_decides_alone(name, bench):
    questions = [Question(text, classes, seed) for text in CELLS[:2] for classes, seed in (((0, 2, 5), 1), ((1, 3), 2))]
    one = oracle(name)
    one.check(bench)
    forwards = [one(question, bench) for question in questions]
    backwards = [oracle(name)(question, bench) for question in reversed(questions)]
    assert forwards == backwards[::-1]
    assert all(isinstance(value, float) and np.isfinite(value) for value in forwards)


@pytest.mark.parametrize("name", oracles.names())
def test_an_oracle_leaves_torchs_own_generator_alone(name, bench):
    before = torch.get_rng_state()
    oracle(name)(Question(CELLS[0], (0, 1), 3), bench)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", oracles.names())
def test_an_oracle_says_what_its_numbers_mean(name, bench):
    facts = oracle(name).facts(bench)
    assert len(facts["meaning"]) > 20 and isinstance(oracles.get(name).unit, str)
    json.dumps(facts, allow_nan=False)


@pytest.mark.parametrize("name", oracles.names())
def test_every_knob_of_an_oracle_has_a_sentence_and_a_value_for_every_budget(name):
    for field in dataclasses.fields(oracles.get(name)):
        assert len(field.metadata["help"]) > 10, field.name
        table = field.metadata["table"]
        assert table is None or {"laptop", "gpu", "paper"} <= set(table), field.name


def slow_accuracy(question, bench, knobs) -> float:
    """The training oracle written out: plain loops over images, one batch after the other."""
    prepared, space = bench.prepared, bench.space
    parts = {"train": [], "test": []}
    for label, class_id in enumerate(question.classes):
        stream = numpy_stream(bench.seed, "images of class", prepared.class_names[class_id])
        rows = stream.permutation(np.flatnonzero(prepared.labels == class_id))
        n_test = round(knobs["held_out"] * len(rows))
        parts["test"] += [(row, label) for row in rows[:n_test]]
        parts["train"] += [(row, label) for row in rows[n_test:]]

    def batch(pairs):
        images = torch.from_numpy(np.stack([prepared.images[row] for row, _ in pairs]))
        images = resize(images, knobs["image_size"])
        return to_float(images, prepared.mean, prepared.std), torch.tensor([label for _, label in pairs])

    network = space.build(
        space.from_text(question.genotype),
        n_classes=len(question.classes),
        channels=knobs["channels"],
        n_cells=knobs["n_cells"],
    )
    one = oracle("train")
    config = one.training()
    initialise(network, one.init, torch_stream(question.seed, "initial weights"))
    optimiser = torch.optim.SGD(network.parameters(), 0.0, momentum=one.momentum, weight_decay=one.weight_decay)
    size, network = knobs["batch_size"], network.train()
    for epoch in range(1, knobs["epochs"] + 1):
        order = torch.randperm(len(parts["train"]), generator=torch_stream(question.seed, "shuffle", epoch)).tolist()
        n_steps = len(order) // size
        for step in range(n_steps):
            images, labels = batch([parts["train"][i] for i in order[step * size : (step + 1) * size]])
            optimiser.param_groups[0]["lr"] = learning_rate(config, epoch, step, n_steps)
            optimiser.zero_grad()
            functional.cross_entropy(network(images), labels).backward()
            optimiser.step()
    order = torch.randperm(len(parts["train"]), generator=torch_stream(question.seed, "statistics")).tolist()
    seen = [batch([parts["train"][i] for i in order[start : start + size]])[0] for start in range(0, len(order), size)]
    norms = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    sums = {layer: [0.0, 0.0] for layer in norms}
    # in training mode the output does not depend on the running statistics, so all layers can be watched at once
    hooks = [
        layer.register_forward_pre_hook(
            lambda layer, inputs: sums.__setitem__(
                layer,
                [
                    sums[layer][0] + inputs[0].mean(dim=(0, 2, 3)),
                    sums[layer][1] + inputs[0].var(dim=(0, 2, 3), unbiased=True),
                ],
            )
        )
        for layer in norms
    ]
    with torch.no_grad():
        for images in seen:
            network(images)
    for hook in hooks:
        hook.remove()
    for layer in norms:
        layer.running_mean.copy_(sums[layer][0] / len(seen))
        layer.running_var.copy_(sums[layer][1] / len(seen))
    network.eval()
    with torch.no_grad():
        right = [int(network(image).argmax()) == int(label) for image, label in (batch([one]) for one in parts["test"])]
    return 100 * float(np.mean(right))


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("text", CELLS)
def test_a_training_gives_the_accuracy_of_a_plain_loop(bench, text, seed):
    question = Question(text, (0, 2, 5, 9), seed)
    assert oracle("train")(question, bench) == pytest.approx(slow_accuracy(question, bench, KNOBS["train"]), abs=1e-9)


def test_classes_that_can_be_told_apart_are_and_equal_ones_are_not(bench):
    question, knobs = Question(CELLS[0], tuple(range(5)), 1), {"epochs": 12, "channels": 8}
    assert oracle("train", **knobs)(question, bench) > 80
    noise = np.random.default_rng(1).integers(0, 255, bench.prepared.images.shape).astype(np.uint8)
    blind = dataclasses.replace(bench, prepared=dataclasses.replace(bench.prepared, images=noise))
    # 25 images at chance 20 %: a standard deviation of 8
    assert oracle("train", **knobs)(question, blind) < 48


def test_a_training_that_diverges_is_no_number(bench):
    with pytest.raises(TrainingError, match="loss is"):
        oracle("train", learning_rate=1e30, init="kaiming_fanout")(Question(CELLS[0], (0, 1), 1), bench)


def test_a_task_with_too_few_images_for_a_batch_is_refused(bench):
    with pytest.raises(ConfigError, match=r"oracle\.train\.batch_size is 31, but a task has only 30 images"):
        oracle("train", batch_size=31)(Question(CELLS[0], (0, 1), 1), bench)


def test_the_table_answers_alike_for_all_tasks(bench):
    for place, text in enumerate(CELLS):
        found = {oracle("table")(Question(text, classes, 1), bench) for classes in ((0, 1), (2, 3, 4))}
        assert len(found) == 1 and found.pop() == pytest.approx(70.5 + place)
    assert oracle("table", part="test")(Question(CELLS[1], (0,), 1), bench) == pytest.approx(81.25)


def test_the_report_of_a_table_says_that_it_knows_no_tasks(bench):
    meaning = oracle("table").facts(bench)["meaning"]
    assert "all classes of cifar10" in meaning and "the same for every task" in meaning


def test_a_table_without_the_data_set_is_refused_before_any_work(bench):
    with pytest.raises(UnknownNameError, match=r"data set of the table 'tiny'.*oracle\.table\.dataset"):
        oracle("table", dataset=None).check(bench)
    with pytest.raises(UnknownNameError, match="part 'valid'"):
        oracle("table", dataset="cifar100").check(bench)
    other = dataclasses.replace(bench, table_facts=FACTS | {"space": "darts"})
    with pytest.raises(ConfigError, match=r"about the space darts, but database\.space is nas_bench_201"):
        oracle("table").check(other)


@pytest.mark.parametrize("name", ["naswot", "n_params", "synflow", "coupled_ntk_condition", "linear_regions", "zico"])
def test_a_proxy_is_asked_on_the_tasks_images_with_its_sign_turned_where_less_is_better(bench, name):
    question, one = Question(CELLS[0], (0, 2, 5), 4), oracle("proxy", proxy=name)
    task = task_set(bench.prepared, question.classes, n_images=0, held_out=0.2, image_size=8, seed=0)
    draw = SearchImages(task, 4, bench.device, image_size=8, n_patches=40, n_images=8, n_held_out=8)
    proxy, chance, trial = proxies.get(name)(), Chance(4), Trial(0, 0, 0, {})
    space = bench.space
    makers = {
        "thin": space.thin_supernet,
        "kernel": lambda: space.supernet(n_classes=3, channels=3, n_cells=3),
        "coupled": lambda: space.supernet(n_classes=3, channels=3, n_cells=3, norm="batchnorm"),
        "full": lambda: space.supernet(n_classes=3, channels=4, n_cells=3, norm="batchnorm"),
    }
    network = makers[proxy.network]()
    initialise(network, chance.scheme(proxy.network), torch_stream(4, *chance.weights(proxy.network, trial)))
    network.set_mask(space.mask_of(space.from_text(question.genotype)))
    batch = draw(proxy.needs, stream_seed(4, *chance.batch(proxy.needs, trial)))
    value = proxy(network, batch, torch_stream(4, *chance.head("candidate", trial)))
    assert one(question, bench) == (value if proxy.higher_is_better else -value)


def test_a_proxy_without_a_number_is_no_number(bench):
    blind = dataclasses.replace(bench.prepared, images=np.zeros_like(bench.prepared.images))
    with pytest.raises(ScoreError, match="naswot is -inf"):
        oracle("proxy")(Question(CELLS[0], (0, 1), 1), dataclasses.replace(bench, prepared=blind))


def test_a_proxy_that_cannot_be_asked_is_refused_before_any_work(bench):
    with pytest.raises(UnknownNameError, match="Did you mean 'naswot'"):
        oracle("proxy", proxy="naswott").check(bench)
    with pytest.raises(CapabilityError, match="which the space conv4 has not"):
        oracle("proxy").check(dataclasses.replace(bench, space=spaces.get("conv4")()))
    with pytest.raises(DataError, match="Lower the batch size"):
        oracle("proxy", n_images=40)(Question(CELLS[0], (0, 1), 1), bench)
