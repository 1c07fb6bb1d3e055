"""Scoring under common random numbers: what is shared is shared, what is drawn anew is drawn anew."""

import dataclasses

import numpy as np
import pytest
import torch

from pipeline import proxies, spaces
from pipeline.core.workers import Workers
from pipeline.proxies.scoring import ORIGIN, Chance, SearchImages, SupernetScorer, Trial
from tests import tiny_set

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As in a search; many small operations on busy cores wait for each other otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def space():
    return spaces.get("darts_fewshot")()


@pytest.fixture(scope="module")
def draw(tmp_path_factory) -> SearchImages:
    prepared = tiny_set.prepared(tmp_path_factory.mktemp("tiny"))
    return SearchImages(prepared, 0, CPU, image_size=8, n_patches=40, n_images=6, tasks_per_batch=2)


def scorer(space, draw, chance: Chance, names=("metantk_condition", "linear_regions")) -> SupernetScorer:
    networks = {"kernel": space.supernet(n_classes=6, channels=2, n_cells=2), "thin": space.thin_supernet()}
    return SupernetScorer({name: proxies.get(name)() for name in names}, networks, draw, chance)


def masks(mask: torch.Tensor) -> dict[str, torch.Tensor]:
    return dict.fromkeys(("metantk_condition", "linear_regions"), mask)


def thinned(space, edge: int = 0) -> torch.Tensor:
    mask = space.full_mask()
    mask[0, edge, 2] = False
    return mask


def test_equal_masks_have_equal_values_under_common_random_numbers(space, draw):
    one = scorer(space, draw, Chance(seed=1))
    full = masks(space.full_mask())
    origin = one.measure(Trial(0, 0, ORIGIN, full))
    assert one.measure(Trial(0, 0, 17, full)).values == origin.values
    assert one.measure(Trial(0, 0, 3, masks(thinned(space)))).values != origin.values


@pytest.mark.parametrize("other", [Trial(1, 0, ORIGIN, {}), Trial(0, 1, ORIGIN, {})], ids=["round", "repeat"])
def test_every_round_and_repeat_has_weights_images_and_head_of_its_own(space, draw, other):
    chance = Chance(seed=1)
    first = Trial(0, 0, ORIGIN, masks(space.full_mask()))

    def streams(trial: Trial) -> set[tuple]:
        weights = {chance.weights(kind, trial) for kind in ("kernel", "thin")}
        return weights | {chance.batch(needs, trial) for needs in ("tasks", "patches")} | {chance.head("", trial)}

    assert len(streams(first)) == 5
    assert streams(first).isdisjoint(streams(other))
    one = scorer(space, draw, chance)
    again = dataclasses.replace(other, masks=first.masks)
    assert one.measure(first).values["metantk_condition"] != one.measure(again).values["metantk_condition"]


def test_the_values_of_a_trial_do_not_depend_on_what_was_measured_before(space, draw):
    trials = [
        Trial(number, repeat, i, masks(thinned(space, i)))
        for number in range(2)
        for repeat in range(2)
        for i in range(2)
    ]
    forward, backward = scorer(space, draw, Chance(1)), scorer(space, draw, Chance(1))
    first = [forward.measure(trial).values for trial in trials]
    assert first == [backward.measure(trial).values for trial in reversed(trials)][::-1]


def test_worker_processes_measure_the_same_values(space, draw):
    one = scorer(space, draw, Chance(1))
    trials = {i: Trial(0, i % 2, i, masks(thinned(space, i))) for i in range(6)}
    found = []
    for n_workers in (1, 2):
        with Workers(lambda i: one.measure(trials[i]).values, n_workers) as workers:
            found.append(dict(workers.map(trials)))
    assert found[0] == found[1]


