import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import DataError
from pipeline.evaluation import mean_ci95
from pipeline.evaluation.statistics import (
    hierarchical_bootstrap,
    paired_difference,
    relative_improvement,
    seeds_ci95,
    wilson_ci95,
)

fractions = st.floats(0.0, 1.0)


@settings(deadline=None)
@given(st.lists(fractions, min_size=2, max_size=50))
def test_the_interval_is_the_t_interval_of_scipy(values):
    from scipy import stats

    mean, half = mean_ci95(values)
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=max(error, 1e-300))
    assert mean == pytest.approx(np.mean(values))
    assert mean - half == pytest.approx(low, abs=1e-12)
    assert mean + half == pytest.approx(high, abs=1e-12)


@settings(deadline=None)
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_of_a_share_is_wilsons_of_scipy(trials):
    from scipy import stats

    n_right, n = trials
    expected = stats.binomtest(n_right, n).proportion_ci(0.95, method="wilson")
    low, high = wilson_ci95(n_right, n)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert low <= n_right / n <= high and high > low


def test_wilsons_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    for share in (0.1, 0.5, 0.9):
        counts = generator.binomial(50, share, 4000)
        covered = [low <= share <= high for low, high in (wilson_ci95(int(count), 50) for count in counts)]
        assert 0.93 < np.mean(covered) < 0.98


@pytest.mark.parametrize(("n_right", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_have_no_interval(n_right, n):
    with pytest.raises(DataError, match="at least one trial"):
        wilson_ci95(n_right, n)


def test_six_hundred_episodes_give_nearly_the_normal_interval():
    values = np.random.default_rng(0).uniform(size=600)
    normal = 1.96 * values.std() / math.sqrt(600)
    assert mean_ci95(values)[1] == pytest.approx(normal, rel=5e-3)


def test_one_value_has_an_infinite_half_width():
    assert mean_ci95([0.25]) == (0.25, math.inf)


@pytest.mark.parametrize("values", [[], [0.5, math.nan], [math.inf]])
def test_no_values_or_values_that_are_not_finite_are_refused(values):
    with pytest.raises(DataError):
        mean_ci95(values)


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_any_sequence_of_numbers_will_do(kind):
    assert mean_ci95(kind([0.0, 1.0]))[0] == 0.5


def test_the_interval_covers_the_truth_about_nineteen_times_in_twenty():
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(2000):
        mean, half = mean_ci95(generator.normal(0.6, 0.1, size=8))
        hits += abs(mean - 0.6) <= half
    assert 0.935 < hits / 2000 < 0.965


def test_importing_the_room_brings_neither_torch_nor_scipy():
    code = "import sys, pipeline.evaluation; print('torch' in sys.modules, 'scipy' in sys.modules)"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert seen.split() == ["False", "False"]


def test_a_network_against_itself_ties_everywhere():
    values = np.random.default_rng(0).uniform(size=40)
    same = paired_difference(values, values)
    assert (same.mean, same.ci95, same.win, same.tie, same.loss) == (0.0, 0.0, 0, 40, 0)


@settings(deadline=None)
@given(st.lists(st.tuples(fractions, fractions), min_size=2, max_size=30))
def test_swapping_the_two_sides_swaps_wins_and_losses(pairs):
    a, b = zip(*pairs, strict=True)
    there, back = paired_difference(a, b), paired_difference(b, a)
    assert there.mean == -back.mean
    assert there.ci95 == pytest.approx(back.ci95)
    assert (there.win, there.tie, there.loss) == (back.loss, back.tie, back.win)
    assert there.win + there.tie + there.loss == len(pairs)


def test_pairing_removes_what_the_episodes_share():
    generator = np.random.default_rng(2)
    difficulty = generator.normal(0.5, 0.1, size=200)
    a, b = difficulty + 0.02 + generator.normal(0, 0.01, 200), difficulty + generator.normal(0, 0.01, 200)
    assert paired_difference(a, b).ci95 < 0.25 * mean_ci95(a)[1]


def test_different_numbers_of_episodes_cannot_be_paired():
    with pytest.raises(DataError, match="same episodes"):
        paired_difference([0.1, 0.2], [0.1])


def test_several_seeds_are_never_surer_than_their_episodes_nor_than_their_spread():
    rows = np.random.default_rng(3).uniform(size=(3, 50))
    mean, half = seeds_ci95(rows)
    assert mean == pytest.approx(rows.mean())
    assert half >= mean_ci95(rows.mean(axis=1))[1]
    assert half >= min(mean_ci95(row)[1] for row in rows)


def test_seeds_that_agree_leave_only_the_episodes_uncertainty():
    row = np.random.default_rng(4).uniform(size=50)
    assert seeds_ci95([row, row[::-1], row]) == pytest.approx(mean_ci95(row))


def test_one_seed_says_nothing_about_other_seeds():
    assert seeds_ci95([[0.1, 0.2, 0.3]])[1] == math.inf


def test_relative_improvement_is_in_percent_of_the_control():
    assert relative_improvement(0.66, 0.60) == pytest.approx(10.0)
    with pytest.raises(DataError):
        relative_improvement(0.5, 0.0)


def bootstrap_by_copying(images, classes, correct, n_resamples, generator):
    """The same bootstrap, drawing lists of predictions instead of weights."""
    accuracies = []
    labels = np.unique(classes)
    for _ in range(n_resamples):
        outcomes = []
        for drawn in generator.integers(len(labels), size=len(labels)):
            pool = np.unique(images[classes == labels[drawn]])
            for image in pool[generator.integers(pool.size, size=pool.size)]:
                outcomes.extend(correct[images == image])
        accuracies.append(np.mean(outcomes))
    return tuple(np.quantile(accuracies, (0.025, 0.975)))


def predictions(n_classes, n_images, n_predictions, seed):
    generator = np.random.default_rng(seed)
    images = generator.integers(n_classes * n_images, size=n_predictions)
    skill = generator.uniform(0.2, 1.0, size=n_classes)
    classes = images // n_images
    return images, classes, generator.uniform(size=n_predictions) < skill[classes]


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 60), st.integers(0, 99))
def test_the_bootstrap_equals_one_that_copies_predictions(n_classes, n_images, n_predictions, seed):
    columns = predictions(n_classes, n_images, n_predictions, seed)
    fast = hierarchical_bootstrap(*columns, 20, np.random.default_rng(seed))
    slow = bootstrap_by_copying(*columns, 20, np.random.default_rng(seed))
    assert fast == pytest.approx(slow)


def test_the_bootstrap_is_wider_than_the_interval_over_episodes_when_classes_differ():
    images, classes, correct = predictions(8, 10, 20_000, 5)
    low, high = hierarchical_bootstrap(images, classes, correct, 300, np.random.default_rng(0))
    assert low < correct.mean() < high
    episodes = correct[:19_950].reshape(-1, 75).mean(axis=1)
    assert (high - low) / 2 > 2 * mean_ci95(episodes)[1]


def test_always_right_leaves_no_doubt():
    images, classes, _ = predictions(3, 4, 100, 6)
    assert hierarchical_bootstrap(images, classes, np.ones(100, bool), 50, np.random.default_rng(0)) == (1.0, 1.0)
