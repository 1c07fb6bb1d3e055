"""The report as one HTML page that needs no network: leaderboards, architectures, searches, provenance."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.core.config import BUDGETS
from pipeline.core.wording import n_of
from pipeline.report.anchors import published
from pipeline.report.figures import accuracy_figure, curve_figures, trace_figure
from pipeline.report.parts import (
    Entry,
    control_named,
    data_label,
    decoded,
    learned,
    n_untrained,
    origin,
    stability,
    template,
)
from pipeline.report.tables import LEAGUE, leagues

# the columns of a league, in words
APART = {
    "dataset": "data set",
    "budget": "budget",
    "protocol_digest": "test protocol",
    "recipe_digest": "training recipe",
    "data_digest": "images (another copy of the data)",
    "episodes_digest": "test episodes",
}


def render(entries: Sequence[Entry], table, ranks: Sequence[Mapping[int, int]], folder: str) -> str:
    """The page.

    Args:
        entries, ranks: one per row of `table`, in its order; ranks by shot.
        folder: where the page will lie; links to result files are relative to it.
    """
    names = sorted(set(table["dataset"]))
    datasets = [_dataset(name, entries, table, ranks, folder) for name in names]
    return template("page.html.j2").render(datasets=datasets, n_results=len(entries))


def _dataset(name: str, entries, table, ranks, folder: str) -> dict[str, Any]:
    groups = [(key, rows) for key, rows in leagues(table) if key["dataset"] == name]
    groups.sort(key=lambda group: BUDGETS.index(group[0]["budget"]))
    varying = [APART[column] for column in LEAGUE if len({key[column] for key, _ in groups}) > 1]
    own = [index for _, rows in groups for index in sorted(rows, key=lambda i: _standing(entries[i].result))]
    anchors, unchecked = published(name) if any(table.loc[own, "n_way"] == 5) else ([], [])
    return {
        "name": name,
        "title": entries[own[0]].result["dataset_title"],
        "apart": " and ".join(varying),
        "leagues": [
            _league(f"{name}-{place}", [entries[i] for i in rows], [ranks[i] for i in rows])
            for place, (_, rows) in enumerate(groups, start=1)
        ],
        "anchors": anchors,
        "unchecked": unchecked,
        "results": [_details(entries[index], folder) for index in own],
    }


def _league(anchor: str, entries: Sequence[Entry], ranks: Sequence[Mapping[int, int]]) -> dict[str, Any]:
    first = entries[0].result
    adapted = first.get("kind") == "adapted"
    protocol, order = first["protocol"], sorted(first["protocol"]["k_shots"])
    rows = [_row(entry, rank, order) for entry, rank in zip(entries, ranks, strict=True)]
    if len(rows) == 1:
        rows[0]["is_best"] = False
    controls = {entry.result["control"]["method"] for entry in entries}
    if not adapted:
        own = {entry.result["method"] for entry in entries}
        absent = {
            (control["method"], control.get("space")): control
            for control in (entry.result["control"] for entry in entries)
            if control["method"] not in own
        }
        rows += [_control_row(control, order) for control in absent.values()]
    rows.sort(key=lambda row: ([-cell["mean"] for cell in row["cells"]], row["method"]))
    return {
        "id": anchor,
        **{name: protocol[name] for name in ("n_way", "n_query", "n_episodes", "setting")},
        "read_out": "each learner's own" if adapted else protocol["read_out"],
        "beside": controls.pop() if len(controls) == 1 else "control",
        "n_augmented_support": protocol["n_augmented_support"],
        "budget": first["budget"],
        "shots": order,
        "official": first["provenance"]["official_data"],
        "data_label": data_label(first["provenance"]),
        "rows": rows,
        "figures": [
            accuracy_figure([_dot(row, place) for row in rows], f"{k_shot}-shot accuracy, %")
            for place, k_shot in enumerate(order)
        ],
    }


def _standing(result: Mapping[str, Any]) -> tuple:
    """Sort key of a result in its league: accuracies by shot, the best first."""
    return [-own["mean"] for _, own in sorted(result["accuracy"].items(), key=_shot)], result["method"]


def _dot(row: Mapping[str, Any], place: int) -> dict[str, Any]:
    cell = row["cells"][place]
    return {
        "name": row["method"],
        "control": row["is_control"],
        "untrained": (cell["untrained"] or {}).get("mean"),
        **{name: cell[name] for name in ("mean", "ci95", "low", "high")},
    }


def _row(entry: Entry, rank: Mapping[int, int], order: Sequence[int]) -> dict[str, Any]:
    result = entry.result
    is_control = result["method"] == result["control"]["method"]
    return {
        "method": result["method"],
        "anchor": entry.anchor,
        "remark": _remark(result, is_control),
        "is_control": is_control,
        "is_best": all(place == 1 for place in rank.values()),
        "cells": [_cell(result, str(k_shot), rank.get(k_shot), is_control) for k_shot in order],
        "parameters": result["parameters"]["total"],
        "backbone": result["parameters"]["backbone"],
        "flops": result["flops"],
        "search": _filled(result["search_cost"]),
        "training": _filled(result["training_cost"]),
    }


def _remark(result: Mapping[str, Any], is_control: bool) -> str:
    architectures = _drawn_from(len(result["genotypes"]), result)
    read_out = result["protocol"]["read_out"].replace("_", " ")
    of_learner = f"{read_out}; " if result.get("kind") == "adapted" else ""
    if is_control:
        return f"{of_learner}control: {architectures}"
    return f"{of_learner}{architectures}; beside {control_named(result)}"


def _drawn_from(number: int, of: Mapping[str, Any]) -> str:
    text = n_of(number, "architecture")
    return f"{text} of {of['space']}" if "space" in of else text


def _filled(cost: Mapping[str, Any]) -> dict[str, Any]:
    return {name: cost.get(name) for name in ("wall_seconds", "network_evaluations", "peak_memory_mib")}


def _cell(result: Mapping[str, Any], shot: str, rank: int | None, is_control: bool) -> dict[str, Any]:
    own, control = result["accuracy"][shot], result["control"]
    bootstrap, difference = own["data_aware"]["hierarchical_bootstrap"], control["paired_difference"][shot]
    return {
        "rank": rank,
        "mean": own["mean"],
        "ci95": own["ci95"],
        "low": bootstrap["low"],
        "high": bootstrap["high"],
        "prototypes": result.get("prototypes", {}).get(shot),
        "untrained": result["untrained"][shot],
        "on_episodes": n_of(number, "episode") if (number := n_untrained(result, shot)) else "",
        "improvement": None if is_control else control["relative_improvement_percent"][shot],
        "difference": difference,
        "verdict": verdict(difference),
    }


def verdict(difference: Mapping[str, Any]) -> str:
    """ "better" or "worse" when the interval of a paired difference leaves out zero, else "same"."""
    if difference["ci95"] is None or abs(difference["mean"]) <= difference["ci95"]:
        return "same"
    return "better" if difference["mean"] > 0 else "worse"


def _control_row(control: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
    """A control's row where its own result is not among the results: what the others recorded of it."""
    empty = dict.fromkeys(
        ("rank", "low", "high", "prototypes", "untrained", "on_episodes", "improvement", "difference")
    )
    return {
        "method": control["method"],
        "anchor": None,
        "remark": f"control: {_drawn_from(control['n_architectures'], control)}",
        "is_control": True,
        "is_best": False,
        "cells": [{**empty, **control["accuracy"][str(k_shot)], "verdict": "same"} for k_shot in order],
        **dict.fromkeys(("parameters", "backbone", "flops", "search", "training")),
    }


