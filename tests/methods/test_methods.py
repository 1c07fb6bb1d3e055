"""Every method proposes architectures of its space; the published settings are the published ones."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

from pipeline import data, methods, spaces
from pipeline.core.config import BUDGETS, build, resolve
from pipeline.core.errors import CapabilityError, ScoreError
from pipeline.recipes.measuring import knobs_against_noise
from pipeline.recipes.supernet_pruning import SupernetEvaluator, chance_of, prune_supernet
from pipeline.stages import needs
from pipeline.strategies.indicators import Indicator
from pipeline.strategies.prune_by_rank import PruneByRank
from pipeline.strategies.runner import Context
from tests import tiny_set
from tests.small_learning import Source, given
from tests.small_supernet import given as decoding

SMALL = {
    "channels": 2, "image_size": 8, "repeat": 1, "prune_number": 6, "n_region_samples": 60, "tasks_per_batch": 1,
    "n_images": 4, "seeds": [0], "population_size": 3, "tournament_size": 2, "n_cycles": 2, "n_steps": 3,
    "n_candidates": 4, "n_tasks": 2, "n_architectures": 2,
}  # fmt: skip
TAGS = (*BUDGETS, *data.names(), "5cells", "8cells")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_set.prepared(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def learned(tmp_path_factory) -> tuple:
    """A data set, and all that a method may need besides, from networks that were hardly trained."""
    source = Source(tmp_path_factory.mktemp("source"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(source.folder)
        return source.prepared, given(source)


def small_config(name: str, **knobs):
    cls = methods.get(name).Config
    names = {field.name for field in dataclasses.fields(cls)}
    return build(cls, {key: value for key, value in (SMALL | knobs).items() if key in names})


def context(prepared, seed: int = 0, n_workers: int = 2, things=None) -> Context:
    device = torch.device("cpu")
    return Context(prepared, seed=seed, n_cells=2, device=device, n_workers=n_workers, given=things)


def search(name: str, prepared, seed: int = 0, n_workers: int = 2, things=None, **knobs):
    here = context(prepared, seed, n_workers, things)
    return methods.get(name).search(small_config(name, **knobs), here), here.journal


@pytest.fixture(scope="module")
def metantk(tiny):
    return search("metantk", tiny)


def test_importing_all_methods_imports_no_torch():
    program = """
import sys
from pipeline import methods
for name in methods.names():
    methods.get(name)
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", methods.names())
def test_a_method_proposes_architectures_of_its_space(name, tiny, learned):
    prepared, things = learned if needs.has_source(methods.get(name)) else (tiny, {})
    wanted = needs.needs_of(methods.get(name))
    if "meta_trained_supernet" in wanted:
        things = decoding(tiny, name)
    found, journal = search(name, prepared, things={one: things[one] for one in wanted}, only_lrs=True)
    space = spaces.get(methods.get(name).space(small_config(name)))()
    assert found
    assert len({(one.seed, one.k_shot, one.episodes) for one in found}) == len(found)
    for one in found:
        assert space.from_text(space.to_text(one.genotype)) == one.genotype
    fixed = {"anil", "conv4", "fomaml", "maml", "metalstm", "random", "random201", "randomtnas", "resnet12"}
    assert bool(journal.rows) == (name not in fixed)


@pytest.mark.parametrize("name", [name for name in spaces.names() if "prunes" in spaces.get(name).capabilities])
def test_every_space_that_prunes_can_be_searched_by_metantk(name, tiny):
    # kernels of the larger spaces' networks are computed by the searches below, and by the battery of proxies
    found, journal = search("metantk", tiny, space=name, n_region_samples=20, only_lrs=name != "nas_bench_201")
    space = spaces.get(name)()
    assert [space.from_text(space.to_text(one.genotype)) for one in found] == [one.genotype for one in found]
    assert journal.not_finite["linear_regions"] == 0 and len(journal.rows) > 20


