"""Join what was measured into results/{method}_{dataset}.json, beside the random control on the same episodes.

No network is run here. Artifacts that do not belong together (another budget, other data, other episodes, another
protocol or training recipe) are refused.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.core.artifacts import read_csv, read_json, sha256, to_json, write_csv, write_json, write_text
from pipeline.core.errors import ArtifactError
from pipeline.evaluation.statistics import paired_difference, relative_improvement
from pipeline.report.drawing import draw_architectures
from pipeline.report.schema import check_result
from pipeline.report.tables import result_row
from pipeline.stages.common import read_params

INPUTS = {
    "measured": "accuracies and intervals of the method",
    "accuracies": "accuracy of every episode, of the method",
    "control": "accuracies and intervals of the random control",
    "control_accuracies": "accuracy of every episode, of the random control",
    "genotype": "architectures the method found",
    "trace": "steps of the search",
    "search_cost": "cost of the search",
    "curve": "losses and accuracies of the training",
    "train_cost": "cost of the training",
}
COPIED = (
    "method", "dataset", "dataset_title", "budget", "protocol", "accuracy", "prototypes", "untrained", "parameters",
    "flops", "seeds",
)  # fmt: skip
FACTS = (
    "commit", "params_digest", "data_digest", "episodes_digest", "recipe_digest", "official_data", "versions",
    "hardware",
)  # fmt: skip


class Inputs(NamedTuple):
    """The files of one comparison, read."""

    measured: dict[str, Any]
    accuracies: Any
    control: dict[str, Any]
    control_accuracies: Any
    genotype: dict[str, Any]
    search_cost: dict[str, Any]
    train_cost: dict[str, Any]


def add_arguments(parser) -> None:
    for name, what in INPUTS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", required=True, metavar="FILE", help=what)
    parser.add_argument("--params", metavar="FILE", help="frozen parameters of this job")
    parser.add_argument("--out", required=True, metavar="FILE", help="the result, a JSON file")
    parser.add_argument("--row", required=True, metavar="FILE", help="the result's row of the leaderboard, a CSV file")
    parser.add_argument("--drawing", required=True, metavar="FILE", help="the cells of all architectures, an SVG file")


def run(arguments) -> None:
    paths = {name: getattr(arguments, name) for name in INPUTS}
    inputs = read(paths)
    check_same_test(inputs.measured, inputs.control)
    check_same_search(inputs.measured, inputs.genotype)
    write_text(arguments.drawing, drawing(inputs.genotype))
    paths["drawing"] = arguments.drawing
    result = joined(inputs, paths, {name: sha256(path) for name, path in paths.items()})
    if arguments.params:
        result["provenance"]["params_digest"]["compare"] = read_params(arguments.params).digest
    check_result(result, arguments.out)
    write_json(arguments.out, result)
    write_csv(arguments.row, result_row(result, arguments.out, sha256(arguments.out)))


def read(paths: Mapping[str, str]) -> Inputs:
    """All input files. Raises ArtifactError for those that are missing, damaged or lack what is needed of them."""
    measured, control = (measurement(paths[name]) for name in ("measured", "control"))
    own, other = (
        episode_table(paths[table], content["protocol"]["read_out"])
        for table, content in (("accuracies", measured), ("control_accuracies", control))
    )
    for name in ("trace", "curve"):
        if not Path(paths[name]).is_file():
            raise ArtifactError(f"{paths[name]} is missing. Run the stage that makes it.")
    genotype, search_cost, train_cost = (read_json(paths[name]) for name in ("genotype", "search_cost", "train_cost"))
    return Inputs(measured, own, control, other, genotype, search_cost, train_cost)


def measurement(path: str) -> dict[str, Any]:
    """A file of results/measured/. Raises ArtifactError when something is not in it."""
    content = read_json(path)
    missing = [name for name in COPIED if name not in content]
    missing += [f"provenance.{name}" for name in FACTS if name not in content.get("provenance", {})]
    if missing:
        raise ArtifactError(f"{path} lacks {', '.join(missing)}. Delete it and run the evaluate stage again.")
    return content


def episode_table(path: str, read_out: str):
    """Columns seed, k_shot, episode, accuracy, of one read-out. Raises ArtifactError."""
    frame = read_csv(path)
    missing = [name for name in ("seed", "k_shot", "episode", "read_out", "accuracy") if name not in frame]
    if missing or not (frame["read_out"] == read_out).any():
        wrong = ", ".join(missing) or f"the accuracies of read-out {read_out}"
        raise ArtifactError(f"{path} lacks {wrong}. Delete it and run the evaluate stage again.")
    return frame[frame["read_out"] == read_out]


def check_same_test(measured: Mapping[str, Any], control: Mapping[str, Any]) -> None:
    """Raises ArtifactError when the method and its control were not trained and tested alike."""
    own, other = measured["provenance"], control["provenance"]
    facts = {
        "data sets": (measured["dataset"], control["dataset"]),
        "budgets": (measured["budget"], control["budget"]),
        "protocols": (to_json(measured["protocol"]), to_json(control["protocol"])),
        "images (data digests)": (own["data_digest"], other["data_digest"]),
        "test episodes (episode digests)": (own.get("episodes_digest"), other.get("episodes_digest")),
        "training recipes (recipe digests)": (own["recipe_digest"], other["recipe_digest"]),
    }
    for what, (mine, theirs) in facts.items():
        if mine != theirs:
            raise ArtifactError(
                f"{measured['method']} and its control {control['method']} have different {what}: {_short(mine)} and "
                f"{_short(theirs)}. A comparison would say nothing: run both again with the same parameters, "
                f"e.g. `snakemake --cores 4 results/{measured['method']}_{measured['dataset']}.json`."
            )


def check_same_search(measured: Mapping[str, Any], genotype: Mapping[str, Any]) -> None:
    """Raises ArtifactError when the architectures are not those that were measured."""
    facts = {name: (measured[name], genotype.get(name)) for name in ("method", "dataset", "budget")}
    facts["data_digest"] = measured["provenance"]["data_digest"], genotype.get("data_digest")
    for what, (mine, theirs) in facts.items():
        if mine != theirs:
            raise ArtifactError(
                f"The genotype file and the measured accuracies have different values of {what}: {_short(theirs)} and "
                f"{_short(mine)}. Run the search, train and evaluate stages again with the same parameters."
            )


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 120 else text[:117] + "..."


def mean_by_episode(frame, where: str) -> dict[int, Any]:
    """Per shot a series: the mean over architectures of each episode's accuracy.

    Raises ArtifactError when an architecture lacks an episode: its mean would stand for other episodes.
    """
    means = {}
    for k_shot, part in frame.groupby("k_shot"):
        table = part.pivot_table(index="episode", columns="seed", values="accuracy")
        if table.isna().any(axis=None) or len(part) != table.size:
            raise ArtifactError(
                f"{where}: the architectures were not all tested once on each {k_shot}-shot episode. "
                "Run the evaluate stage again."
            )
        means[int(k_shot)] = table.mean(axis=1).sort_index()
    return means


def control_block(inputs: Inputs) -> dict[str, Any]:
    """The control's accuracies and how the method stands against them, by shot.

    Differences are taken per episode, between the means over the architectures of either side.
    """
    own = mean_by_episode(inputs.accuracies, inputs.measured["method"])
    other = mean_by_episode(inputs.control_accuracies, inputs.control["method"])
    differences, improvements, accuracy = {}, {}, {}
    for k_shot in inputs.measured["protocol"]["k_shots"]:
        shot = str(k_shot)
        if k_shot not in own or k_shot not in other or not own[k_shot].index.equals(other[k_shot].index):
            raise ArtifactError(
                f"{inputs.measured['method']} and its control were not tested on the same {k_shot}-shot episodes. "
                "Run the evaluate stage of both again."
            )
        accuracy[shot] = {name: inputs.control["accuracy"][shot][name] for name in ("mean", "ci95")}
        improvements[shot] = relative_improvement(inputs.measured["accuracy"][shot]["mean"], accuracy[shot]["mean"])
        found = paired_difference(own[k_shot].to_numpy(), other[k_shot].to_numpy())
        differences[shot] = {
            "mean": found.mean,
            "ci95": found.ci95 if len(own[k_shot]) > 1 else None,
            "win": found.win,
            "tie": found.tie,
            "loss": found.loss,
        }
    return {
        "method": inputs.control["method"],
        "n_architectures": int(inputs.control_accuracies["seed"].nunique()),
        "accuracy": accuracy,
        "relative_improvement_percent": improvements,
        "paired_difference": differences,
    }


def joined(inputs: Inputs, paths: Mapping[str, str], hashes: Mapping[str, str]) -> dict[str, Any]:
    """The result as in workflow/schemas/result.schema.json.

    Args:
        paths, hashes: place and SHA-256 of every input and of the drawing, by role.
    """
    measured, facts = inputs.measured, inputs.measured["provenance"]
    jobs = {"search": inputs.search_cost, "train": inputs.train_cost, "evaluate": facts}
    return {
        "schema_version": 1,
        **{name: measured[name] for name in COPIED},
        "control": control_block(inputs),
        "genotypes": [{"seed": entry["seed"], "text": entry["genotype"]} for entry in inputs.genotype["architectures"]],
        "drawing": paths["drawing"],
        "search_cost": spent(inputs.search_cost),
        "training_cost": spent(inputs.train_cost),
        "search_stability": inputs.genotype.get("stability"),
        **learned_of(inputs.genotype),
        "artifacts": dict(paths),
        "provenance": {
            **facts,
            "params_digest": dict(facts["params_digest"]),
            "hardware": {stage: seen["hardware"] for stage, seen in jobs.items() if "hardware" in seen},
            "commits": {stage: seen["commit"] for stage, seen in jobs.items() if "commit" in seen},
            "files": {paths[name]: hashes[name] for name in paths},
            "command": f"snakemake --cores 4 --config budget={measured['budget']} -- "
            f"results/{measured['method']}_{measured['dataset']}.json",
        },
    }


def learned_of(genotype: Mapping[str, Any]) -> dict[str, Any]:
    """What a result says of the method's learning beforehand; nothing for methods that did not."""
    return {"learned": genotype["learned"]} if "learned" in genotype else {}


def spent(cost: Mapping[str, Any]) -> dict[str, Any]:
    """A cost file without what it says about the job's surroundings, which goes to the provenance."""
    return {name: value for name, value in cost.items() if name not in ("commit", "versions", "hardware")}


def drawing(genotype: Mapping[str, Any]) -> str:
    title = f"Architectures that {genotype['method']} found for {genotype['dataset']}"
    return draw_architectures(genotype["architectures"], title)
