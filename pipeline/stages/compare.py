"""Join what was measured into results/{method}_{dataset}.json, beside the method's control on the same episodes.

No network is run here. Artifacts that do not belong together (another budget, other data, other episodes, another
protocol or training recipe) are refused. Where learners are what is compared, as with those whose start is
meta-learned, recipes and ways of testing may differ; data, budget, episodes and the shape of tasks may not.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.core.artifacts import read_csv, read_json, sha256, to_json, write_csv, write_json, write_text
from pipeline.core.errors import ArtifactError
from pipeline.evaluation.statistics import mean_ci95, paired_difference, relative_improvement
from pipeline.report.drawing import draw_architectures
from pipeline.report.schema import check_result
from pipeline.report.tables import result_row
from pipeline.stages.common import read_params

INPUTS = {
    "measured": "accuracies and intervals of the method",
    "accuracies": "accuracy of every episode, of the method",
    "control": "accuracies and intervals of the control",
    "control_accuracies": "accuracy of every episode, of the control",
    "genotype": "architectures the method found",
    "trace": "steps of the search",
    "search_cost": "cost of the search",
    "curve": "losses and accuracies of the training",
    "train_cost": "cost of the training",
}
COPIED = (
    "method",
    "space",
    "dataset",
    "dataset_title",
    "budget",
    "protocol",
    "accuracy",
    "untrained",
    "parameters",
    "flops",
    "seeds",
)
# what only a test of features has, and what a result says of its kind
OPTIONAL = ("prototypes", "kind")
ADAPTED = "adapted"
# the part of a protocol in which two learners that are compared agree
SHAPE = ("n_way", "k_shots", "n_query")
MOST_DRAWN = 6
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
    against: list[tuple[dict[str, Any], Any]]


def add_arguments(parser) -> None:
    for name, what in INPUTS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", required=True, metavar="FILE", help=what)
    parser.add_argument(
        "--against",
        action="append",
        nargs=2,
        default=[],
        metavar="FILE",
        help="accuracies and intervals of another method, and its accuracy of every episode; may be given again",
    )
    parser.add_argument("--params", metavar="FILE", help="frozen parameters of this job")
    parser.add_argument("--out", required=True, metavar="FILE", help="the result, a JSON file")
    parser.add_argument("--row", required=True, metavar="FILE", help="the result's row of the leaderboard, a CSV file")
    parser.add_argument("--drawing", required=True, metavar="FILE", help="the cells of all architectures, an SVG file")


def run(arguments) -> None:
    paths = {name: getattr(arguments, name) for name in INPUTS}
    inputs = read(paths, arguments.against)
    for (other, _), files in zip(inputs.against, arguments.against, strict=True):
        paths |= dict(zip((f"against_{other['method']}", f"episodes_{other['method']}"), files, strict=True))
    check_together(inputs)
    write_text(arguments.drawing, drawing(inputs.genotype))
    paths["drawing"] = arguments.drawing
    result = assemble(inputs, paths, arguments.params)
    check_result(result, arguments.out)
    write_json(arguments.out, result)
    write_csv(arguments.row, result_row(result, arguments.out, sha256(arguments.out)))


def check_together(inputs: Inputs) -> None:
    """Raises ArtifactError when the files of a comparison do not belong together."""
    check_same_test(inputs.measured, inputs.control)
    for other, _ in inputs.against:
        check_same_tasks(inputs.measured, other)
    check_same_search(inputs.measured, inputs.genotype)


def assemble(inputs: Inputs, paths: Mapping[str, str], params: str | None) -> dict[str, Any]:
    """The whole result, with the digests of its files as they lie on the disk and of its parameters.

    Args:
        paths: every input and the drawing, by role.
        params: frozen parameters of the comparison.
    """
    result = joined(inputs, paths, {name: sha256(path) for name, path in paths.items()})
    if params:
        result["provenance"]["params_digest"]["compare"] = read_params(params).digest
    return result


def read(paths: Mapping[str, str], against: Sequence[Sequence[str]] = ()) -> Inputs:
    """All input files. Raises ArtifactError for those that are missing, damaged or lack what is needed of them."""

    def both(content_path: str, table_path: str) -> tuple[dict[str, Any], Any]:
        content = measurement(content_path)
        return content, episode_table(table_path, content["protocol"]["read_out"])

    measured, own = both(paths["measured"], paths["accuracies"])
    control, other = both(paths["control"], paths["control_accuracies"])
    for name in ("trace", "curve"):
        if not Path(paths[name]).is_file():
            raise ArtifactError(f"{paths[name]} is missing. Run the stage that makes it.")
    genotype, search_cost, train_cost = (read_json(paths[name]) for name in ("genotype", "search_cost", "train_cost"))
    others = [both(*files) for files in against]
    return Inputs(measured, own, control, other, genotype, search_cost, train_cost, others)


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
    """Raises ArtifactError when the method and its control were not trained and tested alike.

    Where learners are compared, not alike but on the same tasks.
    """
    if measured.get("kind") == ADAPTED:
        check_same_tasks(measured, control)
        return
    own, other = measured["provenance"], control["provenance"]
    facts = {
        "data sets": (measured["dataset"], control["dataset"]),
        "budgets": (measured["budget"], control["budget"]),
        "protocols": (to_json(measured["protocol"]), to_json(control["protocol"])),
        "images (data digests)": (own["data_digest"], other["data_digest"]),
        "test episodes (episode digests)": (own.get("episodes_digest"), other.get("episodes_digest")),
        "training recipes (recipe digests)": (own["recipe_digest"], other["recipe_digest"]),
    }
    _refuse_differences(facts, measured["method"], f"its control {control['method']}", measured["dataset"])


def check_same_tasks(measured: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Raises ArtifactError when two methods did not see the same images, budget, episodes and shape of tasks."""
    sides = (measured, other)
    facts = {
        "data sets": [side["dataset"] for side in sides],
        "budgets": [side["budget"] for side in sides],
        "shapes of tasks": [to_json({name: side["protocol"].get(name) for name in SHAPE}) for side in sides],
        "images (data digests)": [side["provenance"]["data_digest"] for side in sides],
        "test episodes (episode digests)": [side["provenance"].get("episodes_digest") for side in sides],
    }
    _refuse_differences(facts, measured["method"], other["method"], measured["dataset"])


