import dataclasses
import math

import numpy as np
import pytest
import torch

from pipeline.core.errors import ConfigError, TrainingError
from pipeline.core.rng import torch_stream
from pipeline.data import transforms
from pipeline.evaluation.from_scratch import TrainingImages, train
from pipeline.evaluation.networks import without_auxiliary
from pipeline.evaluation.schedules import learning_rate
from pipeline.evaluation.settings import TrainConfig

CPU = torch.device("cpu")
SHORT = TrainConfig(epochs=3, batch_size=96, drop_path=0.3, schedule="step", milestones=(1, 2), learning_rate=0.05)


def trained(network, prepared, config=SHORT, **more):
    curve = train(network, TrainingImages.of(prepared, config), config, seed=0, device=CPU, **more)
    return network.state_dict(), curve


def same_bits(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def copied(value):
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    "changes", [{}, {"optimiser": "adam", "learning_rate": 1e-3}, {"channels_last": False, "schedule": "one_cycle"}]
)
def test_resuming_after_any_epoch_gives_the_bits_of_an_undisturbed_run(digits, fresh, changes):
    config = dataclasses.replace(SHORT, **changes)
    states = []
    whole, curve = trained(fresh(), digits, config, after_epoch=lambda state: states.append(copied(state)))
    assert [len(state["curve"]) for state in states] == [1, 2, 3]
    for state in states:
        again, its_curve = trained(fresh(seed=9), digits, config, resume=state)
        assert same_bits(whole, again)
        assert [row["loss"] for row in its_curve] == [row["loss"] for row in curve]


def test_equal_seeds_give_equal_bits_and_leave_the_global_generators_alone(digits, fresh):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, _ = trained(fresh(), digits)
    second, _ = trained(fresh(), digits)
    assert same_bits(first, second)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()


@pytest.mark.parametrize("part", ["initial weights", "training"])
def test_another_seed_gives_another_network(digits, fresh, part):
    first, _ = trained(fresh(), digits)
    network = fresh(seed=1 if part == "initial weights" else 0)
    images = TrainingImages.of(digits, SHORT)
    train(network, images, SHORT, seed=0 if part == "initial weights" else 1, device=CPU)
    assert not same_bits(first, network.state_dict())


def test_the_training_learns(digits, fresh):
    config = TrainConfig(epochs=8, batch_size=32, learning_rate=0.1, flip=False, jitter=0.0, pad=0)
    _, curve = trained(fresh(), digits, config)
    assert curve[-1]["loss"] < 0.9 * curve[0]["loss"]
    assert curve[-1]["train_accuracy"] > 3 / 64


def scrambled(prepared, *splits):
    """The same set with noise in the images of some splits."""
    images = np.array(prepared.images)
    for split in splits:
        rows = prepared.rows_of_split(split)
        images[rows] = np.random.default_rng(0).integers(0, 256, images[rows].shape, dtype=np.uint8)
    return dataclasses.replace(prepared, images=images)


def test_novel_and_validation_images_are_never_read(digits, fresh):
    clean, _ = trained(fresh(), digits)
    poisoned, _ = trained(fresh(), scrambled(digits, "novel", "validation"))
    assert same_bits(clean, poisoned)
    other, _ = trained(fresh(), scrambled(digits, "base"))
    assert not same_bits(clean, other)


def test_with_trainval_the_validation_classes_are_outputs_too_and_the_novel_ones_stay_unread(digits, fresh):
    config = dataclasses.replace(SHORT, use_trainval=True, epochs=1, milestones=())
    images = TrainingImages.of(digits, config)
    assert len(images.rows) == 80 * 6
    assert sorted(set(images.labels.tolist())) == list(range(80))
    assert fresh(config).classifier.out_features == 80
    clean, _ = trained(fresh(config), digits, config)
    poisoned, _ = trained(fresh(config), scrambled(digits, "novel"), config)
    assert same_bits(clean, poisoned)


def smoothed_cross_entropy(logits, labels, smoothing):
    target = torch.full_like(logits, smoothing / logits.shape[1])
    target[torch.arange(len(labels)), labels] += 1 - smoothing
    return -(target * logits.log_softmax(1)).sum(1).mean()


