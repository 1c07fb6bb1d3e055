"""Print what a result says, in a few lines."""

from collections.abc import Mapping
from typing import Any

from pipeline.core.artifacts import read_json
from pipeline.core.errors import ArtifactError, UnknownNameError, shown
from pipeline.core.progress import spoken
from pipeline.core.wording import fixed, n_of
from pipeline.report.parts import control_named, data_label, n_untrained, table_facts
from pipeline.report.schema import check_card, check_classifier, check_lookup, check_result


def percent(measured: Mapping[str, Any], decimals: int = 1) -> str:
    """Mean and, where there is one, half-width in percent."""
    half = measured.get("ci95")
    mean = fixed(100 * measured["mean"], decimals)
    return f"{mean} %" if half is None else f"{mean} ± {fixed(100 * half, decimals)} %"


def control_name(result: Mapping[str, Any]) -> str:
    """What the control is called."""
    return result["control"]["method"] if result.get("kind") == "adapted" else "random architectures"


def named(genotype: Mapping[str, Any]) -> str:
    """An architecture by what it is for, or else by its seed."""
    if genotype.get("episodes") is None:
        return str(genotype["seed"])
    return f"of {n_of(len(genotype['episodes']), 'task')} with k_shot {genotype['k_shot']}"


def few_shot(result: Mapping[str, Any]) -> list[str]:
    """The summary of a result on few-shot episodes."""
    protocol, control = result["protocol"], result["control"]
    told = [
        f"{heading(result)}, {protocol['n_way']}-way, "
        f"{n_of(protocol['n_episodes'], 'stored episode')} of novel classes",
    ]
    for shot, measured in sorted(result["accuracy"].items(), key=lambda item: int(item[0])):
        told.append(
            f"  {shot}-shot accuracy {percent(measured)}   "
            f"{control_name(result)} {percent(control['accuracy'][shot])}   "
            f"untrained {percent(result['untrained'][shot])}{on_fewer_episodes(result, shot)}"
        )
    return [*told, *other_space(result), *architectures(result), trained_cost(result), *images(result)]


def on_fewer_episodes(result: Mapping[str, Any], shot: str) -> str:
    """On how many episodes the untrained networks were tested, where these are fewer than the trained ones' are."""
    number = n_untrained(result, shot)
    return "" if number in (None, result["protocol"]["n_episodes"]) else f" ({n_of(number, 'episode')})"


def trained(result: Mapping[str, Any]) -> list[str]:
    """The summary of trained classifiers."""
    protocol, control = result["protocol"], result["control"]
    told = [
        f"{heading(result)}, {n_of(protocol['n_classes'], 'class', 'classes')}, "
        f"{n_of(protocol['n_test_images'], 'test image')}"
    ]
    for name, measured in result["accuracy"].items():
        told.append(
            f"  {name.replace('top', 'top-')} accuracy {percent(measured)}   "
            f"random architectures {percent(control['accuracy'][name])}   "
            f"untrained {percent(result['untrained'][name])}"
        )
    return [*told, *other_space(result), *architectures(result), trained_cost(result), *images(result)]


def looked_up(result: Mapping[str, Any]) -> list[str]:
    """The summary of a search whose architectures were looked up in a table."""
    protocol, control, cost = result["protocol"], result["control"], result["search_cost"]
    facts = table_facts(result["provenance"]["table"])
    told = [
        f"{heading(result)}, looked up among {protocol['n_architectures']:,} architectures of {result['space']}: "
        f"{protocol['part']} accuracy after {n_of(protocol['n_epochs'], 'epoch')}",
        f"  found {standing(result)}",
    ]
    if control:
        told.append(f"  random search, equal budget {standing(control)}")
    told.append(
        f"  the best {100 * result['best']['accuracy']:.2f} %, the mean of all {percent(result['space_mean'], 2)}"
    )
    told += architectures(result)
    measured = n_of(cost["network_evaluations"], "network")
    told.append(f"  search {spoken(cost['wall_seconds'])}, {measured} measured, {size(result)}")
    if not facts["official"]:
        told.append(f"  table: {facts['label']}")
    if not result["provenance"]["official_data"]:
        told.append(f"  searched on: {data_label(result['provenance'])}")
    return told


def card(content: Mapping[str, Any]) -> list[str]:
    """The summary of a report card of proxies."""
    sample = content["sample"]
    told = [
        f"proxies on {content['dataset']} (budget {content['budget']}), {sample['n_architectures']:,} of "
        f"{sample['of']:,} architectures of {content['space']}, Kendall's tau with their accuracies"
    ]
    for proxy in content["proxies"]:
        tau = proxy["figures"]["kendall_tau_b"]
        value, low, high = ("" if tau[name] is None else fixed(tau[name], 3) for name in ("value", "low", "high"))
        interval = f" ({low} to {high})" if low and high else ""
        told.append(f"  {proxy['name']}: {value or 'undefined'}{interval}")
    return told


def heading(result: Mapping[str, Any]) -> str:
    return f"{result['method']} on {result['dataset']} (budget {result['budget']})"


def standing(block: Mapping[str, Any]) -> str:
    """Accuracy, rank and regret, means over the seeds."""
    over = f" (means over {len(block['rank']['per_seed'])} seeds)" if len(block["rank"]["per_seed"]) > 1 else ""
    return (
        f"{percent(block['accuracy'], 2)}, rank {block['rank']['mean']:,.0f}, "
        f"regret {fixed(100 * block['regret']['mean'])} points{over}"
    )


def other_space(result: Mapping[str, Any]) -> list[str]:
    """That the control is of another space, where it is."""
    own = result.get("space")
    if result["control"].get("space", own) == own:
        return []
    return [f"  the control is {control_named(result)}, not {own}"]


def architectures(result: Mapping[str, Any]) -> list[str]:
    return [f"  architecture {named(genotype)}: {genotype['text']}" for genotype in result["genotypes"]]


def trained_cost(result: Mapping[str, Any]) -> str:
    search, training = (spoken(result[f"{job}_cost"]["wall_seconds"]) for job in ("search", "training"))
    return f"  search {search}, training {training}, {size(result)}"


def size(result: Mapping[str, Any]) -> str:
    return f"{result['parameters']['total']:,.0f} parameters"


def images(result: Mapping[str, Any]) -> list[str]:
    """That the images are not the official ones, where that is so."""
    if result["provenance"]["official_data"]:
        return []
    return [f"  images: {data_label(result['provenance'])}; do not compare with published figures"]


KINDS = {
    "few_shot": (check_result, few_shot),
    "adapted": (check_result, few_shot),
    "trained": (check_classifier, trained),
    "looked_up": (check_lookup, looked_up),
    "proxy_card": (check_card, card),
}
"""Kind of a result -> what checks its shape, and its summary line by line."""


def lines(result: Any, path: str) -> list[str]:
    """The summary of a result of any kind.

    Raises ArtifactError or UnknownNameError for what is none.
    """
    if not isinstance(result, Mapping):
        raise ArtifactError(
            f"{path} is no result: it holds {shown(result)}. Name files of results/, made by Snakemake."
        )
    kind = result.get("kind", "few_shot")
    if not isinstance(kind, str) or kind not in KINDS:
        raise UnknownNameError(f"kind of result in {path}:", kind, KINDS)
    check, told = KINDS[kind]
    check(result, path)
    return told(result)


def add_arguments(parser) -> None:
    parser.add_argument(
        "results", nargs="+", metavar="FILE", help="files results/{method}_{dataset}.json, or report cards of proxies"
    )


def run(arguments) -> None:
    for path in arguments.results:
        print("\n".join(lines(read_json(path), path)))
