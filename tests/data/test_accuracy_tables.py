"""Accuracies that are looked up, from a small table and from the real one."""

import gzip
import os
import pathlib

import numpy as np
import pytest

from pipeline import spaces
from pipeline.core.errors import ArtifactError, DataError, UnknownNameError
from pipeline.data.accuracy_tables import read_compact_csv
from pipeline.nets.cost import count_parameters

SMALL = """index,arch_str,cifar10_valid,cifar10_test,cifar100_test,cifar10_test_seeds_v1_0,zen
0,|a|,80,81.5,50,81;82,1
1,|b|,90,91.5,40,,2
2,|c|,85,91.5,60,91.5,3
"""


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(SMALL)
    return read_compact_csv(path)


def test_accuracies_are_fractions_by_architecture_data_set_and_part(small):
    assert small.texts == ("|a|", "|b|", "|c|") and small.datasets == ("cifar10", "cifar100")
    assert small.accuracy("|a|", "cifar10") == pytest.approx(0.815)
    assert small.accuracy("|a|", "cifar10", "valid", epoch=200) == pytest.approx(0.8)
    assert small.accuracy("|a|", "cifar10", seed=1) == pytest.approx(0.82)


def test_equal_accuracies_share_the_better_rank(small):
    assert [small.rank(text, "cifar10") for text in small.texts] == [3, 1, 1]
    assert small.best("cifar100") == ("|c|", pytest.approx(0.6))
    assert small.regret("|b|", "cifar100") == pytest.approx(0.2)


def test_a_table_packed_with_gzip_is_the_same(small, tmp_path):
    (tmp_path / "packed").write_bytes(gzip.compress(SMALL.encode()))
    packed = read_compact_csv(tmp_path / "packed")
    assert packed.texts == small.texts
    assert all(np.array_equal(packed.means[key], small.means[key]) for key in small.means)


@pytest.mark.parametrize(
    ("question", "error", "said"),
    [
        (lambda table: table.accuracy("|d|", "cifar10"), DataError, "no architecture"),
        (lambda table: table.accuracy("|a|", "cifar1"), UnknownNameError, "cifar10"),
        (lambda table: table.accuracy("|a|", "cifar100", "valid"), UnknownNameError, "test"),
        (lambda table: table.accuracy("|a|", "cifar10", epoch=12), DataError, "after 200 epochs only"),
        (lambda table: table.accuracy("|a|", "cifar10", seed=2), DataError, "2 single seeds"),
        (lambda table: table.accuracy("|b|", "cifar10", seed=0), DataError, "only their mean"),
        (lambda table: table.accuracy("|a|", "cifar100", seed=0), DataError, "only their mean"),
    ],
)
def test_what_a_source_lacks_is_said(small, question, error, said):
    with pytest.raises(error, match=said):
        question(small)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("81.5", "181.5", "line 2"),
        ("91.5,40", "x,40", "line 3"),
        ("1,|b|", "2,|b|", "line 3"),
        ("|c|", "|a|", "twice"),
        ("arch_str", "arch", "needed are"),
    ],
)
def test_a_table_with_an_impossible_value_is_refused_with_its_line(tmp_path, before, after, said):
    path = tmp_path / "table.csv"
    path.write_text(SMALL.replace(before, after, 1))
    with pytest.raises(DataError, match=said):
        read_compact_csv(path)


def test_a_table_that_is_missing_or_cut_off_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="missing"):
        read_compact_csv(tmp_path / "nowhere.csv")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(SMALL.encode())[:-9])
    with pytest.raises(ArtifactError, match="no readable table"):
        read_compact_csv(tmp_path / "cut.csv.gz")


MIRROR = os.environ.get("FEWSHOT_NAS_MIRROR")
REAL = pathlib.Path(MIRROR or ".") / "nas_bench_201" / "nb201_full_15625.csv.gz"
real = pytest.mark.skipif(
    not MIRROR or not REAL.is_file(), reason="FEWSHOT_NAS_MIRROR names no mirror with the table of NAS-Bench-201"
)


@pytest.fixture(scope="module")
def benchmark():
    return read_compact_csv(REAL)


@real
def test_the_maxima_of_the_benchmark_are_the_published_ones(benchmark):
    for dataset, row, accuracy in (
        ("cifar10", 6111, 0.943733),
        ("cifar100", 9930, 0.735133),
        ("imagenet16", 857, 0.473111),
    ):
        text, best = benchmark.best(dataset)
        assert (benchmark.row_of(text), best) == (row, pytest.approx(accuracy, abs=1e-6))
        assert benchmark.rank(text, dataset) == 1 and benchmark.regret(text, dataset) == 0


@real
def test_the_table_holds_every_cell_of_the_space_once(benchmark):
    space = spaces.get("nas_bench_201")()
    assert set(benchmark.texts) == {space.to_text(cell) for cell in space.enumerate()}


@real
def test_cells_of_one_class_have_nearly_the_same_accuracy(benchmark):
    space, classes = spaces.get("nas_bench_201")(), {}
    accuracies = benchmark.column("cifar10")
    for row, text in enumerate(benchmark.texts):
        classes.setdefault(space.isomorphism_class(space.from_text(text)), []).append(accuracies[row])
    within = np.sqrt(
        np.mean(np.concatenate([np.square(np.array(group) - np.mean(group)) for group in classes.values()]))
    )
    assert within < 0.1 * accuracies.std()


@real
def test_parameters_of_the_space_are_those_in_the_table(benchmark):
    import csv

    space = spaces.get("nas_bench_201")()
    with gzip.open(REAL, "rt") as file:
        printed = {row["arch_str"]: float(row["params_M_cifar100"]) for row in csv.DictReader(file)}
    for text in benchmark.texts[::800]:
        network = space.build(space.from_text(text), n_classes=100, channels=16, n_cells=15)
        assert count_parameters(network) / 1e6 == pytest.approx(printed[text], abs=1e-6)