def plain_training(network, prepared, config):
    """The same training, written out: no augmentation, no drop path, momentum and clipping by hand."""
    rows = prepared.rows_of_split(prepared.search_split)
    labels = torch.from_numpy(prepared.labels[rows])
    velocity = {name: torch.zeros_like(weight) for name, weight in network.named_parameters()}
    for epoch in range(1, config.epochs + 1):
        order = torch.randperm(len(rows), generator=torch_stream(0, "shuffle", epoch))
        n_steps = len(rows) // config.batch_size
        for step in range(n_steps):
            chosen = order[step * config.batch_size : (step + 1) * config.batch_size]
            images = transforms.to_float(transforms.gather(prepared, rows[chosen.numpy()]), prepared.mean, prepared.std)
            outputs = network(images)
            logits, auxiliary = outputs if config.auxiliary_weight else (outputs, None)
            loss = smoothed_cross_entropy(logits, labels[chosen], config.label_smoothing)
            if auxiliary is not None:
                of_auxiliary = smoothed_cross_entropy(auxiliary, labels[chosen], config.label_smoothing)
                loss = loss + config.auxiliary_weight * of_auxiliary
            network.zero_grad()
            loss.backward()
            gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
            length = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients))
            shortened = min(1.0, config.clip_norm / length) if config.clip_norm else 1.0
            with torch.no_grad():
                for name, weight in network.named_parameters():
                    if weight.grad is None:
                        continue
                    gradient = shortened * weight.grad + config.weight_decay * weight
                    velocity[name] = config.momentum * velocity[name] + gradient
                    step_of = gradient + config.momentum * velocity[name] if config.nesterov else velocity[name]
                    weight -= learning_rate(config, epoch, step, n_steps) * step_of
    return network.state_dict()


PLAIN = {"pad": 0, "jitter": 0.0, "flip": False, "drop_path": 0.0, "channels_last": False}


def assert_same_way(begun, found, expected):
    names = [name for name, _ in begun.named_parameters()]
    # rounding grows through ReLU and pooling decisions, so it is measured against the way that the weights went
    moved = torch.cat([(expected[name] - begun.state_dict()[name]).detach().flatten() for name in names]).norm()
    apart = torch.cat([(expected[name] - found[name]).detach().flatten() for name in names]).norm()
    assert apart < 0.01 * moved, f"{apart:.2g} apart after a way of {moved:.2g}"


def test_without_augmentation_and_drop_path_it_is_plain_stochastic_gradient_descent(digits, fresh):
    config = TrainConfig(epochs=2, batch_size=128, learning_rate=0.01, **PLAIN)
    found, _ = trained(fresh(), digits, config)
    assert_same_way(fresh(), found, plain_training(fresh().train(), digits, config))


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_nesterovs_momentum_looks_one_step_ahead(digits, fresh, momentum):
    config = TrainConfig(epochs=1, batch_size=160, learning_rate=0.01, momentum=momentum, nesterov=True, **PLAIN)
    found, _ = trained(fresh(), digits, config)
    assert_same_way(fresh(), found, plain_training(fresh().train(), digits, config))
    plain, _ = trained(fresh(), digits, dataclasses.replace(config, nesterov=False))
    assert same_bits(found, plain) == (momentum == 0)


RECIPE = {"auxiliary_weight": 0.4, "clip_norm": 0.5, "label_smoothing": 0.1, "warm_up": 2, "schedule": "cosine"}


def test_with_all_that_classifiers_need_it_is_the_gradient_descent_written_out(classes, fresh_classifier):
    config = TrainConfig(epochs=2, batch_size=40, learning_rate=0.01, **PLAIN, **RECIPE)
    found, curve = trained(fresh_classifier(config), classes, config)
    assert_same_way(fresh_classifier(config), found, plain_training(fresh_classifier(config).train(), classes, config))
    assert curve[0]["learning_rate"] == pytest.approx(0.005)


@pytest.mark.parametrize("name", list(RECIPE))
def test_each_knob_of_the_classifiers_recipe_changes_the_training(classes, fresh_classifier, name):
    config = TrainConfig(epochs=2, batch_size=40, learning_rate=0.01, **{**PLAIN, **RECIPE})
    without = dataclasses.replace(config, **{name: TrainConfig.__dataclass_fields__[name].default})
    first, _ = trained(fresh_classifier(config), classes, config)
    second, _ = trained(fresh_classifier(without), classes, without)
    assert not torch.equal(first["classifier.weight"], second["classifier.weight"])


@pytest.mark.parametrize("changes", [{"cutout": 4}, {"crop_scale": 0.3}, {"hue": 0.2}])
def test_each_augmentation_of_classifiers_changes_the_training(classes, fresh_classifier, changes):
    config = TrainConfig(epochs=1, batch_size=40, **PLAIN)
    first, _ = trained(fresh_classifier(), classes, config)
    second, _ = trained(fresh_classifier(), classes, dataclasses.replace(config, **changes))
    assert not same_bits(first, second)


