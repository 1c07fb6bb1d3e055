import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import TrainingError
from pipeline.data import transforms
from pipeline.evaluation.classification_test import (
    Classified,
    classify,
    estimate,
    mean_and_interval,
    places_of_truth,
    tops,
)
from pipeline.evaluation.few_shot_test import FrozenFeatures
from pipeline.evaluation.networks import outputs_of
from pipeline.evaluation.settings import TrainConfig
from pipeline.evaluation.statistics import mean_ci95, wilson_ci95

CPU = torch.device("cpu")
CONFIG = TrainConfig()


def classified(*places):
    return Classified(np.array(places), np.zeros(len(places), dtype=int))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 7), st.integers(1, 6), st.integers(0, 2**31))
def test_the_place_of_the_truth_is_found_by_sorting_and_ties_go_to_the_earlier_class(n_classes, n, seed):
    generator = torch.Generator().manual_seed(seed)
    # few levels: many ties
    logits = torch.randint(0, 3, (n, n_classes), generator=generator).float()
    labels = torch.randint(0, n_classes, (n,), generator=generator)
    order = logits.argsort(dim=1, descending=True, stable=True)
    slow = [order[i].tolist().index(int(labels[i])) for i in range(n)]
    assert places_of_truth(logits, labels).tolist() == slow
    assert ((places_of_truth(logits, labels) == 0) == (logits.argmax(1) == labels)).all()


@pytest.mark.parametrize("batch_size", [7, 40, 1000])
def test_classes_are_those_of_the_network_in_one_batch_whatever_the_batch_size(classes, fresh_classifier, batch_size):
    network, rows = fresh_classifier(), classes.rows_of_split("test")
    outputs = outputs_of(classes, CONFIG)
    found = classify(FrozenFeatures(network, classes, CONFIG, batch_size, CPU), rows, outputs)
    with torch.no_grad():
        logits = network(transforms.to_float(transforms.gather(classes, rows), classes.mean, classes.std))
    assert found.right(1).tolist() == (logits.argmax(1).numpy() == classes.labels[rows]).tolist()
    assert found.classes.tolist() == classes.labels[rows].tolist()


@pytest.mark.parametrize("part", ["stem", "classifier"])
def test_a_network_whose_numbers_are_not_finite_is_an_error_and_not_a_score(classes, fresh_classifier, part):
    network = fresh_classifier()
    with torch.no_grad():
        next(getattr(network, part).parameters()).fill_(math.nan)
    with pytest.raises(TrainingError, match="not finite"):
        classify(
            FrozenFeatures(network, classes, CONFIG, 50, CPU),
            classes.rows_of_split("test"),
            outputs_of(classes, CONFIG),
        )


def test_a_trained_classifier_knows_its_training_images(classes, fresh_classifier):
    from pipeline.evaluation.from_scratch import TrainingImages, train

    config = TrainConfig(epochs=30, batch_size=40, learning_rate=0.1, pad=0, jitter=0.0, flip=False)
    network, outputs = fresh_classifier(), outputs_of(classes, config)
    rows = classes.rows_of_split("train")
    features = FrozenFeatures(network, classes, config, 50, CPU)
    before = mean_and_interval([classify(features, rows, outputs)], 1)["mean"]
    train(network, TrainingImages.of(classes, config), config, seed=0, device=CPU)
    after = mean_and_interval([classify(features, rows, outputs)], 1)["mean"]
    assert after > 0.5 > before


def test_top_five_is_told_only_where_there_are_more_classes():
    assert [tops(n) for n in (2, 5, 6, 1000)] == [(1,), (1,), (1, 5), (1, 5)]


def test_a_larger_k_never_has_fewer_right():
    one = classified(0, 1, 4, 5, 9)
    assert [int(one.right(k).sum()) for k in (1, 2, 5, 6, 10)] == [1, 2, 3, 4, 5]


def test_of_several_architectures_the_mean_the_spread_and_each_interval_are_told():
    found = estimate([classified(0, 0, 1, 7), classified(0, 2, 1, 7)], 1)
    assert found["mean"] == 0.375
    assert found["per_seed"] == [0.5, 0.25]
    assert found["sd"] == pytest.approx(np.std([0.5, 0.25], ddof=1))
    assert found["n_images"] == 4
    low, high = wilson_ci95(2, 4)
    assert found["per_seed_interval"][0] == {"low": low, "high": high}
    low, high = wilson_ci95(1.5, 4)
    assert found["ci95"] == pytest.approx((high - low) / 2)
    assert found["seeds_ci95"] == pytest.approx(math.hypot(mean_ci95([0.5, 0.25])[1], found["ci95"]))


def test_a_single_architecture_has_no_spread_and_a_perfect_one_still_an_interval():
    found = estimate([classified(0, 0, 0, 0)], 1)
    assert found["sd"] is None and found["seeds_ci95"] is None
    assert found["per_seed_interval"][0]["high"] == 1.0
    assert 0.2 < found["ci95"] < 0.3
