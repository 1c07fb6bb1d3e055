"""TEG-NAS's searches and TE-NAS: what is measured, what a repeat costs, the control of equal budget, resuming."""

import dataclasses

import pytest
import torch

from pipeline import methods, spaces
from pipeline.core import checkpoint
from pipeline.core.checkpoint import Checkpoint
from pipeline.core.config import build
from pipeline.core.errors import CapabilityError, DataError
from pipeline.recipes import genotype_scoring
from pipeline.stages.search import cost_record
from pipeline.strategies.runner import Context
from tests import tiny_set

NAMES = ("tegnas_evo", "tegnas_rl", "tenas")
INDICATORS = ("coupled_ntk_condition", "linear_regions", "ntk_regression_error")
SMALL = {
    "space": "nas_bench_201", "seeds": [0], "repeat": 2, "n_images": 6, "image_size": 8, "n_region_samples": 40,
    "channels": 2, "kernel_cells": 1, "population_size": 4, "tournament_size": 2, "n_cycles": 3, "n_steps": 6,
    "prune_number": 3, "control": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_set.prepared(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def config_of(name: str, **knobs):
    cls = methods.get(name).Config
    known = {field.name for field in dataclasses.fields(cls)}
    return build(cls, {key: value for key, value in (SMALL | knobs).items() if key in known})


def search(name: str, prepared, checkpoint=None, n_workers: int = 1, seed: int = 0, **knobs):
    here = Context(
        prepared, seed=seed, n_cells=2, device=torch.device("cpu"), n_workers=n_workers, checkpoint=checkpoint
    )
    return methods.get(name).search(config_of(name, **knobs), here), here.journal


@pytest.fixture(scope="module")
def searched(tiny):
    return {name: search(name, tiny) for name in NAMES}


def comparable(journal) -> tuple:
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in journal.rows]
    controls = {seed: (one["genotype"], one["n_architectures"]) for seed, one in journal.controls.items()}
    return rows, journal.found, controls, journal.network_evaluations


@pytest.mark.parametrize("name", ("tegnas_evo", "tegnas_rl"))
def test_every_architecture_asked_for_is_in_the_trace_with_three_indicators_in_every_repeat(name, searched):
    _, journal = searched[name]
    asked = [row for row in journal.rows if row["event"] in ("evaluated", "repeated")]
    assert len(asked) == {"tegnas_evo": 4 + 3, "tegnas_rl": 6}[name]
    for row in asked:
        for indicator in INDICATORS:
            values = [row[f"{indicator}_repeat_{repeat}"] for repeat in range(2)]
            assert row[indicator] == pytest.approx(sum(values) / 2, nan_ok=True)


@pytest.mark.parametrize("name", ("tegnas_evo", "tegnas_rl"))
def test_an_architecture_that_comes_again_is_not_measured_again(name, searched):
    _, journal = searched[name]
    distinct = {row["genotype"] for row in journal.rows if row["event"] in ("evaluated", "repeated", "control")}
    measured = [row["genotype"] for row in journal.rows if row["event"] in ("evaluated", "control")]
    assert sorted(measured) == sorted(distinct)
    assert journal.network_evaluations == len(measured) * len(INDICATORS) * SMALL["repeat"]


def test_a_repeated_architecture_costs_nothing_and_keeps_its_values(tiny):
    _, journal = search("tegnas_rl", tiny, n_steps=40, learning_rate=5.0, control=False)
    repeated = [row for row in journal.rows if row["event"] == "repeated"]
    assert repeated, "a policy that moves this fast must come back to an architecture"
    first = {row["genotype"]: row for row in journal.rows if row["event"] == "evaluated"}
    for row in repeated:
        assert row["seconds"] is None
        assert [row[name] for name in INDICATORS] == [first[row["genotype"]][name] for name in INDICATORS]
    assert journal.network_evaluations == len(first) * len(INDICATORS) * SMALL["repeat"]


@pytest.mark.parametrize("name", NAMES)
def test_the_control_measures_no_more_than_the_search_and_by_the_same_indicators(name, searched):
    _, journal = searched[name]
    control = journal.controls[0]
    of_search = journal.network_evaluations - control["network_evaluations"]
    assert 0 < control["network_evaluations"] <= of_search
    n_indicators = 2 if name == "tenas" else 3
    assert control["n_architectures"] == of_search // (SMALL["repeat"] * n_indicators)
    spaces.get("nas_bench_201")().from_text(control["genotype"])


def test_what_the_control_costs_stands_apart(searched):
    _, journal = searched["tegnas_evo"]
    cost = cost_record(journal, torch.device("cpu"))
    whole = journal.network_evaluations
    assert cost["network_evaluations"] + cost["controls"]["network_evaluations"] == whole
    assert 0 < cost["controls"]["device_seconds"] < journal.device_seconds
    assert cost["device_seconds"] == pytest.approx(journal.device_seconds - cost["controls"]["device_seconds"])


def test_the_number_of_workers_changes_no_number(tiny, searched):
    _, journal = search("tegnas_evo", tiny, n_workers=2)
    assert comparable(journal) == comparable(searched["tegnas_evo"][1])


class KilledError(Exception):
    pass


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("after", [1, 4, 8])
def test_a_search_broken_off_anywhere_ends_as_an_undisturbed_one(name, after, tiny, searched, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SAVE_EVERY_SECONDS", 0.0)
    measure, calls = genotype_scoring.GenotypeEvaluator._measure, []

    def breaking(self, job):
        calls.append(job)
        if len(calls) == after:
            raise KilledError
        return measure(self, job)

    monkeypatch.setattr(genotype_scoring.GenotypeEvaluator, "_measure", breaking)
    path = tmp_path / "state.pt"
    with pytest.raises(KilledError):
        search(name, tiny, Checkpoint(path, "key"))
    found, journal = search(name, tiny, Checkpoint(path, "key"))
    assert found == searched[name][0]
    assert comparable(journal) == comparable(searched[name][1])


def test_another_search_seed_proposes_and_measures_other_things(tiny):
    _, journal = search("tegnas_evo", tiny, seeds=[0, 1], control=False)
    first, second = ([row for row in journal.rows if row["seed"] == seed] for seed in (0, 1))
    assert [row["genotype"] for row in first] != [row["genotype"] for row in second]
    assert journal.stability["between_repeats"].keys() == set(INDICATORS)


def test_parity_needs_the_test_images_that_a_few_shot_set_has_not(tiny):
    with pytest.raises(DataError, match="no test split"):
        search("tegnas_evo", tiny, parity=True)


@pytest.mark.parametrize("name, word", [("tegnas_evo", "mutates"), ("tegnas_rl", "policy"), ("tenas", "prunes")])
def test_a_space_that_lacks_what_the_strategy_needs_is_refused_with_those_that_have_it(name, word, tiny):
    with pytest.raises(CapabilityError, match=rf"{word}.*nas_bench_201"):
        search(name, tiny, space="conv4")


@pytest.mark.parametrize("name", NAMES)
def test_the_spaces_of_darts_can_be_searched_too(name, tiny):
    knobs = {"repeat": 1, "population_size": 2, "tournament_size": 1, "n_cycles": 1, "n_steps": 2, "prune_number": 7}
    knobs |= {"only_lrs": True, "n_region_samples": 20}
    found, _ = search(name, tiny, space="darts", kernel_cells=2, channels=1, control=False, **knobs)
    space = spaces.get("darts")()
    assert space.from_text(space.to_text(found[0].genotype)) == found[0].genotype
