"""The stages that meta-learn and test: what is put together from which start, resuming, refusals."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from pipeline import methods
from pipeline.core.artifacts import sha256, write_json
from pipeline.core.config import resolve
from pipeline.core.errors import ArtifactError
from pipeline.data.prepared import PreparedSet
from pipeline.episodes import files
from pipeline.evaluation import episodic
from pipeline.evaluation.few_shot_test import Outcome
from pipeline.evaluation.settings import AdaptConfig
from pipeline.stages import meta_learned
from pipeline.stages.adapt import Part, as_papers_print, numbers_tested, of_seeds
from pipeline.stages.meta_learned import Start
from tests import tiny_set
from tests.small_supernet import stored
from tests.stages.frozen import run

TAGS = {"laptop", "gpu", "paper", "doublemnist", "omniglot"}
KNOBS = {"n_iterations": 4, "validate_every": 2, "n_validation_episodes": 2, "n_query": 2, "tasks_per_batch": 2,
         "channels": 3, "image_size": 16, "inner_steps": 1, "test_steps": 1}  # fmt: skip
SEEDS = [0, 4]


class Folder:
    """Images, episodes and the one architecture of MAML, with frozen parameters of its stages."""

    def __init__(self, folder, k_shots=(1, 2)):
        self.folder = folder
        self.prepared = tiny_set.write(folder / "tiny", size=16)
        opened = PreparedSet.open(**self.prepared)
        self.episodes = folder / "episodes.csv"
        files.write(self.episodes, stored(opened, 5, k_shots).episodes)
        self.genotype = folder / "genotype.json"
        rows = [{"seed": seed, "genotype": "conv4_flat", "graph": {"cells": []}} for seed in SEEDS]
        self.facts = {
            "method": "maml", "dataset": "tiny", "budget": "laptop", "space": "conv4_flat", "architectures": rows,
            "params_digest": "1" * 64, "data_digest": opened.digest,
        }  # fmt: skip
        write_json(self.genotype, self.facts)
        learning = resolve(methods.get("maml").Learning, KNOBS, ("laptop",), TAGS, "meta_learn.maml")
        adapt = resolve(AdaptConfig, {"n_untrained_episodes": 3, "n_resamples": 10}, ("laptop",), TAGS, "adapt")
        common = {"dataset": "tiny", "method": "maml", "budget": "laptop", "seed": 7, "code": "0" * 64}
        tasks = {"n_way": 5, "k_shots": list(k_shots)}
        for stage, params in (("meta_learn", {"episodes": tasks}), ("adapt", {"adapt": adapt})):
            params = {"meta_learn": learning, **params}
            write_json(folder / f"{stage}.json", {"stage": stage, "params": params, **common})

    def path(self, name):
        return self.folder / name

    def learn(self, name="weights"):
        outputs = {"weights": self.path(f"{name}.safetensors"), "curve": self.path("curve.csv")}
        own = {"genotype": self.genotype, "params": self.path("meta_learn.json"), "cost": self.path("cost.json")}
        run("meta_learn", **self.prepared, **own, **outputs)
        return outputs["weights"]

    def test(self):
        outputs = {"measured": self.path("measured.json"), "accuracies": self.path("accuracies.csv")}
        own = {"genotype": self.genotype, "weights": self.path("weights.safetensors"), "episodes": self.episodes}
        run("adapt", **self.prepared, **own, params=self.path("adapt.json"), **outputs)
        return json.loads(outputs["measured"].read_text()), pd.read_csv(outputs["accuracies"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = Folder(tmp_path_factory.mktemp("adapt"))
    write_json(made.folder / "build/machine.json", {"mirror": None, "device": "cpu", "threads": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made.folder)
        made.learn()
        yield made


def test_each_architecture_has_a_start_for_each_shot_and_its_own_curve(folder):
    curve = pd.read_csv(folder.path("curve.csv"))
    groups = curve.groupby(["seed", "k_shot", "architecture"])["iteration"].apply(list).to_dict()
    assert groups == {(seed, k, place): [2, 4] for place, seed in enumerate(SEEDS) for k in (1, 2)}
    cost = json.loads(folder.path("cost.json").read_text())
    assert len(cost["networks"]) == 4 and cost["wall_seconds"] > 0


def test_every_seed_is_tested_on_every_stored_episode_and_the_means_are_those_of_the_table(folder):
    measured, table = folder.test()
    assert len(table) == 2 * 2 * 5 and measured["seeds"] == SEEDS and measured["kind"] == "adapted"
    for k_shot in ("1", "2"):
        part = table[table["k_shot"] == int(k_shot)]
        of = measured["accuracy"][k_shot]
        assert of["mean"] == pytest.approx(part["accuracy"].mean())
        assert of["per_seed"] == pytest.approx(part.groupby("seed")["accuracy"].mean().tolist())
        assert of["std"] == pytest.approx(part.groupby("episode")["accuracy"].mean().std())
    assert measured["protocol"]["setting"] == "transductive" and measured["protocol"]["n_untrained_episodes"] == 3
    assert {block["n_episodes"] for block in measured["untrained"].values()} == {3}
    assert set(measured["provenance"]["params_digest"]) == {"search", "meta_learn", "adapt"}


def test_a_job_that_was_broken_off_ends_with_the_same_weights(folder, monkeypatch):
    wanted = sha256(folder.path("weights.safetensors"))
    step, calls = episodic.OuterLoop.step, []

    def breaking(self):
        calls.append(self)
        if len(calls) == 12:
            raise KeyboardInterrupt
        step(self)

    monkeypatch.setattr(episodic.OuterLoop, "step", breaking)
    with pytest.raises(KeyboardInterrupt):
        folder.learn("again")
    calls.append(None)
    assert sha256(folder.learn("again")) == wanted


@pytest.mark.parametrize("accuracy, warned", [(0.24, True), (0.26, False)])
def test_a_start_that_is_no_better_than_guessing_is_warned_of(folder, monkeypatch, capsys, accuracy, warned):
    learn = meta_learned.meta_learn

    def told(*arguments, **options):
        return dataclasses.replace(learn(*arguments, **options), accuracy=accuracy, ci95=0.05)

    monkeypatch.setattr(meta_learned, "meta_learn", told)
    folder.learn("told")
    assert ("no better than guessing one of 5 classes" in capsys.readouterr().err) == warned


def test_starts_of_other_architectures_are_refused(folder):
    rows = [{**row, "seed": row["seed"] + 1} for row in folder.facts["architectures"]]
    write_json(folder.genotype, folder.facts | {"architectures": rows})
    try:
        with pytest.raises(ArtifactError, match="meta-learned with other architectures"):
            folder.test()
    finally:
        write_json(folder.genotype, folder.facts)


def outcome(numbers) -> Outcome:
    """Whose images are numbered by their episode."""
    images = np.repeat(np.asarray(numbers), 2).reshape(-1, 1, 2)
    return Outcome(images % 2 == 0, images, images)


def part(seed: int, numbers: list[int], k_shot: int = 1) -> Part:
    start = Start(f"0/{k_shot}", None, k_shot, 0, {"seed": seed, "episodes": numbers})
    return Part(start, numbers, outcome(numbers), (numbers[:1], outcome(numbers[:1])), None, {})


def test_one_outcome_per_seed_is_put_together_by_the_number_of_the_episode():
    parts = [part(0, [1, 3]), part(0, [0, 2]), part(4, [0, 1, 2, 3])]
    first, second = of_seeds(parts, SEEDS, 1, "trained")
    assert first.images[:, 0, 0].tolist() == second.images[:, 0, 0].tolist() == [0, 1, 2, 3]
    assert first.accuracies.tolist() == [1, 0, 1, 0]
    assert of_seeds(parts, SEEDS, 1, "untrained")[0].images[:, 0, 0].tolist() == [0, 1]
    assert numbers_tested(parts, SEEDS, 1) == [0, 1, 2, 3]


@pytest.mark.parametrize("other", [[0, 1, 2], [0, 1, 2, 2], [0, 1, 2, 4]])
def test_seeds_that_were_tested_on_other_episodes_or_twice_are_refused(other):
    with pytest.raises(ArtifactError, match="not for the same 1-shot episodes"):
        numbers_tested([part(0, [0, 1, 2, 3]), part(4, other)], SEEDS, 1)


def test_the_interval_of_the_papers_is_that_of_the_normal_distribution():
    found = as_papers_print(np.array([0.2, 0.4, 0.6, 0.8]))
    assert found["std"] == pytest.approx((0.2 / 3) ** 0.5)
    assert found["normal_ci95"] == pytest.approx(1.96 * found["std"] / 2, rel=1e-4)
    assert as_papers_print(np.array([0.5])) == {"std": None, "normal_ci95": None}
