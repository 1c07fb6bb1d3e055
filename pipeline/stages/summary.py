"""Print what a result says, in a few lines."""

from pipeline.core.artifacts import read_json
from pipeline.core.progress import spoken
from pipeline.report.parts import control_named
from pipeline.report.schema import check_result


def percent(measured: dict) -> str:
    """Mean and half-width in percent."""
    return f"{100 * measured['mean']:.1f} ± {100 * measured['ci95']:.1f} %"


def control_name(result: dict) -> str:
    """What the control is called."""
    return result["control"]["method"] if result.get("kind") == "adapted" else "random architectures"


def named(genotype: dict) -> str:
    """An architecture by what it is for, or else by its seed."""
    if genotype.get("episodes") is None:
        return str(genotype["seed"])
    return f"of {len(genotype['episodes'])} tasks with k_shot {genotype['k_shot']}"


def lines(result: dict) -> list[str]:
    """The summary of one result, line by line."""
    protocol, control = result["protocol"], result["control"]
    told = [
        f"{result['method']} on {result['dataset']} (budget {result['budget']}), {protocol['n_way']}-way, "
        f"{protocol['n_episodes']} stored episodes of novel classes",
    ]
    for shot, measured in sorted(result["accuracy"].items(), key=lambda item: int(item[0])):
        told.append(
            f"  {shot}-shot accuracy {percent(measured)}   "
            f"{control_name(result)} {percent(control['accuracy'][shot])}   "
            f"untrained {percent(result['untrained'][shot])}"
        )
    if control.get("space") != result.get("space"):
        told.append(f"  the control is {control_named(result)}, not {result['space']}")
    told += [f"  architecture {named(genotype)}: {genotype['text']}" for genotype in result["genotypes"]]
    told.append(
        f"  search {spoken(result['search_cost']['wall_seconds'])}, "
        f"training {spoken(result['training_cost']['wall_seconds'])}, "
        f"{result['parameters']['total']:,.0f} parameters"
    )
    if not result["provenance"]["official_data"]:
        told.append(f"  images: {result['provenance']['data_variant']}; do not compare with published figures")
    return told


def add_arguments(parser) -> None:
    parser.add_argument("results", nargs="+", metavar="FILE", help="files results/{method}_{dataset}.json")


def run(arguments) -> None:
    for path in arguments.results:
        result = read_json(path)
        check_result(result, path)
        print("\n".join(lines(result)))