def resolved(name: str, budget: str, dataset: str, n_cells: int) -> dict:
    return resolve(methods.get(name).Config, {}, (budget, dataset, f"{n_cells}cells"), TAGS, name)


@pytest.mark.parametrize(
    "dataset, n_cells, wanted",
    [
        ("miniimagenet", 5, ("maml", 1000, 1e-3)),
        ("miniimagenet", 8, ("anil", 1, 1e-5)),
        ("tieredimagenet", 5, ("maml", 1000, 1e-3)),
        ("tieredimagenet", 8, ("anil", 1000, 1e-3)),
    ],
)
def test_the_paper_budget_has_the_published_settings(dataset, n_cells, wanted):
    knobs = resolved("metantk", "paper", dataset, n_cells)
    assert (knobs["algorithm"], knobs["inner_lr_time"], knobs["reg_coef"]) == wanted
    common = {"channels": 48, "repeat": 3, "prune_number": 1, "tasks_per_batch": 3, "n_way": 5, "k_shot": 1,
              "n_query": 1, "n_region_samples": 3000, "only_lrs": False}  # fmt: skip
    assert {name: knobs[name] for name in common} == common


def test_every_method_has_a_value_for_every_budget_and_data_set():
    for name in methods.names():
        for budget in BUDGETS:
            for dataset in ("doublemnist", "miniimagenet"):
                for n_cells in (5, 8):
                    assert build(methods.get(name).Config, resolved(name, budget, dataset, n_cells))


@pytest.mark.parametrize("prune_number, n_pairs", [(1, 1500), (3, 636)])
@pytest.mark.parametrize("parity", [False, True])
def test_the_number_of_evaluations_is_that_of_the_reference(prune_number, n_pairs, parity):
    space = spaces.get("darts_fewshot")()
    strategy = PruneByRank(space, [Indicator("x", True)], prune_number=prune_number)
    chance = chance_of(small_config("metantk", parity=parity), 0)
    scorer = type("NoScorer", (), {"chance": chance, "proxies": {}})
    evaluator = SupernetEvaluator(scorer, space, n_repeats=3, n_workers=1, seed=0)
    n_origins = 0 if parity else 3 * len(strategy.sizes_left())
    assert sum(map(evaluator.n_jobs, strategy.sizes_left())) == n_pairs + n_origins


def test_every_candidate_of_every_round_is_in_the_trace(metantk):
    _, journal = metantk
    assert [sum(row["round"] == number for row in journal.rows) for number in range(5)] == [127, 4, 5, 4, 5]
    assert {row["event"] for row in journal.rows} == {"origin", "kept", "pruned", "edge_kept", "edge_pruned"}
    assert journal.network_evaluations == 2 * len(journal.rows)
    assert all(np.isfinite(row["linear_regions"]) for row in journal.rows)
    assert sum(row["event"] == "pruned" for row in journal.rows) == 18 * 6
    ranks = [row["rank"] for row in journal.rows if row["round"] == 0][1:]
    assert ranks == list(range(126))


def test_the_trace_leads_to_the_genotype(metantk):
    (found,), journal = metantk
    space = spaces.get("darts_fewshot")()
    mask = space.full_mask()
    for row in journal.rows:
        if row["event"] in ("pruned", "edge_pruned"):
            place = space.cell_types.index(row["cell"]), row["edge"], space.operations.index(row["operation"])
            assert mask[place]
            mask[place] = False
    assert space.genotype_of(mask) == found.genotype


def comparable(journal) -> list[dict]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in journal.rows]


def test_neither_one_worker_nor_other_pixels_outside_the_base_classes_change_a_number(tiny):
    knobs = {"space": "nas_bench_201", "prune_number": 2}
    expected, of_expected = search("metantk", tiny, **knobs)
    images = np.array(tiny.images)
    others = np.setdiff1d(np.arange(len(images)), tiny.rows_of_split("base"))
    images[others] = 255 - images[others]
    found, journal = search("metantk", dataclasses.replace(tiny, images=images), n_workers=1, **knobs)
    assert found == expected
    assert comparable(journal) == comparable(of_expected)


