"""A report card of proxies as the stage that judges them writes it, with made scores."""

from typing import Any

import numpy

from pipeline.core.artifacts import digest
from pipeline.report.cards import published_beside
from tests.made_results import surroundings

TITLES = {
    "n_params": "parameters",
    "flops": "multiply-adds",
    "linear_regions": "linear regions",
    "coupled_ntk_condition": "condition number of the NTK through train-mode BatchNorm",
    "naswot": "NASWOT",
    "zico": "ZiCo",
}
TAUS = {"n_params": 0.58, "flops": 0.55, "linear_regions": 0.43, "coupled_ntk_condition": 0.31, "naswot": 0.60,
        "zico": None, "coupled_ntk_condition+linear_regions": 0.50}  # fmt: skip
LOWER_IS_BETTER = ("coupled_ntk_condition",)


def figure(value: float | None, half: float = 0.04) -> dict[str, float | None]:
    ends = (None, None) if value is None else (max(-1.0, value - half), min(1.0, value + half))
    return {"value": value, "low": ends[0], "high": ends[1]}


def proxy(name: str, tau: float | None, space: str, dataset: str) -> dict[str, Any]:
    parts = name.split("+")
    figures = {
        "kendall_tau_b": figure(tau),
        "spearman": figure(None if tau is None else 1.3 * tau),
        "partial_spearman_given_log_params": figure(None if tau is None or name == "n_params" else 0.3 * tau),
        "ndcg": figure(None if tau is None else 0.5 + 0.4 * tau, 0.02),
        "regret_of_best": figure(None if tau is None else 0.012 - 0.01 * tau, 0.002),
    }
    single = len(parts) == 1
    return {
        "name": name,
        "title": " and ".join(TITLES[part] for part in parts),
        "higher_is_better": name not in LOWER_IS_BETTER,
        "combines": [] if single else parts,
        "figures": figures,
        "tau_between_seeds": 0.71 if single and tau is not None else None,
        "variance_within": 0.12 if single and tau is not None else None,
        "n_not_finite": 400 if tau is None else 3 if name in LOWER_IS_BETTER else 0,
        "n_measurements": 400 if single else 0,
        "seconds_per_architecture": 0.213 if single else None,
        "published": published_beside(space, dataset, name, figures),
    }


def scores(name: str, accuracies: numpy.ndarray) -> list[float | None]:
    """Raw scores that rank about as the made tau says; some are no numbers."""
    tau = TAUS[name]
    if tau is None:
        return [None] * len(accuracies)
    noise = numpy.random.default_rng(len(name)).normal(0, 1, len(accuracies))
    latent = tau * (accuracies - accuracies.mean()) / accuracies.std() + (1 - tau) * noise
    raw = 10 ** (3 - 2 * latent) if name in LOWER_IS_BETTER else 100 + 20 * latent
    return [None if name in LOWER_IS_BETTER and i % 97 == 5 else float(value) for i, value in enumerate(raw)]


def card(n: int = 200, dataset: str = "cifar10", title: str = "CIFAR-10", **changes: Any) -> dict[str, Any]:
    """A card over `n` architectures; `changes` are top-level keys to replace."""
    accuracies = 0.94 - 0.1 * numpy.random.default_rng(5).gamma(1.0, 1.0, n).clip(0, 8)
    space = "nas_bench_201"
    return {
        "schema_version": 1,
        "kind": "proxy_card",
        "space": space,
        "dataset": dataset,
        "dataset_title": title,
        "budget": "laptop",
        "sample": {"n_architectures": n, "of": 15625, "all": n == 15625, "digest": digest(["sample", n])},
        "n_repeats": 2,
        "settings": {"n_images": 64, "image_size": 32, "init": "kaiming", "n_region_samples": 3000},
        "target": {"part": "test", "n_epochs": 200, "table": "nas_bench_201"},
        "top_fraction": 0.1,
        "n_resamples": 1000,
        "proxies": [proxy(name, tau, space, dataset) for name, tau in TAUS.items()],
        "scatter": {"accuracies": accuracies.tolist(), "scores": {name: scores(name, accuracies) for name in TAUS}},
        "cost": {"wall_seconds": 512.0, "device_seconds": 500.0, "network_evaluations": 2400},
        "artifacts": {"scores": "scores/nas_bench_201_cifar10.csv"},
        "provenance": {
            **surroundings(),
            "hardware": {"score": surroundings()["hardware"]},
            "params_digest": {"score": digest("score")},
            "data_digest": digest(dataset),
            "official_data": True,
            "table": {"source": "a table of 15,625 accuracies", "sha256": digest("table"), "official": False,
                      "lacks": "accuracies of single seeds on two of the data sets"},
            "files": {"scores/nas_bench_201_cifar10.csv": digest("scores")},
            "command": "snakemake --cores 4 --config budget=laptop -- results/proxies_nas_bench_201_cifar10.json",
        },
        **changes,
    }  # fmt: skip
