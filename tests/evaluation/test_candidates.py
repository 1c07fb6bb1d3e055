"""What a search proposed and how it ranked that, against figures by hand."""

import numpy as np
import pytest
from scipy import stats

from pipeline.core.rng import numpy_stream
from pipeline.evaluation.candidates import candidate_quality

ACCURACIES = np.array([0.5, 0.9, 0.7, 0.8, 0.6, 0.4])


def quality(scores, accuracies=None, k=2, uniform=0.5):
    rows = [ACCURACIES] * len(scores) if accuracies is None else accuracies
    return candidate_quality([np.array(one) for one in scores], rows, k, uniform, numpy_stream(0, "test"))


def test_correlations_are_means_over_seeds_of_scipys():
    scores = [[1.0, 5.0, 4.0, 3.0, 2.0, 0.0], [3.0, 1.0, 2.0, 6.0, 5.0, 4.0]]
    found = quality(scores)["correlation"]
    for name, of in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr), ("kendall", stats.kendalltau)):
        each = [of(one, ACCURACIES).statistic for one in scores]
        assert found[name]["per_seed"] == pytest.approx(each) and found[name]["mean"] == pytest.approx(np.mean(each))
        assert found[name]["low"] <= found[name]["mean"] <= found[name]["high"]


def test_the_result_is_the_first_by_score_and_the_best_of_k_stands_apart():
    found = quality([[0.0, 1.0, 9.0, 2.0, 8.0, 3.0]])
    assert found["first"] == [0.7]
    assert found["best_of"]["accuracy"]["mean"] == 0.7
    assert quality([[0.0, 1.0, 9.0, 2.0, 8.0, 3.0]], k=6)["best_of"]["accuracy"]["mean"] == 0.9


def test_candidates_beat_uniform_ones_only_by_more_than_their_interval():
    mean, half = ACCURACIES.mean(), stats.t.ppf(0.975, 5) * ACCURACIES.std(ddof=1) / np.sqrt(6)
    scores = [np.arange(6.0)]
    assert quality(scores, uniform=mean - half - 0.001)["beats_uniform"]
    assert not quality(scores, uniform=mean - half + 0.001)["beats_uniform"]


def test_a_perfect_ranking_beats_random_and_equal_scores_do_not():
    assert quality([ACCURACIES * 3])["beats_random"]
    found = quality([np.zeros(6)])
    assert not found["beats_random"] and found["correlation"]["spearman"]["mean"] is None
