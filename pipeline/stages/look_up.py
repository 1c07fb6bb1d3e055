"""Look up what a search found in a table of published accuracies: accuracy, rank, regret, the random control beside it.

Nothing is trained. The table is the benchmark's own, so its accuracies are those of networks of the benchmark's size
and recipe, not of the small ones that the search looked at.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline import spaces
from pipeline.core import provenance
from pipeline.core.artifacts import read_csv, read_json, sha256, write_csv, write_json, write_text
from pipeline.core.device import choose_device
from pipeline.core.errors import ArtifactError, UnknownNameError
from pipeline.core.progress import say
from pipeline.core.rng import numpy_stream
from pipeline.data.accuracy_tables import AccuracyTable, read_compact_csv
from pipeline.evaluation.candidates import candidate_quality
from pipeline.nets.cost import count_multiply_adds, count_parameters
from pipeline.report.drawing import draw_architectures
from pipeline.report.lookups import lookup_row
from pipeline.report.schema import check_lookup
from pipeline.stages.common import data_standing, read_params
from pipeline.strategies.indicators import best_by_ranks

PART = "test"
MOST_POINTS = 100
INPUTS = {
    "genotype": "architectures the method found",
    "trace": "steps of the search",
    "search_cost": "cost of the search",
    "table": "accuracies of the space's architectures",
    "table_facts": "where the table comes from",
    "manifest": "manifest of the prepared set that was searched on",
}


def add_arguments(parser) -> None:
    for name, what in INPUTS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", required=True, metavar="FILE", help=what)
    parser.add_argument("--params", required=True, metavar="FILE", help="frozen parameters of this job")
    parser.add_argument("--out", required=True, metavar="FILE", help="the result, a JSON file")
    parser.add_argument("--row", required=True, metavar="FILE", help="the result's row of the table of results, a CSV")
    parser.add_argument("--drawing", required=True, metavar="FILE", help="the cells of all architectures, an SVG file")


def run(arguments) -> None:
    paths = {name: getattr(arguments, name) for name in INPUTS}
    found = look_up(paths)
    write_text(arguments.drawing, drawing(read_json(paths["genotype"])))
    result = assemble(found, paths | {"drawing": arguments.drawing}, arguments.params)
    check_lookup(result, arguments.out)
    write_json(arguments.out, result)
    write_csv(arguments.row, lookup_row(result, arguments.out, sha256(arguments.out)))
    say(summary(result))


def assemble(found: Mapping[str, Any], paths: Mapping[str, str], params: str) -> dict[str, Any]:
    """The whole result, with the digests of its files as they lie on the disk and of its parameters.

    Args:
        found: what `look_up` found.
        paths: every input and the drawing, by role.
        params: frozen parameters of the looking up.
    """
    facts = found["provenance"]
    return {
        **found,
        "artifacts": dict(paths),
        "provenance": {
            **facts,
            "params_digest": {**facts["params_digest"], "look_up": read_params(params).digest},
            "files": {path: sha256(path) for path in paths.values()},
        },
    }


def look_up(paths: Mapping[str, str]) -> dict[str, Any]:
    """The result but for its files. Raises ArtifactError when the files, by role, do not belong together."""
    genotype, facts, manifest = (read_json(paths[name]) for name in ("genotype", "table_facts", "manifest"))
    if facts["space"] != genotype["space"] or genotype["data_digest"] != manifest["digest"]:
        raise ArtifactError(
            f"{paths['genotype']} holds architectures of {genotype['space']} found on other images or in another space "
            f"than {paths['table']} ({facts['space']}) and {paths['manifest']} are about. Run the search again."
        )
    table = read_compact_csv(paths["table"])
    if genotype["dataset"] not in table.datasets:
        raise UnknownNameError("data set", genotype["dataset"], table.datasets, f"({paths['table']})")
    return looked_up(genotype, table, facts, manifest, read_json(paths["search_cost"]), read_csv(paths["trace"]))


def looked_up(
    genotype: Mapping[str, Any],
    table: AccuracyTable,
    facts: Mapping[str, Any],
    manifest: Mapping[str, Any],
    cost: Mapping[str, Any],
    trace,
) -> dict[str, Any]:
    """The result as in workflow/schemas/lookup.schema.json, but for its files."""
    dataset, space = genotype["dataset"], spaces.get(genotype["space"])()
    found = [{"seed": one["seed"], "text": one["genotype"]} for one in genotype["architectures"]]
    own = [standing(table, one["text"], dataset) for one in found]
    column = table.column(dataset, PART)
    best, best_accuracy = table.best(dataset, PART)
    return {
        "schema_version": 1,
        "kind": "looked_up",
        **{name: genotype[name] for name in ("method", "dataset", "budget", "space")},
        "dataset_title": manifest["title"],
        "seeds": [one["seed"] for one in found],
        "protocol": {
            "setting": "table",
            "part": PART,
            "n_epochs": table.n_epochs,
            "n_architectures": len(table.texts),
            "table": facts["name"],
        },
        **over_seeds(own),
        "elsewhere": {
            other: {"mean": float(np.mean([table.accuracy(one["text"], other, PART) for one in found]))}
            for other in table.datasets
            if other != dataset and (other, PART) in table.means
        },
        "best": {"genotype": best, "accuracy": best_accuracy},
        "space_mean": {"mean": float(column.mean()), "sd": float(column.std())},
        "control": control_of(genotype, table, cost),
        "anytime": list(anytime(trace, table, dataset, directions(trace, genotype))),
        "genotypes": found,
        **size_of(space, [one["text"] for one in found], manifest, table_size=facts["network"]),
        "search_cost": {name: value for name, value in cost.items() if name not in ("commit", "versions", "hardware")},
        "search_stability": genotype["stability"],
        **learned_of(genotype, space, table, trace),
        "provenance": {
            **provenance.gather(choose_device("cpu")),
            "hardware": {"search": cost["hardware"]},
            "params_digest": {"search": genotype["params_digest"]},
            "data_digest": genotype["data_digest"],
            **data_standing(manifest),
            "table": {name: facts[name] for name in ("source", "sha256", "official", "lacks")},
            "command": f"snakemake --cores 4 --config budget={genotype['budget']} -- "
            f"results/{genotype['method']}_{dataset}.json",
        },
    }


def standing(table: AccuracyTable, text: str, dataset: str) -> dict[str, float]:
    """Accuracy, rank and regret of one architecture."""
    return {
        "accuracy": table.accuracy(text, dataset, PART),
        "rank": table.rank(text, dataset, PART),
        "regret": table.regret(text, dataset, PART),
    }


def over_seeds(standings: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """The mean over seeds of accuracy, rank and regret, and the single ones."""
    return {
        name: {
            "mean": float(np.mean([one[name] for one in standings])),
            "per_seed": [one[name] for one in standings],
        }
        for name in ("accuracy", "rank", "regret")
    }


def control_of(genotype: Mapping[str, Any], table: AccuracyTable, cost: Mapping[str, Any]) -> dict[str, Any] | None:
    """What random searches with equal budgets found; None where the method had none."""
    controls = genotype["controls"]
    if not controls:
        return None
    return {
        "method": "random_search",
        "n_architectures": [one["n_architectures"] for one in controls],
        "genotypes": [{"seed": one["seed"], "text": one["genotype"]} for one in controls],
        **over_seeds([standing(table, one["genotype"], genotype["dataset"]) for one in controls]),
        "search_cost": cost["controls"],
    }


def anytime(
    trace, table: AccuracyTable, dataset: str, higher_is_better: Mapping[str, bool]
) -> Iterator[dict[str, Any]]:
    """Per seed the accuracy of the architecture that would have been chosen after each number of evaluations.

    That is the best, by the sum of ranks over the indicators, of all that had been measured; for methods that measure
    whole architectures, and for their random controls.

    Args:
        higher_is_better: direction of each indicator of the trace.
    """
    if "genotype" not in trace or trace["genotype"].isna().all():
        return
    for who, event in (("method", "evaluated"), ("control", "control")):
        for seed, rows in trace[trace["event"] == event].groupby("seed"):
            columns = [(rows[name].tolist(), higher) for name, higher in higher_is_better.items()]
            texts = rows["genotype"].tolist()
            lengths = np.unique(np.linspace(1, len(texts), min(MOST_POINTS, len(texts))).round().astype(int)).tolist()
            points = []
            for n in lengths:
                chosen = best_by_ranks([(values[:n], higher) for values, higher in columns])
                points.append([n, table.accuracy(texts[chosen], dataset, PART)])
            yield {"seed": int(seed), "of": who, "points": points}


def directions(trace, genotype: Mapping[str, Any]) -> dict[str, bool]:
    """Whether high values are better, by indicator of a trace: proxies, and what the method says of its own."""
    from pipeline import proxies

    known = {name: proxies.get(name).higher_is_better for name in trace.columns if name in proxies.names()}
    return known | genotype.get("learned", {}).get("indicators", {})


def learned_of(genotype: Mapping[str, Any], space: Any, table: AccuracyTable, trace) -> dict[str, Any]:
    """What a result says of the method's learning beforehand, and how its predictions stand to the table; nothing for
    methods that did not learn."""
    if "learned" not in genotype:
        return {}
    learned, dataset = genotype["learned"], genotype["dataset"]
    (indicator,) = learned["indicators"]
    rated = trace[trace["event"] == "evaluated"]
    by_seed = [rows for _, rows in rated.groupby("seed", sort=False)]
    connected = np.array([space.is_connected(space.from_text(text)) for text in table.texts])
    in_table = candidate_quality(
        [rows[indicator].to_numpy() for rows in by_seed],
        [np.array([table.accuracy(text, dataset, PART) for text in rows["genotype"]]) for rows in by_seed],
        learned["best_of"],
        float(table.column(dataset, PART)[connected].mean()),
        numpy_stream(0, "bootstrap over candidates", dataset),
    )
    return {"learned": {**learned, "in_table": in_table}}


def size_of(
    space: Any, texts: Sequence[str], manifest: Mapping[str, Any], table_size: Mapping[str, int]
) -> dict[str, Any]:
    """Parameters and multiply-adds of the networks that the table's accuracies belong to."""
    import torch

    parameters, flops = [], []
    for text in texts:
        network = space.build(space.from_text(text), n_classes=manifest["n_classes"], **table_size)
        side = manifest["image_size"]
        parameters.append(count_parameters(network))
        flops.append(count_multiply_adds(network, torch.zeros(1, 3, side, side)))
    return {
        "parameters": {"total": float(np.mean(parameters)), "per_seed": parameters},
        "flops": float(np.mean(flops)),
    }


def drawing(genotype: Mapping[str, Any]) -> str:
    title = f"Architectures that {genotype['method']} found for {genotype['dataset']}"
    return draw_architectures(genotype["architectures"], title)


def summary(result: Mapping[str, Any]) -> str:
    """One line for the log."""
    control = result["control"]
    beside = f", random search {100 * control['accuracy']['mean']:.2f} %" if control else ""
    return (
        f"{result['method']} on {result['dataset']}: {100 * result['accuracy']['mean']:.2f} %, rank "
        f"{result['rank']['mean']:.0f} of {result['protocol']['n_architectures']}, regret "
        f"{100 * result['regret']['mean']:.2f}{beside}, best {100 * result['best']['accuracy']:.2f} %"
    )
