"""Results that were looked up in a benchmark's table: their rows, and the page that shows them."""

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.core.artifacts import digest, read_csv
from pipeline.core.config import BUDGETS
from pipeline.core.wording import n_of
from pipeline.report.figures import line_figure, standing_figure, trace_figure
from pipeline.report.parts import Entry, data_label, learned, origin, stability, table_facts, template
from pipeline.report.tables import league_numbers, leagues, stacked

LOOKUP_LEAGUE = ("dataset", "budget", "space", "protocol_digest", "table_sha256", "data_digest")
PUBLISHED = pathlib.Path(__file__).with_name("published_lookups.csv")
# the columns of a league, in words
APART = {
    "dataset": "data set",
    "budget": "budget",
    "space": "search space",
    "protocol_digest": "kind of accuracy",
    "table_sha256": "table of accuracies",
    "data_digest": "images (another copy of the data)",
}
CONTROL_HUE = 7
# colours that are told apart from the control's and from each other
DISTINCT = (0, 1, 3, 4, 5, 6)
NEEDED = ("method", *LOOKUP_LEAGUE, "accuracy", "rank", "regret", "result", "sha256")


def lookup_row(result: Mapping[str, Any], path: str, sha256: str):
    """A looked-up result (see the schema) as a one-row table that names its file and the file's hash.

    Only rows that agree in all columns of LOOKUP_LEAGUE may be set against each other. `rank` is the place in the
    benchmark's table of `n_architectures`, a mean over search seeds as are accuracies and regrets. Columns of the
    control are empty for a method that has none.
    """
    import pandas

    protocol, provenance, control = result["protocol"], result["provenance"], result["control"]
    table = provenance["table"]
    row = {
        **{name: result[name] for name in ("method", "dataset", "dataset_title", "budget", "space")},
        "seeds": " ".join(map(str, result["seeds"])),
        **{name: result[name]["mean"] for name in ("accuracy", "rank")},
        "n_architectures": protocol["n_architectures"],
        "regret": result["regret"]["mean"],
        "best_accuracy": result["best"]["accuracy"],
        **{f"control_{name}": control and control[name]["mean"] for name in ("accuracy", "rank", "regret")},
        "n_control_architectures": control and sum(control["n_architectures"]) / len(control["n_architectures"]),
        **{f"space_{name}": result["space_mean"][name] for name in ("mean", "sd")},
    }
    for name in ("wall_seconds", "device_seconds", "network_evaluations"):
        row[f"search_{name}"] = result["search_cost"].get(name)
        row[f"control_{name}"] = control and control["search_cost"].get(name)
    row |= {
        "parameters": result["parameters"]["total"],
        "flops": result["flops"],
        "part": protocol["part"],
        "n_epochs": protocol["n_epochs"],
        "table": protocol["table"],
        "table_sha256": table["sha256"],
        "official_table": table["official"],
        "protocol_digest": digest(protocol),
        "data_digest": provenance["data_digest"],
        "official_data": provenance["official_data"],
        "commit": provenance["commit"],
        "result": path,
        "sha256": sha256,
    }
    return pandas.DataFrame([row])


def stacked_lookups(frames: Iterable[tuple[str, Any]], space: str):
    """All rows of results looked up in a space's table under each other; see `pipeline.report.tables.stacked`."""
    example = "results/tenas_cifar10.json"
    own = [(name, frame) for name, frame in frames if "space" not in frame or (frame["space"] == space).all()]
    return stacked(own, NEEDED, kind="a looked-up result", stage="look-up", example=example)


def lookup_table(table):
    """The table with the column `league`: rows of equal league may be set against each other, the best first."""
    board = table.copy()
    board.insert(0, "league", league_numbers(table, LOOKUP_LEAGUE))
    return board.sort_values(["league", "accuracy", "method"], ascending=[True, False, True], ignore_index=True)


