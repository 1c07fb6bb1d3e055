"""Variance by task and architecture, against pandas, against known effects, and on the published triples."""

import csv
import gzip
import itertools
import os
import pathlib
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from pipeline import spaces
from pipeline.core.errors import DataError
from pipeline.evaluation.variance_split import (
    OF_GROUPS,
    POOLED,
    WEIGHTINGS,
    architecture_variance_inside_tasks,
    variance_inside,
    variance_split,
)
from pipeline.recipes.database import BIASED, statistics

MIRROR = os.environ.get("FEWSHOT_NAS_MIRROR")
PUBLISHED = pathlib.Path(MIRROR or ".") / "nas_bench_201" / "metad2a_meta_train_predictor_4630.csv.gz"


def made(n: int, n_tasks: int, n_architectures: int, sds, seed: int = 0) -> pd.DataFrame:
    """Accuracies with independent normal effects of the task, of the architecture, and a rest."""
    rng = np.random.default_rng(seed)
    tasks, architectures = rng.integers(n_tasks, size=n), rng.integers(n_architectures, size=n)
    effects = [rng.normal(0, sd, size) for sd, size in zip(sds, (n_tasks, n_architectures, n), strict=True)]
    values = 70 + effects[0][tasks] + effects[1][architectures] + effects[2]
    return pd.DataFrame({"task": tasks, "genotype": architectures.astype(str), "accuracy": values})


def test_pooled_variances_are_those_of_pandas():
    table = made(500, 60, 90, (3.0, 5.0, 2.0))
    for name in ("task", "genotype"):
        groups = table.groupby(name)["accuracy"]
        freedom = len(table) - groups.ngroups
        expected = (groups.var(ddof=1) * (groups.count() - 1)).sum() / freedom
        found, counted = variance_inside(table["accuracy"], table[name])
        assert found == pytest.approx(expected, rel=1e-12) and counted == freedom
        of_groups, counted = variance_inside(table["accuracy"], table[name], OF_GROUPS)
        assert of_groups == pytest.approx(groups.var(ddof=1).mean(), rel=1e-12) and counted == freedom
    split = variance_split(table["accuracy"], table["task"], table["genotype"])
    assert split.total == pytest.approx(table["accuracy"].var(ddof=1), rel=1e-12)
    assert split.total == pytest.approx(split.task + split.inside_task, rel=1e-12)
    assert split.total == pytest.approx(split.architecture + split.inside_architecture, rel=1e-12)
    assert split.total == pytest.approx(split.task + split.architecture + split.rest, rel=1e-12)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_the_effects_come_back_that_were_put_in(weighting):
    sds = (3.7, 4.8, 2.7)
    found = [
        variance_split(table["accuracy"], table["task"], table["genotype"], weighting)
        for table in (made(4000, 1500, 1500, sds, seed) for seed in range(5))
    ]
    for name, sd in zip(("task", "architecture", "rest"), sds, strict=True):
        assert np.mean([getattr(one, name) for one in found]) == pytest.approx(sd**2, rel=0.1), name


def test_the_architectures_effect_comes_back_where_tasks_differ_far_more():
    found = []
    for seed in range(8):
        table = made(4000, 400, 600, (30.0, 2.0, 3.0), seed).drop_duplicates(["task", "genotype"])
        columns = (table["accuracy"], table["task"], table["genotype"])
        variance, n_pairs = architecture_variance_inside_tasks(*columns)
        assert n_pairs > 5000
        found.append(variance)
    assert np.mean(found) == pytest.approx(4.0, rel=0.1)


def test_the_architectures_effect_comes_back_where_all_tasks_have_the_same_few_architectures():
    found = []
    for seed in range(100):
        table = made(600, 40, 8, (3.0, 2.0, 1.0), seed).drop_duplicates(["task", "genotype"])
        variance, _ = architecture_variance_inside_tasks(table["accuracy"], table["task"], table["genotype"])
        found.append(variance)
    assert np.mean(found) == pytest.approx(4.0, rel=0.1)