def test_weights_are_normal_by_fan_out_and_fan_in_and_changed_by_the_seed(space, draw):
    one, other = scorer(space, draw, Chance(1)), scorer(space, draw, Chance(2))
    trial = Trial(0, 0, ORIGIN, masks(space.full_mask()))
    assert one.measure(trial).values != other.measure(trial).values
    conv = one.networks["kernel"].cells[0].preprocess0.conv.weight
    assert float(conv.detach().std()) == pytest.approx((2 / conv.shape[0]) ** 0.5, rel=0.6)
    assert not torch.equal(conv, other.networks["kernel"].cells[0].preprocess0.conv.weight)


def test_a_repeat_re_initialises_the_weights_unless_parity_is_asked_for(space, draw):
    for chance, changes in ((Chance(1), True), (Chance(1, init="torch_default"), True), (Chance.parity(1), False)):
        one = scorer(space, draw, chance)
        weights = []
        for repeat in range(2):
            full = masks(space.full_mask())
            one.measure(Trial(0, repeat, 0, full, None if chance.common else full))
            weights.append(torch.cat([p.detach().flatten().clone() for p in one.networks["kernel"].parameters()]))
        assert torch.equal(*weights) != changes


def test_parity_redraws_thin_weights_for_every_candidate_and_shares_them_over_repeats():
    chance = Chance.parity(1)
    first, same, other = Trial(0, 0, 0, {}), Trial(0, 2, 0, {}), Trial(0, 0, 1, {})
    assert chance.weights("thin", first) == chance.weights("thin", same) != chance.weights("thin", other)
    assert chance.weights("kernel", first) == chance.weights("kernel", other)
    assert chance.scheme("kernel") == chance.scheme("thin") == "torch_default"


def test_parity_measures_the_origin_beside_each_candidate_with_another_head_and_the_same_images(space, draw):
    one = scorer(space, draw, Chance.parity(1))
    full = masks(space.full_mask())
    reading = one.measure(Trial(0, 0, 5, full, full))
    assert reading.origins["metantk_condition"] != reading.values["metantk_condition"]
    assert reading.origins["linear_regions"] == reading.values["linear_regions"]
    assert reading.n_evaluations == 4


def test_without_common_random_numbers_every_candidate_has_images_and_heads_of_its_own(space, draw):
    one = scorer(space, draw, Chance(1, common=False))
    full = masks(space.full_mask())
    first, second = (one.measure(Trial(0, 0, i, full, full)) for i in range(2))
    assert first.origins != second.origins
    assert first.values != second.values


def test_the_tally_of_a_trial_names_time_memory_and_networks(space, draw):
    reading = scorer(space, draw, Chance(1)).measure(Trial(0, 0, ORIGIN, masks(space.full_mask())))
    assert reading.n_evaluations == 2
    assert reading.seconds > 0
    assert reading.peak_mib > 50


def test_batches_are_a_function_of_their_seed(draw):
    assert torch.equal(draw("tasks", 3).images, draw("tasks", 3).images)
    assert not torch.equal(draw("tasks", 3).images, draw("tasks", 4).images)
    assert draw("images", 3).shape == (6, 3, 8, 8)
    assert draw("patches", 3).shape == (40, 1, 3, 3)
    tasks = draw("tasks", 3)
    assert (tasks.n_tasks, tasks.n_query, tasks.n_support, tasks.n_way) == (2, 5, 5, 5)


class Watched(np.ndarray):
    """Images that note which rows are read."""

    rows_read: set

    def __getitem__(self, key):
        if isinstance(key, tuple):
            rows = key[0]
        else:
            rows = key
        Watched.rows_read.update(np.arange(len(self))[rows].ravel().tolist())
        return np.asarray(self)[key]


def test_images_outside_the_base_classes_are_never_read(tmp_path):
    prepared = tiny_set.prepared(tmp_path)
    Watched.rows_read = set()
    watched = dataclasses.replace(prepared, images=np.asarray(prepared.images).view(Watched))
    batches = SearchImages(watched, 0, CPU, image_size=8, n_patches=60, n_images=36, tasks_per_batch=20)
    for needs in ("tasks", "images", "patches"):
        batches(needs, 1)
    assert Watched.rows_read == set(prepared.rows_of_split("base").tolist())