def _refuse_differences(facts: Mapping[str, Sequence[Any]], method: str, other: str, dataset: str) -> None:
    for what, (mine, theirs) in facts.items():
        if mine != theirs:
            raise ArtifactError(
                f"{method} and {other} have different {what}: {_short(mine)} and "
                f"{_short(theirs)}. A comparison would say nothing: run both again with the same parameters, "
                f"e.g. `snakemake --cores 4 results/{method}_{dataset}.json`."
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
    adapted = inputs.measured.get("kind") == ADAPTED
    differences, improvements, accuracy = {}, {}, {}
    for k_shot in inputs.measured["protocol"]["k_shots"]:
        shot = str(k_shot)
        same = k_shot in own and k_shot in other and (adapted or own[k_shot].index.equals(other[k_shot].index))
        if not same:
            raise ArtifactError(
                f"{inputs.measured['method']} and its control were not tested on the same {k_shot}-shot episodes. "
                "Run the evaluate stage of both again."
            )
        mine, theirs = _shared(own[k_shot], other[k_shot], inputs.control["method"])
        # of the control, what concerns the episodes that both were tested on
        whole = len(theirs) == len(other[k_shot])
        mean, half = (inputs.control["accuracy"][shot][name] for name in ("mean", "ci95"))
        accuracy[shot] = {"mean": mean, "ci95": half} if whole else _interval(theirs)
        improvements[shot] = relative_improvement(float(mine.mean()), accuracy[shot]["mean"])
        differences[shot] = _difference(mine, theirs)
    recipes = (of["provenance"]["recipe_digest"] for of in (inputs.measured, inputs.control))
    return {
        "method": inputs.control["method"],
        "space": inputs.control["space"],
        "n_architectures": int(inputs.control_accuracies["seed"].nunique()),
        "accuracy": accuracy,
        "relative_improvement_percent": improvements,
        "paired_difference": differences,
        **(
            {"same_recipe": len(set(recipes)) == 1, "setting": inputs.control["protocol"]["setting"]} if adapted else {}
        ),
    }


def paired_block(inputs: Inputs) -> dict[str, Any]:
    """By method that is compared with and by shot: both means on the episodes that both were tested on, and the paired
    difference."""
    own = mean_by_episode(inputs.accuracies, inputs.measured["method"])
    block: dict[str, Any] = {}
    for content, table in inputs.against:
        name, other = content["method"], mean_by_episode(table, content["method"])
        by_shot = {}
        for k_shot in inputs.measured["protocol"]["k_shots"]:
            mine, theirs = _shared(own[k_shot], other[k_shot], name)
            by_shot[str(k_shot)] = {
                "n_episodes": len(mine),
                "accuracy": float(mine.mean()),
                "other": float(theirs.mean()),
                "difference": _difference(mine, theirs),
            }
        block[name] = {**{key: content["protocol"][key] for key in ("read_out", "setting")}, "by_shot": by_shot}
    return block


def _shared(mine: Any, theirs: Any, name: str) -> tuple[Any, Any]:
    """Both sides on the episodes that both have. Raises ArtifactError when there are none."""
    both = mine.index.intersection(theirs.index)
    if both.empty:
        raise ArtifactError(f"No episode was tested by both this method and {name}. Run both tests again.")
    return mine.loc[both], theirs.loc[both]


def _interval(accuracies: Any) -> dict[str, Any]:
    mean, half = mean_ci95(accuracies.to_numpy())
    return {"mean": mean, "ci95": half if len(accuracies) > 1 else None}


def _difference(mine: Any, theirs: Any) -> dict[str, Any]:
    found = paired_difference(mine.to_numpy(), theirs.to_numpy())
    half = found.ci95 if len(mine) > 1 else None
    return {"mean": found.mean, "ci95": half, "win": found.win, "tie": found.tie, "loss": found.loss}


def joined(inputs: Inputs, paths: Mapping[str, str], hashes: Mapping[str, str]) -> dict[str, Any]:
    """The result as in workflow/schemas/result.schema.json.

    Args:
        paths, hashes: place and SHA-256 of every input and of the drawing, by role.
    """
    measured, facts = inputs.measured, inputs.measured["provenance"]
    training, test = ("meta_learn", "adapt") if measured.get("kind") == ADAPTED else ("train", "evaluate")
    jobs = {"search": inputs.search_cost, training: inputs.train_cost, test: facts}
    return {
        "schema_version": 1,
        **{name: measured[name] for name in COPIED},
        **{name: measured[name] for name in OPTIONAL if name in measured},
        "control": control_block(inputs),
        **({"paired": paired_block(inputs)} if inputs.against else {}),
        "genotypes": [genotype_line(entry) for entry in inputs.genotype["architectures"]],
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


def genotype_line(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A row of genotype.json as a result shows it; `k_shot` and `episodes` where it is for these tasks alone."""
    line = {"seed": entry["seed"], "text": entry["genotype"]}
    return line | {name: entry[name] for name in ("k_shot", "episodes") if name in entry}


def learned_of(genotype: Mapping[str, Any]) -> dict[str, Any]:
    """What a result says of the method's learning beforehand, or of what it decoded; nothing for most methods."""
    found = {name: dict(genotype[name]) for name in ("learned", "decoded") if name in genotype}
    # of a look-up alone
    found.get("learned", {}).pop("best_of", None)
    return found


def spent(cost: Mapping[str, Any]) -> dict[str, Any]:
    """A cost file without what it says about the job's surroundings, which goes to the provenance."""
    return {name: value for name, value in cost.items() if name not in ("commit", "versions", "hardware")}


def drawing(genotype: Mapping[str, Any]) -> str:
    """All architectures, or where there are many those that most tasks have."""
    found = genotype["architectures"]
    most_used = sorted(found, key=lambda entry: -len(entry.get("episodes", ())))[:MOST_DRAWN]
    shown = found if len(found) <= MOST_DRAWN else most_used
    title = f"Architectures that {genotype['method']} found for {genotype['dataset']}"
    return draw_architectures(shown, title if shown is found else f"{title}: {MOST_DRAWN} of {len(found)}")
