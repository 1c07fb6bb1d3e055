"""Rate proxies: how well their scores of a sample foretell the accuracies of a published table."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from pipeline import proxies
from pipeline.core import provenance
from pipeline.core.artifacts import digest, read_csv, read_json, sha256, write_json, write_text
from pipeline.core.device import choose_device
from pipeline.core.errors import ArtifactError, ConfigError, UnknownNameError
from pipeline.core.progress import say
from pipeline.core.rng import numpy_stream
from pipeline.core.wording import fixed
from pipeline.data.accuracy_tables import AccuracyTable, read_compact_csv
from pipeline.evaluation.rank_quality import TOP_FRACTION, oriented, rank_quality, seed_variance
from pipeline.report.cards import published_beside, render_card
from pipeline.report.schema import check_card
from pipeline.stages.common import Frozen, data_standing, read_params
from pipeline.strategies.indicators import rank_sums

PART = "test"
SIZE = "n_params"
COMBINED = (
    ("coupled_ntk_condition", "linear_regions"),
    ("coupled_ntk_condition", "linear_regions", "ntk_regression_error"),
)
INPUTS = {
    "scores": "a row per architecture, proxy and repeat",
    "score_cost": "cost of the scoring",
    "table": "accuracies of the space's architectures",
    "table_facts": "where the table comes from",
    "manifest": "manifest of the prepared set",
}


def add_arguments(parser) -> None:
    for name, what in INPUTS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", required=True, metavar="FILE", help=what)
    parser.add_argument("--params", required=True, metavar="FILE", help="frozen parameters of this job")
    parser.add_argument("--out", required=True, metavar="FILE", help="the report card, a JSON file")
    parser.add_argument("--page", required=True, metavar="FILE", help="the same as a page, an HTML file")


def run(arguments) -> None:
    frozen = read_params(arguments.params)
    paths = {name: getattr(arguments, name) for name in INPUTS}
    cost, facts, manifest = (read_json(paths[name]) for name in ("score_cost", "table_facts", "manifest"))
    if cost["data_digest"] != manifest["digest"]:
        raise ArtifactError(
            f"{paths['scores']} was made from other images than those {paths['manifest']} describes. Run the score "
            "stage again."
        )
    table = read_compact_csv(paths["table"])
    if frozen.dataset not in table.datasets:
        raise UnknownNameError("data set", frozen.dataset, table.datasets, f"({paths['table']})")
    card = rated(frozen, read_csv(paths["scores"]), table, facts, manifest, cost)
    card["artifacts"] = dict(paths)
    card["provenance"]["files"] = {path: sha256(path) for path in paths.values()}
    check_card(card, arguments.out)
    write_json(arguments.out, card)
    write_text(arguments.page, render_card(card))
    for one in card["proxies"]:
        tau = one["figures"]["kendall_tau_b"]
        if tau["value"] is not None:
            value, low, high = (fixed(tau[name], 3) for name in ("value", "low", "high"))
            say(f"{one['name']}: Kendall tau {value} ({low} to {high})")


def rated(
    frozen: Frozen,
    scores,
    table: AccuracyTable,
    facts: Mapping[str, Any],
    manifest: Mapping[str, Any],
    cost: Mapping[str, Any],
) -> dict[str, Any]:
    """The report card as in workflow/schemas/proxies.schema.json, but for its files."""
    space, settings, rate = (frozen.params[name] for name in ("space", "score", "rate"))
    if SIZE not in settings["proxies"]:
        raise ConfigError(f"score.proxies lacks {SIZE}: figures are given beside the size of a network. Add it.")
    genotypes = list(dict.fromkeys(scores["genotype"]))
    accuracies = np.array([table.accuracy(text, frozen.dataset, PART) for text in genotypes])
    by_proxy = {name: measurements(scores, name, genotypes) for name in settings["proxies"]}
    log_params = np.log(by_proxy[SIZE].mean(0))

    def of(name: str, means: np.ndarray, parts: Sequence[str], repeats: np.ndarray | None) -> dict[str, Any]:
        generator = numpy_stream(frozen.seed, "report card", name)
        figures = rank_quality(means, accuracies, log_params, generator=generator, n_resamples=rate["n_resamples"])
        written = {key: asdict(value) for key, value in figures.items()}
        seconds = [scores.loc[scores["proxy"] == part, "seconds"].mean() for part in parts]
        own = [by_proxy[part] for part in parts]
        return {
            "name": name,
            "title": title_of(parts),
            "higher_is_better": len(parts) > 1 or proxies.get(name).higher_is_better,
            "combines": list(parts) if len(parts) > 1 else [],
            "figures": written,
            **(seed_variance(repeats) if repeats is not None and len(repeats) > 1 else NO_SEEDS),
            "n_not_finite": int(sum((~np.isfinite(one)).sum() for one in own)),
            "n_measurements": int(sum(one.size for one in own)),
            "seconds_per_architecture": float(np.sum(seconds)),
            "published": published_beside(space, frozen.dataset, name, written),
        }

    rows = [
        of(name, oriented(one.mean(0), proxies.get(name).higher_is_better), [name], one)
        for name, one in by_proxy.items()
    ]
    for parts in COMBINED:
        if set(parts) <= set(by_proxy):
            columns = [(by_proxy[part].mean(0).tolist(), proxies.get(part).higher_is_better) for part in parts]
            rows.append(of("+".join(parts), -np.array(rank_sums(columns), dtype=float), parts, None))
    n_all = len(table.texts)
    return {
        "schema_version": 1,
        "kind": "proxy_card",
        "space": space,
        "dataset": frozen.dataset,
        "dataset_title": manifest["title"],
        "budget": frozen.budget,
        "sample": {
            "n_architectures": len(genotypes),
            "of": n_all,
            "all": len(genotypes) == n_all,
            "digest": digest(sorted(genotypes)),
        },
        "n_repeats": settings["repeat"],
        "settings": settings,
        "target": {"part": PART, "n_epochs": table.n_epochs, "table": facts["name"]},
        "top_fraction": TOP_FRACTION,
        "n_resamples": rate["n_resamples"],
        "proxies": rows,
        "scatter": {
            "accuracies": accuracies.tolist(),
            "scores": {
                name: [value if np.isfinite(value) else None for value in one.mean(0).tolist()]
                for name, one in by_proxy.items()
            },
        },
        "cost": {name: cost[name] for name in ("wall_seconds", "device_seconds", "network_evaluations")},
        "provenance": {
            **provenance.gather(choose_device("cpu")),
            "hardware": {"score": cost["hardware"]},
            "params_digest": {"score": cost["params_digest"], "rate": frozen.digest},
            "data_digest": cost["data_digest"],
            **data_standing(manifest),
            "table": {name: facts[name] for name in ("source", "sha256", "official", "lacks")},
            "command": f"snakemake --cores 4 --config budget={frozen.budget} -- "
            f"results/proxies_{space}_{frozen.dataset}.json",
        },
    }


NO_SEEDS = {"tau_between_seeds": None, "variance_within": None}


def measurements(scores, name: str, genotypes: Sequence[str]) -> np.ndarray:
    """Scores of a proxy (repeat, architecture). Raises ArtifactError when some are missing."""
    table = scores[scores["proxy"] == name].pivot(index="repeat", columns="genotype", values="score")
    if table.empty or set(table.columns) != set(genotypes):
        raise ArtifactError(f"The scores of {name} do not cover the sample. Run the score stage again.")
    return table[list(genotypes)].to_numpy(dtype=np.float64)


def title_of(parts: Sequence[str]) -> str:
    """Names as people read them."""
    return " + ".join(part.replace("_", " ") for part in parts)