def _details(entry: Entry, folder: str) -> dict[str, Any]:
    result, provenance = entry.result, entry.result["provenance"]
    return {
        "anchor": entry.anchor,
        "method": result["method"],
        "budget": result["budget"],
        "drawing": entry.drawing,
        "genotypes": result["genotypes"],
        "stability": stability(result["search_stability"]),
        "learned": learned(result) or decoded(result),
        "paired": _paired(result),
        "trace": trace_figure(entry.trace, "What each candidate scored, round by round"),
        "curves": curve_figures(entry.curve),
        "seeds": result["seeds"],
        "per_seed": [_per_seed(shot, own) for shot, own in sorted(result["accuracy"].items(), key=_shot)],
        **{name: provenance[name] for name in ("episodes_digest", "recipe_digest")},
        **origin(provenance, entry.path, entry.sha256, folder),
    }


def _paired(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Lines of comparisons on the episodes that both sides were tested on; none with the method itself."""
    return [
        {
            "method": name,
            "setting": block["setting"],
            "shot": f"{shot} shot",
            **line,
            "verdict": verdict(line["difference"]),
        }
        for name, block in sorted(result.get("paired", {}).items())
        if name != result["method"]
        for shot, line in sorted(block["by_shot"].items(), key=_shot)
    ]


def _shot(pair: tuple[str, Any]) -> int:
    return int(pair[0])


def _per_seed(shot: str, own: Mapping[str, Any]) -> dict[str, Any]:
    aware = own["data_aware"]
    printed = own.get("normal_ci95")
    return {
        "std": own.get("std"),
        "as_printed": None if printed is None else {"mean": own["mean"], "ci95": printed},
        "shot": f"{shot} shot",
        "of_seeds": own["per_seed"],
        "mean": own["mean"],
        "ci95": own["ci95"],
        "seeds_ci95": own.get("seeds_ci95"),
        "once": aware["without_replacement"],
        "low": aware["hierarchical_bootstrap"]["low"],
        "high": aware["hierarchical_bootstrap"]["high"],
    }
