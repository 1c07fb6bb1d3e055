"""Figures that say how far a proxy can be trusted."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from pipeline.core.errors import DataError
from pipeline.evaluation import rank_quality as quality


def draw(seed, n=40, levels=None):
    generator = np.random.default_rng(seed)
    accuracies = generator.normal(size=n)
    scores = accuracies + generator.normal(size=n)
    return (np.round(scores, 0) if levels else scores), accuracies


def slow_tau_b(x, y):
    pairs = list(itertools.combinations(range(len(x)), 2))
    signs = [(np.sign(x[i] - x[j]), np.sign(y[i] - y[j])) for i, j in pairs]
    agree = sum(a * b for a, b in signs)
    return agree / math.sqrt(sum(a != 0 for a, _ in signs) * sum(b != 0 for _, b in signs))


@pytest.mark.parametrize("levels", [None, 3])
def test_tau_b_counts_pairs_that_agree(levels):
    scores, accuracies = draw(0, levels=levels)
    assert quality.tau_b(scores, accuracies) == pytest.approx(slow_tau_b(scores, accuracies))


def test_spearman_is_pearsons_correlation_of_ranks():
    scores, accuracies = draw(1, levels=3)
    assert quality.spearman(scores, accuracies) == pytest.approx(spearmanr(scores, accuracies).statistic)


def test_partial_correlation_is_that_of_what_regression_on_the_given_leaves_over():
    scores, accuracies = draw(2)
    given = scores + np.random.default_rng(3).normal(size=len(scores))
    x, y, z = (np.argsort(np.argsort(values)).astype(float) for values in (scores, accuracies, given))
    rest = [values - np.polyval(np.polyfit(z, values, 1), z) for values in (x, y)]
    assert quality.partial_spearman(scores, accuracies, given) == pytest.approx(pearsonr(*rest).statistic)


def test_a_proxy_that_is_the_number_of_parameters_has_no_partial_correlation():
    scores, accuracies = draw(4)
    assert quality.partial_spearman(scores, accuracies, np.exp(scores)) is None


def orders_of(scores):
    """All orders that put higher scores first."""
    groups = [np.flatnonzero(scores == value) for value in sorted(set(scores), reverse=True)]
    for parts in itertools.product(*(itertools.permutations(group) for group in groups)):
        yield [row for part in parts for row in part]


@pytest.mark.parametrize("k", [1, 2, 3, 5, 7])
def test_top_k_figures_are_means_over_all_orders_of_equal_scores(k):
    scores = np.array([2.0, 2, 1, 1, 1, 0, 0])
    accuracies = np.array([0.3, 0.9, 0.5, 0.95, 0.1, 0.7, 0.2])
    gains = np.array([sum(other < one for other in accuracies) / 6 for one in accuracies])
    discounts = [1 / math.log2(place + 2) for place in range(k)]
    ideal = sum(a * b for a, b in zip(sorted(gains, reverse=True), discounts, strict=False))
    orders = list(orders_of(scores))
    slow_ndcg = np.mean([sum(gains[row] * d for row, d in zip(order, discounts, strict=False)) for order in orders])
    slow_regret = np.mean([accuracies.max() - max(accuracies[row] for row in order[:k]) for order in orders])
    assert quality.ndcg(scores, accuracies, k) == pytest.approx(slow_ndcg / ideal)
    assert quality.regret_of_best(scores, accuracies, k) == pytest.approx(slow_regret)


def test_a_perfect_ranking_has_the_best_of_all_figures_and_a_reversed_one_the_worst_correlations():
    _, accuracies = draw(5)
    best = quality.figures_of(accuracies**3, accuracies, np.arange(40.0), k=4)
    worst = quality.figures_of(-accuracies, accuracies, np.arange(40.0), k=4)
    assert (best["kendall_tau_b"], best["spearman"]) == pytest.approx((1, 1))
    assert (best["ndcg"], best["regret_of_best"]) == pytest.approx((1, 0))
    assert (worst["kendall_tau_b"], worst["spearman"]) == pytest.approx((-1, -1))
    assert worst["ndcg"] < best["ndcg"] and worst["regret_of_best"] > 0


def test_scores_that_are_not_finite_take_no_part_in_correlations_and_are_ranked_last():
    scores, accuracies = draw(6)
    sizes = np.arange(40.0)
    broken = scores.copy()
    broken[[3, 9]] = np.nan, np.inf
    kept = np.delete(np.arange(40), [3, 9])
    found = quality.figures_of(broken, accuracies, sizes, k=40)
    without = quality.figures_of(scores[kept], accuracies[kept], sizes[kept], k=38)
    for name in ("kendall_tau_b", "spearman", "partial_spearman_given_log_params"):
        assert found[name] == without[name]
    first = np.full(40, np.nan)
    first[5] = 1.0
    assert quality.regret_of_best(first, accuracies, 1) == pytest.approx(accuracies.max() - accuracies[5])


def test_a_proxy_that_says_the_same_of_all_has_no_correlation():
    _, accuracies = draw(7)
    found = quality.figures_of(np.ones(40), accuracies, np.arange(40.0), k=4)
    assert found["kendall_tau_b"] is None and found["spearman"] is None
    assert found["regret_of_best"] > 0


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    generator = np.random.default_rng(8)
    # for normal variables of correlation r, tau is 2/pi arcsin r
    truth, hits = 2 / math.pi * math.asin(0.5), 0
    for _ in range(100):
        pair = generator.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], size=60)
        found = quality.rank_quality(pair[:, 0], pair[:, 1], np.arange(60.0), generator=generator, n_resamples=100)[
            "kendall_tau_b"
        ]
        hits += found.low <= truth <= found.high
    assert 85 <= hits <= 100


def test_the_same_stream_gives_the_same_intervals():
    scores, accuracies = draw(9)
    first, second = (
        quality.rank_quality(scores, accuracies, np.arange(40.0), generator=np.random.default_rng(0), n_resamples=20)
        for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize(("scores", "accuracies"), [([1, 2], [1, 2]), ([1, 2, 3], [1, 2]), ([1, 2, 3], [1, 2, np.nan])])
def test_too_few_or_broken_accuracies_are_refused(scores, accuracies):
    with pytest.raises(DataError):
        quality.rank_quality(
            scores, accuracies, np.arange(len(scores)), generator=np.random.default_rng(0), n_resamples=2
        )


def test_seed_variance_tells_scores_of_architectures_from_scores_of_seeds():
    generator = np.random.default_rng(10)
    ability = generator.normal(size=200)
    steady = quality.seed_variance(np.stack([ability + 0.01 * generator.normal(size=200) for _ in range(3)]))
    noise = quality.seed_variance(generator.normal(size=(3, 200)))
    half = quality.seed_variance(np.stack([ability + generator.normal(size=200) for _ in range(3)]))
    assert steady["tau_between_seeds"] > 0.9 and steady["variance_within"] < 0.01
    assert abs(noise["tau_between_seeds"]) < 0.1 and noise["variance_within"] > 0.85
    assert half["variance_within"] == pytest.approx(0.5, abs=0.1)


def test_one_seed_says_nothing_about_the_variance_of_seeds():
    with pytest.raises(DataError):
        quality.seed_variance([[1.0, 2.0, 3.0]])


def test_lower_is_better_is_turned_round_and_what_is_not_finite_stays_without_rank():
    assert quality.oriented([1.0, -2.0], False).tolist() == [-1.0, 2.0]
    assert np.isnan(quality.oriented([np.inf, -np.inf, np.nan], False)).all()