def test_a_classifier_goes_on_after_any_epoch_as_if_nothing_had_happened(classes, fresh_classifier):
    changes = {"drop_path": 0.3, "cutout": 4, "hue": 0.2, "crop_scale": 0.3, "epochs": 3}
    config = dataclasses.replace(SHORT, batch_size=40, **RECIPE, **changes)
    states = []
    whole, curve = trained(
        fresh_classifier(config), classes, config, after_epoch=lambda state: states.append(copied(state))
    )
    assert any(name.startswith("auxiliary.") for name in whole)
    for state in states:
        again, its_curve = trained(fresh_classifier(config, seed=9), classes, config, resume=state)
        assert same_bits(whole, again)
        assert [row["loss"] for row in its_curve] == [row["loss"] for row in curve]


def test_a_classifier_never_reads_the_test_images(classes, fresh_classifier):
    config = dataclasses.replace(SHORT, batch_size=40)
    images = TrainingImages.of(classes, config)
    assert images.rows.tolist() == classes.rows_of_split("train").tolist()
    assert fresh_classifier().classifier.out_features == 10
    clean, _ = trained(fresh_classifier(), classes, config)
    poisoned, _ = trained(fresh_classifier(), scrambled(classes, "test"), config)
    assert same_bits(clean, poisoned)
    other, _ = trained(fresh_classifier(), scrambled(classes, "train"), config)
    assert not same_bits(clean, other)


def test_validation_classes_are_not_asked_of_a_classification_set(classes):
    with pytest.raises(ConfigError, match=r"use_trainval to false"):
        TrainingImages.of(classes, TrainConfig(use_trainval=True))


def test_what_tests_need_of_a_trained_network_fits_the_one_without_the_auxiliary_classifier(classes, fresh_classifier):
    config = TrainConfig(epochs=1, batch_size=40, **PLAIN, auxiliary_weight=0.4)
    with_it = fresh_classifier(config)
    state, _ = trained(with_it, classes, config)
    without = fresh_classifier()
    assert not same_bits(without.state_dict(), without_auxiliary(state))
    without.load_state_dict(without_auxiliary(state))
    images = torch.randn(4, 3, 16, 16, generator=torch_stream(0, "images"))
    torch.testing.assert_close(without.eval()(images), with_it(images))


def test_the_curve_tells_the_schedule(digits, fresh):
    _, curve = trained(fresh(), digits)
    assert [row["epoch"] for row in curve] == [1, 2, 3]
    assert [row["learning_rate"] for row in curve] == pytest.approx([0.05, 0.005, 0.0005])
    assert all(row["seconds"] > 0 and 0 <= row["train_accuracy"] <= 1 for row in curve)


def test_a_training_that_diverges_is_an_error_and_its_epoch_is_not_kept(digits, fresh):
    kept = []
    config = dataclasses.replace(SHORT, learning_rate=1e20)
    with pytest.raises(TrainingError, match=r"epoch 1 .*learning_rate"):
        trained(fresh(), digits, config, after_epoch=kept.append)
    assert kept == []


def test_a_batch_larger_than_the_data_is_refused(digits, fresh):
    with pytest.raises(ConfigError, match="384 images"):
        trained(fresh(), digits, dataclasses.replace(SHORT, batch_size=385))


def test_drop_path_changes_the_training_and_is_off_afterwards(digits, fresh):
    network = fresh()
    with_it, _ = trained(network, digits)
    without, _ = trained(fresh(), digits, dataclasses.replace(SHORT, drop_path=0.0))
    assert not same_bits(with_it, without)
    assert not network.training
    images = torch.randn(4, 3, 16, 16, generator=torch_stream(0, "images"))
    assert torch.equal(network(images), network(images))


@pytest.mark.parametrize("changes", [{"channels_last": True}, {"precision": "bfloat16"}])
def test_faster_arithmetic_gives_nearly_the_same_first_epoch(digits, fresh, changes):
    config = TrainConfig(epochs=1, batch_size=96, learning_rate=0.01, drop_path=0.0, channels_last=False)
    _, plain = trained(fresh(), digits, config)
    _, fast = trained(fresh(), digits, dataclasses.replace(config, **changes))
    assert fast[0]["loss"] == pytest.approx(plain[0]["loss"], rel=0.02)
