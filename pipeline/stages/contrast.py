"""Join what trained classifiers reached with random architectures trained by the same recipe, into one result."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.core.artifacts import read_json, sha256, write_json, write_text
from pipeline.core.progress import say
from pipeline.report.parts import control_named
from pipeline.report.schema import check_classifier
from pipeline.stages.common import read_params
from pipeline.stages.compare import check_same_search, check_same_test, drawing, learned_of, spent

INPUTS = {
    "measured": "accuracies of the method on the test images",
    "control": "accuracies of the random control",
    "genotype": "architectures the method found",
    "search_cost": "cost of the search",
    "train_cost": "cost of the training",
}
COPIED = (
    "method", "space", "dataset", "dataset_title", "budget", "seeds", "protocol", "accuracy", "untrained", "parameters",
    "flops",
)  # fmt: skip


def add_arguments(parser) -> None:
    for name, what in INPUTS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", required=True, metavar="FILE", help=what)
    parser.add_argument("--params", required=True, metavar="FILE", help="frozen parameters of this job")
    parser.add_argument("--out", required=True, metavar="FILE", help="the result, a JSON file")
    parser.add_argument("--drawing", required=True, metavar="FILE", help="the cells of all architectures, an SVG file")


def run(arguments) -> None:
    paths = {name: getattr(arguments, name) for name in INPUTS}
    files = {name: read_json(path) for name, path in paths.items()}
    check_together(files)
    write_text(arguments.drawing, drawing(files["genotype"]))
    paths["drawing"] = arguments.drawing
    result = assemble(files, paths, arguments.params)
    check_classifier(result, arguments.out)
    write_json(arguments.out, result)
    own, other = (100 * of["accuracy"]["top1"]["mean"] for of in (result, result["control"]))
    say(
        f"{result['method']} on {result['dataset']}: {own:.2f} % of the test images, random architectures {other:.2f} %"
        f" ({control_named(result)})"
    )


def check_together(files: Mapping[str, Any]) -> None:
    """Raises ArtifactError when the files of a result, by role, do not belong together."""
    check_same_test(files["measured"], files["control"])
    check_same_search(files["measured"], files["genotype"])


def assemble(files: Mapping[str, Any], paths: Mapping[str, str], params: str) -> dict[str, Any]:
    """The whole result, with the digests of its files as they lie on the disk and of its parameters.

    Args:
        files: content of every input by role.
        paths: of every input and the drawing.
        params: frozen parameters of the joining.
    """
    result = joined(**files)
    result["artifacts"] = dict(paths)
    result["provenance"]["params_digest"]["contrast"] = read_params(params).digest
    result["provenance"]["files"] = {path: sha256(path) for path in paths.values()}
    return result


def joined(
    measured: Mapping[str, Any],
    control: Mapping[str, Any],
    genotype: Mapping[str, Any],
    search_cost: Mapping[str, Any],
    train_cost: Mapping[str, Any],
) -> dict[str, Any]:
    """The result as in workflow/schemas/classifier.schema.json, but for its files."""
    facts = measured["provenance"]
    jobs = {"search": search_cost, "train": train_cost, "test": facts}
    return {
        "schema_version": 1,
        "kind": "trained",
        **{name: measured[name] for name in COPIED},
        "control": {
            "method": control["method"],
            "space": control["space"],
            "n_architectures": len(control["seeds"]),
            "accuracy": control["accuracy"],
            "difference": difference(measured, control),
        },
        "genotypes": [{"seed": one["seed"], "text": one["genotype"]} for one in genotype["architectures"]],
        "search_cost": spent(search_cost),
        "training_cost": spent(train_cost),
        "search_stability": genotype["stability"],
        **learned_of(genotype),
        "provenance": {
            **facts,
            "params_digest": dict(facts["params_digest"]),
            "hardware": {stage: seen["hardware"] for stage, seen in jobs.items()},
            "commits": {stage: seen["commit"] for stage, seen in jobs.items()},
            "command": f"snakemake --cores 4 --config budget={measured['budget']} -- "
            f"results/{measured['method']}_{measured['dataset']}.json",
        },
    }


def difference(measured: Mapping[str, Any], control: Mapping[str, Any]) -> dict[str, float | None]:
    """Mean top-1 accuracy less that of the control, and the standard error over the networks of both (Welch).

    The standard error is None where a side has one network: then nothing is known of how networks differ.
    """
    sides = [np.asarray(of["accuracy"]["top1"]["per_seed"], dtype=float) for of in (measured, control)]
    errors = [side.var(ddof=1) / len(side) for side in sides if len(side) > 1]
    return {
        "mean": float(sides[0].mean() - sides[1].mean()),
        "standard_error": float(np.sqrt(sum(errors))) if len(errors) == len(sides) else None,
    }
