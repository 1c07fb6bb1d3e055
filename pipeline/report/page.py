"""The report as one HTML page that needs no network: leaderboards, architectures, searches, provenance."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.core.config import BUDGETS
from pipeline.report.anchors import published
from pipeline.report.figures import accuracy_figure, curve_figures, line_figure, trace_figure
from pipeline.report.tables import LEAGUE, leagues

STAGES = ("search", "train", "evaluate", "compare")
FOLDER = pathlib.Path(__file__).parent
# the columns of a league, in words
APART = {
    "dataset": "data set",
    "budget": "budget",
    "protocol_digest": "test protocol",
    "recipe_digest": "training recipe",
    "data_digest": "images (another copy of the data)",
    "episodes_digest": "test episodes",
}


@dataclass(frozen=True)
class Entry:
    """One result with the files that are shown with it.

    Attributes:
        result: content of the result file.
        path, sha256: the result file.
        drawing: SVG text.
        trace, curve: tables of the search and of the training.
    """

    result: Mapping[str, Any]
    path: str
    sha256: str
    drawing: str
    trace: Any
    curve: Any

    @property
    def anchor(self) -> str:
        return f"{self.result['method']}-{self.result['dataset']}-{self.sha256[:8]}"


# ---------------------------------------------------------------- numbers as text
def percent(value: float) -> str:
    return f"{100 * value:.2f}"


def signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


def signed_percent(value: float) -> str:
    return f"{100 * value:+.2f}".replace("-", "−")


def count(value: float) -> str:
    """Three digits and a unit: 1.76 M, 24.3 k, 96."""
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}" if value % 1 else f"{value:.0f}"


def duration(seconds: float) -> str:
    """45 s, 12.5 min, 3.2 h."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def memory(mib: float) -> str:
    return f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib:.0f} MiB"


FILTERS = (percent, signed, signed_percent, count, duration, memory)


# ---------------------------------------------------------------- what the template shows
def render(entries: Sequence[Entry], table, ranks: Sequence[Mapping[int, int]], folder: str) -> str:
    """The page.

    Args:
        entries, ranks: one per row of `table`, in its order; ranks by shot.
        folder: where the page will lie; links to result files are relative to it.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    strict = {"autoescape": True, "undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=FileSystemLoader(FOLDER), **strict)
    environment.filters |= {function.__name__: function for function in FILTERS}
    names = sorted(set(table["dataset"]))
    datasets = [_dataset(name, entries, table, ranks, folder) for name in names]
    return environment.get_template("page.html.j2").render(datasets=datasets, n_results=len(entries))


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


def data_label(provenance: Mapping[str, Any]) -> str:
    """Whether the images come from their official source, in words."""
    if provenance["official_data"]:
        return "official data"
    return provenance.get("data_variant") or "a mirror's variant of the data, not the official files"


def _league(anchor: str, entries: Sequence[Entry], ranks: Sequence[Mapping[int, int]]) -> dict[str, Any]:
    first = entries[0].result
    protocol, order = first["protocol"], sorted(first["protocol"]["k_shots"])
    rows = [_row(entry, rank, order) for entry, rank in zip(entries, ranks, strict=True)]
    if len(rows) == 1:
        rows[0]["is_best"] = False
    if not any(row["is_control"] for row in rows):
        rows.append(_control_row(first, order))
    rows.sort(key=lambda row: ([-cell["mean"] for cell in row["cells"]], row["method"]))
    return {
        "id": anchor,
        **{name: protocol[name] for name in ("n_way", "n_query", "n_episodes", "setting", "read_out")},
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


def _n(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _row(entry: Entry, rank: Mapping[int, int], order: Sequence[int]) -> dict[str, Any]:
    result = entry.result
    is_control = result["method"] == result["control"]["method"]
    architectures = _n(len(result["genotypes"]), "architecture")
    return {
        "method": result["method"],
        "anchor": entry.anchor,
        "remark": f"control: {architectures}" if is_control else architectures,
        "is_control": is_control,
        "is_best": all(place == 1 for place in rank.values()),
        "cells": [_cell(result, str(k_shot), rank.get(k_shot), is_control) for k_shot in order],
        "parameters": result["parameters"]["total"],
        "backbone": result["parameters"]["backbone"],
        "flops": result["flops"],
        "search": _filled(result["search_cost"]),
        "training": _filled(result["training_cost"]),
    }


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
        "prototypes": result["prototypes"][shot],
        "untrained": result["untrained"][shot],
        "improvement": None if is_control else control["relative_improvement_percent"][shot],
        "difference": difference,
        "verdict": verdict(difference),
    }


def verdict(difference: Mapping[str, Any]) -> str:
    """ "better" or "worse" when the interval of a paired difference leaves out zero, else "same"."""
    if difference["ci95"] is None or abs(difference["mean"]) <= difference["ci95"]:
        return "same"
    return "better" if difference["mean"] > 0 else "worse"


def _control_row(result: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
    """The control's row where its own result is not among the results: what the others recorded of it."""
    control = result["control"]
    empty = dict.fromkeys(("rank", "low", "high", "prototypes", "untrained", "improvement", "difference"))
    return {
        "method": control["method"],
        "anchor": None,
        "remark": f"control: {_n(control['n_architectures'], 'architecture')}",
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
        "trace": trace_figure(entry.trace, "What each candidate scored, round by round"),
        "curves": curve_figures(entry.curve),
        "seeds": result["seeds"],
        "per_seed": [_per_seed(shot, own) for shot, own in sorted(result["accuracy"].items(), key=_shot)],
        "command": provenance["command"],
        "link": os.path.relpath(entry.path, folder),
        "path": entry.path,
        "sha256": entry.sha256,
        "official": provenance["official_data"],
        "data_label": data_label(provenance),
        **{name: provenance[name] for name in ("data_digest", "episodes_digest", "recipe_digest")},
        "commits": commits(provenance),
        "hardware": [
            (stage, hardware_line(seen)) for stage, seen in sorted(provenance["hardware"].items(), key=_by_stage)
        ],
        "versions": ", ".join(f"{name} {version}" for name, version in sorted(provenance["versions"].items())),
        "params_digest": sorted(provenance["params_digest"].items(), key=_by_stage),
        "files": sorted(provenance["files"].items()),
    }