def published(space: str, dataset: str) -> tuple[list[dict[str, str]], list[str]]:
    """Published accuracies in percent, as printed, and the names of methods whose figures are unchecked."""
    frame = read_csv(PUBLISHED, dtype=str, keep_default_na=False)
    frame = frame[(frame["space"] == space) & (frame["dataset"] == dataset)]
    checked = frame[frame["verified"] == "yes"]
    rows = checked[["method", "accuracy", "sd", "source", "note"]].to_dict("records")
    others = frame[frame["verified"] != "yes"]
    return rows, [f"{method} ({source})" for method, source in zip(others["method"], others["source"], strict=True)]


def render_lookups(entries: Sequence[Entry], table, folder: str) -> str:
    """The page.

    Args:
        entries: one per row of `table`, in its order.
        folder: where the page will lie; links to result files are relative to it.
    """
    names = sorted(set(table["dataset"]))
    datasets = [_dataset(name, entries, table, folder) for name in names]
    return template("lookups.html.j2").render(datasets=datasets, n_results=len(entries))


def _dataset(name: str, entries: Sequence[Entry], table, folder: str) -> dict[str, Any]:
    groups = [(key, rows) for key, rows in leagues(table, LOOKUP_LEAGUE) if key["dataset"] == name]
    groups.sort(key=lambda group: BUDGETS.index(group[0]["budget"]))
    varying = [APART[column] for column in LOOKUP_LEAGUE if len({key[column] for key, _ in groups}) > 1]
    ordered = [sorted(rows, key=lambda index: _standing(entries[index].result)) for _, rows in groups]
    own = [entries[index] for rows in ordered for index in rows]
    found = [published(space, name) for space in sorted({entry.result["space"] for entry in own})]
    return {
        "name": name,
        "title": own[0].result["dataset_title"],
        "apart": " and ".join(varying),
        "leagues": [
            _league(f"{name}-{place}", [entries[index] for index in rows])
            for place, rows in enumerate(ordered, start=1)
        ],
        "published": [row for rows, _ in found for row in rows],
        "unchecked": [text for _, texts in found for text in texts],
        "results": [_details(entry, folder) for entry in own],
    }


def _standing(result: Mapping[str, Any]) -> tuple:
    return -result["accuracy"]["mean"], result["method"]


def _league(anchor: str, entries: Sequence[Entry]) -> dict[str, Any]:
    first = entries[0].result
    results = [entry.result for entry in entries]
    provenance = first["provenance"]
    return {
        "id": anchor,
        **{name: first[name] for name in ("budget", "space", "best", "space_mean")},
        **{name: first["protocol"][name] for name in ("part", "n_epochs", "n_architectures", "table")},
        "facts": table_facts(provenance["table"]),
        "official": provenance["official_data"],
        "data_label": data_label(provenance),
        "rows": [_row(entry) for entry in entries],
        "figures": [_standing_figure(results), *filter(None, [_race(results)])],
    }