def test_the_architectures_effect_is_that_of_a_loop_over_all_pairs():
    table = made(60, 6, 15, (3.0, 2.0, 1.0)).drop_duplicates(["task", "genotype"])
    tasks, architectures, values = (list(table[name]) for name in ("task", "genotype", "accuracy"))
    means, counts = table.groupby("task")["accuracy"].mean(), table.groupby("task")["accuracy"].count()
    total, factors, n_pairs = 0.0, 0.0, 0
    of_task = {task: set(rows) for task, rows in table.groupby("task")["genotype"]}
    for i, j in itertools.combinations(range(len(table)), 2):
        if architectures[i] == architectures[j] and tasks[i] != tasks[j]:
            total += (values[i] - means[tasks[i]]) * (values[j] - means[tasks[j]])
            n, m, shared = counts[tasks[i]], counts[tasks[j]], len(of_task[tasks[i]] & of_task[tasks[j]])
            factors += 1 - 1 / n - 1 / m + shared / (n * m)
            n_pairs += 1
    assert architecture_variance_inside_tasks(values, tasks, architectures) == (
        pytest.approx(total / factors, rel=1e-9),
        n_pairs,
    )
    assert architecture_variance_inside_tasks([1.0, 2.0], [0, 1], ["a", "b"]) == (None, 0)


def test_what_never_varies_has_no_variance():
    table = made(300, 20, 30, (0.0, 4.0, 0.0))
    split = variance_split(table["accuracy"], table["task"], table["genotype"])
    assert split.inside_architecture == pytest.approx(0, abs=1e-20)
    assert split.architecture == pytest.approx(split.total)


def test_what_cannot_be_told_apart_is_none_and_not_zero():
    split = variance_split([1.0, 2.0, 4.0], [0, 0, 1], ["a", "b", "c"])
    assert split.inside_task == pytest.approx(0.5) and split.task is not None
    assert split.inside_architecture is split.architecture is split.rest is None
    assert split.degrees_of_freedom == {"inside_task": 1, "inside_architecture": 0}
    with pytest.raises(DataError, match="at least two values"):
        variance_split([1.0], [0], ["a"])


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="FEWSHOT_NAS_MIRROR names no mirror with the published triples")
def test_the_statistics_of_the_published_triples_are_those_counted_elsewhere():
    """MetaD2A's 4,630 triples for its predictor: the figures were taken from them before this code was written."""
    with gzip.open(PUBLISHED, "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = [[int(row["task"]) for row in rows], ["base"] * len(rows), [row["arch_str"] for row in rows]]
    found = statistics(*columns, [float(row["acc"]) for row in rows], spaces.get("nas_bench_201")())
    counts = found["counts"]
    assert (counts["triples"], counts["tasks"], counts["architectures"]) == (4630, 3031, 1553)
    assert (counts["tasks_used_once"], counts["tasks_used_twice"], counts["most_of_a_task"]) == (1855, 841, 6)
    assert (counts["most_of_an_architecture"], counts["architectures_on_several_tasks"]) == (46, 1202)
    accuracy = found["accuracy"]
    assert accuracy["min"] == 40.99 and accuracy["max"] == 86.0
    quantiles = [round(accuracy["quantiles"][q], 1) for q in ("0.01", "0.05", "0.25", "0.5", "0.75", "0.95")]
    assert quantiles == pytest.approx([49.9, 56.4, 69.0, 72.8, 76.0, 79.8], abs=0.1)
    variance = found["variance"][OF_GROUPS]
    figures = [variance[name] for name in ("total", "inside_task", "inside_architecture")]
    assert figures == pytest.approx([44.7, 30.7, 21.2], abs=0.06)
    sds = [variance["sd"][name] for name in ("architecture", "task", "rest")]
    assert sds == pytest.approx([4.8, 3.7, 2.7], abs=0.06)
    pooled = found["variance"][POOLED]
    assert [pooled["inside_task"], pooled["inside_architecture"]] == pytest.approx([30.2239, 23.8289], abs=1e-4)
    frequencies = [list(edge.values()) for edge in found["operations"]["cell"]]
    assert np.allclose(frequencies, BIASED["nas_bench_201"], atol=0.0101)
    space = spaces.get("nas_bench_201")()
    assert all(space.is_connected(space.from_text(text)) for text in Counter(columns[2]))