def _by_stage(pair: tuple[str, Any]) -> int:
    return STAGES.index(pair[0]) if pair[0] in STAGES else len(STAGES)


def _shot(pair: tuple[str, Any]) -> int:
    return int(pair[0])


def _per_seed(shot: str, own: Mapping[str, Any]) -> dict[str, Any]:
    aware = own["data_aware"]
    return {
        "shot": f"{shot} shot",
        "of_seeds": own["per_seed"],
        "mean": own["mean"],
        "ci95": own["ci95"],
        "seeds_ci95": own.get("seeds_ci95"),
        "once": aware["without_replacement"],
        "low": aware["hierarchical_bootstrap"]["low"],
        "high": aware["hierarchical_bootstrap"]["high"],
    }


def commits(provenance: Mapping[str, Any]) -> str:
    """The commit of the code; by stage where the stages ran on different ones."""
    found = provenance.get("commits") or {"evaluate": provenance["commit"]}
    if len(set(found.values())) == 1:
        return next(iter(found.values()))
    return ", ".join(f"{stage} {commit}" for stage, commit in found.items())


def hardware_line(seen: Mapping[str, Any]) -> str:
    """One line from a job's hardware block."""
    parts = [str(seen["accelerator"])] if seen.get("accelerator") else []
    if seen.get("processor"):
        parts.append(f"{seen['processor']}, {seen.get('threads', seen.get('cores', '?'))} threads")
    if seen.get("memory_gib"):
        parts.append(f"{seen['memory_gib']} GiB")
    return ", ".join(parts) or "not recorded"


VERDICTS = {
    "signal": "repeats agree beyond chance",
    "noise": "repeats agree no better than chance",
    "unknown": "cannot be told",
}


def stability(block: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What a result's `search_stability` says, for the template; None for methods that rank nothing.

    Gives per indicator its verdict in words and Kendall's tau between repeats, tau between the indicators, the warning
    (or None), and a figure of tau by round (or None).
    """
    if not block or not block.get("verdict"):
        return None
    repeats = block.get("between_repeats") or {}
    lines = [
        {
            "name": name.replace("_", " "),
            "good": word == "signal",
            "verdict": VERDICTS.get(word, word),
            "tau": _tau(repeats.get(name)),
        }
        for name, word in block["verdict"].items()
    ]
    return {
        "lines": lines,
        "between_indicators": _tau(block.get("between_indicators")),
        "warning": block.get("warning"),
        "figure": _tau_figure(block.get("rounds") or []),
    }


def _tau(agreement: Mapping[str, float] | None) -> str | None:
    if not agreement:
        return None
    value, low, high = (f"{agreement[name]:.2f}".replace("-", "−") for name in ("tau", "low", "high"))
    return f"τ = {value} ({low} to {high})"


def _tau_figure(rounds: Sequence[Mapping[str, Any]]) -> str | None:
    """Kendall's tau by round, mean over search seeds, a line per indicator and one for their agreement."""
    points: dict[str, dict[int, list[float]]] = {}
    for item in rounds:
        found = {name.replace("_", " "): tau for name, tau in item["between_repeats"].items()}
        found["between indicators"] = item["between_indicators"]
        for name, tau in found.items():
            if tau is not None:
                points.setdefault(name, {}).setdefault(item["round"], []).append(tau)
    series = {
        name: [(number, sum(taus) / len(taus)) for number, taus in sorted(by_round.items())]
        for name, by_round in points.items()
    }
    return line_figure(series, "Agreement of rankings (Kendall's τ)", "round of the search", width=520)