def _row(entry: Entry) -> dict[str, Any]:
    result, control, cost = entry.result, entry.result["control"], entry.result["search_cost"]
    return {
        "method": result["method"],
        "anchor": entry.anchor,
        "remark": n_of(len(result["seeds"]), "search seed"),
        **{name: result[name] for name in ("accuracy", "rank", "regret", "control", "flops")},
        "difference": control and _difference(result, control),
        "n_control": control and n_of(round(_mean(control["n_architectures"])), "architecture"),
        "parameters": result["parameters"]["total"],
        "search": {name: cost.get(name) for name in ("wall_seconds", "network_evaluations", "peak_memory_mib")},
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _difference(result: Mapping[str, Any], control: Mapping[str, Any]) -> dict[str, Any]:
    """Mean difference from the control, and for how many search seeds it was positive, zero and negative."""
    ours = dict(zip(result["seeds"], result["accuracy"]["per_seed"], strict=True))
    seeds = [one["seed"] for one in control["genotypes"]]
    theirs = dict(zip(seeds, control["accuracy"]["per_seed"], strict=True))
    pairs = [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]
    return {
        "mean": result["accuracy"]["mean"] - control["accuracy"]["mean"],
        "win": sum(a > b for a, b in pairs),
        "tie": sum(a == b for a, b in pairs),
        "loss": sum(a < b for a, b in pairs),
    }


def _standing_figure(results: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for result in results:
        rows.append({"name": result["method"], "control": False, **result["accuracy"]})
        if result["control"]:
            rows.append({"name": "random, equal budget", "control": True, **result["control"]["accuracy"]})
    marks = {"mean of the space": results[0]["space_mean"]["mean"], "optimum": results[0]["best"]["accuracy"]}
    return standing_figure(rows, marks, "Accuracy of what was found, %")


def mean_curve(curves: Sequence[Sequence[Sequence[float]]]) -> list[tuple[float, float]]:
    """Mean of step functions, each given as points (from here, value), where all of them are defined."""
    if not curves:
        return []
    first, last = max(curve[0][0] for curve in curves), min(curve[-1][0] for curve in curves)
    places = sorted({x for curve in curves for x, _ in curve if first <= x <= last})
    return [(x, _mean([[y for start, y in curve if start <= x][-1] for curve in curves])) for x in places]


def _curves(result: Mapping[str, Any], of: str) -> list[list[tuple[float, float]]]:
    """The anytime curves of a result in percent, a list per seed."""
    return [[(n, 100 * value) for n, value in one["points"]] for one in result["anytime"] if one["of"] == of]


def _anytime(result: Mapping[str, Any]) -> str | None:
    """Accuracy of the incumbent against evaluations, method and control; thin lines are single seeds."""
    curves = {result["method"]: _curves(result, "method"), "random, equal budget": _curves(result, "control")}
    who = "" if curves[result["method"]] else " by random search"
    return line_figure(
        {name: mean_curve(one) for name, one in curves.items()},
        f"Chosen so far{who}: accuracy, %",
        "architectures evaluated",
        width=560,
        thin={name: one for name, one in curves.items() if len(one) > 1},
        hues={result["method"]: 0, "random, equal budget": CONTROL_HUE},
    )


def _race(results: Sequence[Mapping[str, Any]]) -> str | None:
    """The methods' anytime curves in one figure with the longest of their controls; None for fewer than two."""
    series = {result["method"]: mean_curve(_curves(result, "method")) for result in results}
    series = {name: points for name, points in series.items() if points}
    if len(series) < 2:
        return None
    controls = [mean_curve(_curves(result, "control")) for result in results]
    longest = max(controls, key=lambda points: points[-1][0] if points else 0)
    hues = {"random": CONTROL_HUE} | {name: DISTINCT[place % len(DISTINCT)] for place, name in enumerate(series)}
    title, label = "Chosen so far: accuracy, %, mean over seeds", "architectures evaluated"
    return line_figure({**series, "random": longest}, title, label, width=560, hues=hues)


def _details(entry: Entry, folder: str) -> dict[str, Any]:
    result = entry.result
    return {
        "anchor": entry.anchor,
        **{name: result[name] for name in ("method", "budget", "genotypes", "control")},
        "drawing": entry.drawing,
        "stability": stability(result["search_stability"]),
        "learned": learned(result),
        "trace": trace_figure(entry.trace[entry.trace["event"] != "control"], "What each candidate scored"),
        "anytime": _anytime(result),
        "per_seed": list(_per_seed(result)),
        "elsewhere": sorted(result["elsewhere"].items()),
        "mean": {name: result[name]["mean"] for name in ("accuracy", "rank", "regret")},
        **origin(result["provenance"], entry.path, entry.sha256, folder),
    }


def _per_seed(result: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """A line per search seed: what the method found, and its control."""
    control = result["control"]
    names = ("accuracy", "rank", "regret")
    beside = {}
    if control:
        for place, one in enumerate(control["genotypes"]):
            beside[one["seed"]] = {name: control[name]["per_seed"][place] for name in names}
    for place, seed in enumerate(result["seeds"]):
        own = {name: result[name]["per_seed"][place] for name in names}
        yield {"seed": seed, **own, "control": beside.get(seed)}
