"""The proxies' report card: scores of a sample that resumes, figures against slow ones, refusals."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau, spearmanr

from pipeline import spaces
from pipeline.core.artifacts import write_json
from pipeline.core.config import resolve
from pipeline.core.errors import ArtifactError, ConfigError
from pipeline.core.rng import torch_stream
from pipeline.recipes.proxy_scores import RateConfig, ScoreConfig
from tests import tiny_set
from tests.stages.frozen import run

PROXIES = ["n_params", "linear_regions", "naswot", "coupled_ntk_condition", "ntk_regression_error"]
SMALL = {
    "proxies": PROXIES, "n_architectures": 8, "repeat": 2, "n_images": 6, "image_size": 8, "n_region_samples": 40,
    "kernel_channels": 2, "kernel_cells": 1, "channels": 4, "n_cells": 1,
}  # fmt: skip
TAGS = ("laptop", "gpu", "paper", "cifar10", "cifar100", "imagenet16", "imagenet")


def frozen(folder, stage: str, **knobs):
    score = resolve(ScoreConfig, SMALL | knobs, ("laptop", "cifar10"), TAGS, "score")
    params = {"space": "nas_bench_201", "score": score}
    if stage == "rate":
        params["rate"] = resolve(RateConfig, {"n_resamples": 20}, ("laptop",), TAGS, "rate")
    content = {"stage": stage, "dataset": "cifar10", "budget": "laptop", "seed": 0, "params": params, "code": "0"}
    write_json(folder / f"{stage}.json", content)
    return folder / f"{stage}.json"


def score(folder, monkeypatch, damaged=False, **knobs) -> dict:
    monkeypatch.chdir(folder)
    write_json(folder / "build/machine.json", {"mirror": None, "device": "cpu", "threads": 1})
    images = tiny_set.write(folder / "prepared")
    if damaged:
        tiny_set.damage(images["images"])
    out = {"scores": folder / "scores.csv", "cost": folder / "cost.json"}
    run("score", space="nas_bench_201", params=frozen(folder, "score", **knobs), **images, **out)
    return {**images, **out}


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored")
    with pytest.MonkeyPatch.context() as patch:
        return folder, score(folder, patch)


def test_images_that_are_not_those_of_the_manifest_are_not_scored_on(tmp_path, monkeypatch):
    with pytest.raises(ArtifactError, match="tiny.images.npy is not the file that"):
        score(tmp_path, monkeypatch, damaged=True)
    assert not (tmp_path / "scores.csv").exists()


def table_of(folder, genotypes, rng) -> np.ndarray:
    """A made table in which the sample's architectures have accuracies; returns them as fractions."""
    accuracies = rng.uniform(10, 95, len(genotypes)).round(3)
    lines = [f"{i},{text},{value}\n" for i, (text, value) in enumerate(zip(genotypes, accuracies, strict=True))]
    (folder / "table.csv").write_text("index,arch_str,cifar10_test\n" + "".join(lines))
    facts = {
        "name": "NAS-Bench-201", "space": "nas_bench_201", "network": {"channels": 16, "n_cells": 15},
        "source": "made", "sha256": "1" * 64, "official": False, "lacks": [],
    }  # fmt: skip
    write_json(folder / "table.json", facts)
    return accuracies / 100


def rate(folder, paths, **knobs):
    out = {"out": folder / "card.json", "page": folder / "card.html"}
    run(
        "rate",
        scores=paths["scores"],
        table=folder / "table.csv",
        manifest=folder / "manifest.json",
        params=frozen(folder, "rate", **knobs),
        **{"score-cost": paths["cost"], "table-facts": folder / "table.json"},
        **out,
    )
    return json.loads(out["out"].read_text()), out["page"].read_text()


@pytest.fixture(scope="module")
def card(scored):
    folder, paths = scored
    scores = pd.read_csv(paths["scores"])
    accuracies = table_of(folder, list(dict.fromkeys(scores["genotype"])), np.random.default_rng(0))
    manifest = json.loads(paths["manifest"].read_text()) | {"official": False, "sources": []}
    write_json(folder / "manifest.json", manifest)
    return *rate(folder, paths), scores, accuracies


def test_every_architecture_of_the_sample_has_a_score_by_every_proxy_in_every_repeat(scored):
    scores = pd.read_csv(scored[1]["scores"])
    assert len(scores) == 8 * len(PROXIES) * 2
    assert set(scores["proxy"]) == set(PROXIES) and scores["genotype"].nunique() == 8
    assert (scores["seconds"] >= 0).all()


def test_the_sample_is_that_of_the_named_stream(scored):
    space, generator = spaces.get("nas_bench_201")(), torch_stream(0, "sample of architectures")
    drawn = dict.fromkeys(space.to_text(space.sample(generator)) for _ in range(8))
    assert list(dict.fromkeys(pd.read_csv(scored[1]["scores"])["genotype"])) == list(drawn)


def test_scoring_again_gives_the_same_scores(scored, tmp_path, monkeypatch):
    again = pd.read_csv(score(tmp_path, monkeypatch)["scores"])
    before = pd.read_csv(scored[1]["scores"])
    pd.testing.assert_frame_equal(again.drop(columns="seconds"), before.drop(columns="seconds"))


def test_figures_are_those_of_scipy_on_the_means_over_repeats(card):
    content, _, scores, accuracies = card
    rows = {one["name"]: one for one in content["proxies"]}
    for name, sign in (("n_params", 1), ("linear_regions", 1), ("ntk_regression_error", -1)):
        values = scores[scores["proxy"] == name].groupby("genotype", sort=False)["score"].mean().to_numpy()
        usable = np.isfinite(values)
        tau = sign * kendalltau(values[usable], accuracies[usable]).statistic
        rho = sign * spearmanr(values[usable], accuracies[usable]).statistic
        figures = rows[name]["figures"]
        assert figures["kendall_tau_b"]["value"] == pytest.approx(tau, nan_ok=True)
        assert figures["spearman"]["value"] == pytest.approx(rho, nan_ok=True)
        assert rows[name]["n_not_finite"] == int((~np.isfinite(scores[scores["proxy"] == name]["score"])).sum())


def test_sums_of_ranks_are_judged_beside_the_proxies_they_sum(card):
    content, page, *_ = card
    names = [one["name"] for one in content["proxies"]]
    assert "coupled_ntk_condition+linear_regions" in names
    assert "coupled_ntk_condition+linear_regions+ntk_regression_error" in names
    assert "naswot" in page and content["sample"] == {**content["sample"], "n_architectures": 8, "all": True}


def test_a_card_without_the_size_of_networks_is_refused(scored, card):
    with pytest.raises(ConfigError, match="n_params"):
        rate(*scored, proxies=["naswot"])


def test_scores_of_other_images_are_refused(scored, card, tmp_path):
    folder, paths = scored
    manifest = json.loads((folder / "manifest.json").read_text())
    write_json(folder / "manifest.json", manifest | {"digest": "9" * 64})
    try:
        with pytest.raises(ArtifactError, match="other images"):
            rate(folder, paths)
    finally:
        write_json(folder / "manifest.json", manifest)