def test_another_run_seed_and_another_search_seed_measure_other_numbers(tiny):
    knobs = {"space": "nas_bench_201", "only_lrs": True, "n_region_samples": 500}
    _, first = search("metantk", tiny, seeds=[0, 1], **knobs)
    _, second = search("metantk", tiny, seed=1, **knobs)
    values = [[row["linear_regions"] for row in rows] for rows in (
        [row for row in first.rows if row["seed"] == 0],
        [row for row in first.rows if row["seed"] == 1],
        second.rows,
    )]  # fmt: skip
    assert values[0] != values[1] != values[2] != values[0]


def test_ranking_by_regions_alone_computes_no_kernel(tiny):
    _, journal = search("metantk", tiny, only_lrs=True)
    assert journal.network_evaluations == len(journal.rows)
    assert "metantk_condition" not in journal.rows[0]


def test_parity_measures_origins_beside_candidates(tiny):
    _, journal = search("metantk", tiny, parity=True, only_lrs=True)
    assert {row["event"] for row in journal.rows} == {"kept", "pruned", "edge_kept", "edge_pruned"}
    assert journal.network_evaluations == 2 * len(journal.rows)


def test_the_single_task_kernel_is_another_indicator_of_the_same_search(tiny):
    _, journal = search("ntk", tiny)
    assert {"ntk_condition", "linear_regions"} < set(journal.rows[0])
    assert journal.network_evaluations == 2 * len(journal.rows)


@pytest.mark.parametrize(
    "name, knobs",
    {
        "metantk": ["repeat", "tasks_per_batch", "n_region_samples"],
        "ntk": ["repeat", "n_images", "n_region_samples"],
        "tenas": ["repeat", "n_images", "n_region_samples"],
        "tegnas_evo": ["repeat", "n_images", "n_region_samples"],
    }.items(),
)
def test_what_helps_against_noise_is_called_as_in_params_yaml_and_is_a_knob_of_the_method(name, knobs):
    here = Context(None, seed=0, n_cells=2, device=torch.device("cpu"), section=f"search.{name}")
    assert knobs_against_noise(small_config(name), here) == [f"search.{name}.{knob}" for knob in knobs]


def test_the_user_is_told_when_stability_is_unknown_or_absent(metantk, capsys, tiny):
    _, journal = metantk
    assert journal.stability["n_repeats"] == 1
    search("metantk", tiny, only_lrs=True)
    assert "warning: With one repeat" in capsys.readouterr().err


def test_random_architectures_are_distinct_and_reproducible(tiny):
    first, _ = search("random", tiny, n_architectures=5)
    again, _ = search("random", tiny, n_architectures=5)
    other, _ = search("random", tiny, seed=1, n_architectures=5)
    assert first == again != other
    assert len({str(one.genotype) for one in first}) == 5


def test_a_space_that_cannot_be_pruned_is_refused(tiny):
    with pytest.raises(CapabilityError, match="conv4"):
        search("metantk", tiny, space="conv4")


@dataclasses.dataclass(frozen=True)
class Undefined:
    """A kernel that no network has."""

    name = "undefined"
    higher_is_better = False
    needs = "tasks"
    network = "kernel"

    def __call__(self, network, batch, generator) -> float:
        return float("inf")


def test_a_search_without_any_finite_score_ends_with_an_error_and_no_architecture(tiny):
    here = context(tiny)
    with pytest.raises(ScoreError, match="undefined"):
        prune_supernet(
            small_config("metantk"),
            Undefined(),
            here,
            lambda needs, seed: torch.randn(40, 1, 3, 3),
            channels=2,
            n_cells=2,
        )
    assert here.journal.found == {}
