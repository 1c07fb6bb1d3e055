"""What the pages of the report share: numbers as text, stability of a search, where a number comes from."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.core.wording import fixed, n_of
from pipeline.report.figures import line_figure

STAGES = ("search", "train", "meta_learn", "evaluate", "adapt", "compare", "score", "look_up")
FOLDER = pathlib.Path(__file__).parent


@dataclass(frozen=True)
class Entry:
    """One result with the files that are shown with it.

    Attributes:
        result: content of the result file.
        path, sha256: the result file.
        drawing: SVG text.
        trace, curve: tables of the search and of the training; None where nothing was trained.
    """

    result: Mapping[str, Any]
    path: str
    sha256: str
    drawing: str
    trace: Any
    curve: Any = None

    @property
    def anchor(self) -> str:
        return f"{self.result['method']}-{self.result['dataset']}-{self.sha256[:8]}"


def printed(value: float, decimals: int, signed: bool = False) -> str:
    """A number with a real minus sign, which what rounds to zero has not."""
    return fixed(value, decimals, signed).replace("-", "−")


def percent(value: float) -> str:
    return printed(100 * value, 2)


def signed(value: float) -> str:
    return printed(value, 1, signed=True)


def signed_percent(value: float) -> str:
    return printed(100 * value, 2, signed=True)


def coefficient(value: float) -> str:
    """A correlation, or another number of about one: 0.536, −0.042."""
    return printed(value, 3)


def signed_coefficient(value: float) -> str:
    return printed(value, 3, signed=True)


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


FILTERS = (percent, signed, signed_percent, coefficient, signed_coefficient, count, duration, memory, n_of)


def control_named(result: Mapping[str, Any]) -> str:
    """The control of a few-shot or a classifier's result by name, and whether it is of the method's own space."""
    control = result["control"]
    if "space" not in control:
        return control["method"]
    if control["space"] == result["space"]:
        return f"{control['method']}, of the same space"
    return f"{control['method']}, of another space: {control['space']}"


def n_untrained(result: Mapping[str, Any], shot: str) -> int | None:
    """On how many of the stored episodes the untrained networks were tested; None where a result does not say."""
    return result["untrained"][shot].get("n_episodes", result["protocol"].get("n_untrained_episodes"))


def template(name: str):
    """A template of this folder, which knows the FILTERS."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    strict = {"autoescape": True, "undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=FileSystemLoader(FOLDER), **strict)
    environment.filters |= {function.__name__: function for function in FILTERS}
    return environment.get_template(name)


def data_label(provenance: Mapping[str, Any]) -> str:
    """Whether the images come from their official source, in words."""
    if provenance["official_data"]:
        return "official data"
    return provenance.get("data_variant") or "a mirror's variant of the data, not the official files"


def table_facts(table: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a table of published accuracies, in words."""
    lacks = table["lacks"] or ""
    return {
        "source": table["source"],
        "sha256": table["sha256"],
        "official": table["official"],
        "label": "the benchmark's own file" if table["official"] else "a copy by others, not the benchmark's own file",
        "lacks": lacks if isinstance(lacks, str) else "; ".join(lacks),
    }


def origin(
    provenance: Mapping[str, Any], path: str | None = None, sha256: str | None = None, folder: str = "."
) -> dict[str, Any]:
    """Where a result's numbers come from, for the template.

    Args:
        path, sha256: the result file; None where the page is about one file only, which lies beside it.
        folder: where the page will lie; the link to the file is relative to it.
    """
    return {
        "command": provenance["command"],
        "link": path and os.path.relpath(path, folder),
        "path": path,
        "sha256": sha256,
        "official": provenance["official_data"],
        "data_label": data_label(provenance),
        "data_digest": provenance["data_digest"],
        "table": table_facts(provenance["table"]) if "table" in provenance else None,
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
        threads = seen.get("threads", seen.get("cores"))
        parts.append(f"{seen['processor']}, {'? threads' if threads is None else n_of(threads, 'thread')}")
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
    (or None), and a figure of tau by round (or None). Where nothing is judged the verdict is None, and `meaning` says
    what the agreement is.
    """
    if not block or not (block.get("verdict") or block.get("meaning")):
        return None
    repeats = block.get("between_repeats") or {}
    verdicts = block["verdict"] or dict.fromkeys(repeats)
    lines = [
        {
            "name": name.replace("_", " "),
            "good": word == "signal",
            "verdict": VERDICTS.get(word, word),
            "tau": _tau(repeats.get(name)),
        }
        for name, word in verdicts.items()
    ]
    return {
        "meaning": block.get("meaning"),
        "lines": lines,
        "between_indicators": _tau(block.get("between_indicators")),
        "warning": block.get("warning"),
        "figure": _tau_figure(block.get("rounds") or []),
    }


def learned(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a result says of its method's learning beforehand, for the template; None for methods that did not learn.

    Gives warnings, and lines (name, text, whether that is good or None).
    """
    block = result.get("learned")
    if block is None:
        return None
    oracle, network, triples = block["oracle"], block["features_network"], block["triples"]
    told = [
        (
            "learned from",
            f"{n_of(triples['base'], 'accuracy', 'accuracies')} on tasks of {block['source_title']}: "
            f"{oracle['meaning']}",
            None,
        ),
        ("features by", network["label"], not network["substitute"]),
        *_held_out(block["held_out"], oracle["unit"]),
        *(_candidates(one) for one in block["candidates"]),
        *_in_table(block.get("in_table")),
        *_spent(result["search_cost"]),
    ]
    return {"warnings": block["warnings"], "lines": told}


def decoded(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a result says of architectures that were read off a supernet, as `learned` does; None for other methods."""
    block = result.get("decoded")
    if block is None:
        return None
    lines = [(f"decoded, seed {one['seed']}, {one['k_shot']}-shot", _diversity(one), None) for one in block["by_seed"]]
    for k_shot, one in sorted(block["supernet"]["training"].items(), key=lambda pair: int(pair[0])):
        text = (
            f"{_give_percent(one['validation_accuracy'], one['validation_ci95'])} % of validation episodes after "
            f"iteration {one['best_iteration']} of {one['iterations']}"
        )
        lines.append((f"supernet, {k_shot}-shot", text, None))
    return {"warnings": [], "lines": [*lines, *_spent(result["search_cost"])]}


def _diversity(one: Mapping[str, Any]) -> str:
    if one["n_tasks"] is None:
        return "one architecture for all tasks"
    text = f"{n_of(one['n_genotypes'], 'architecture')} of {n_of(one['n_tasks'], 'task')}"
    if one["mean_distance"] is None:
        return text
    return (
        f"{text}; two tasks differ in {100 * one['mean_distance']:.1f} % of the entries on average; "
        f"{100 * one['largest_share']:.1f} % of the tasks have the most frequent one"
    )


def _give_percent(mean: float, half: float | None) -> str:
    return percent(mean) if half is None else f"{percent(mean)} ± {percent(half)}"


def _held_out(block: Mapping[str, Any], unit: str) -> list[tuple[str, str, bool | None]]:
    """Lines on tasks that were held out from meta-training."""
    lines = []
    within = (block["predictor"]["within_tasks"] or {}).get("spearman")
    if within:
        text = f"Spearman's {_give(within)} inside {n_of(within['n'], 'task')} (random ranking: 0)"
        verdict = block["predictor"]["beats_random"]["ranking"]
        lines.append(("predictor on held-out tasks", text + _untested(verdict), verdict))
    within_new = block["predictor"]["new_architectures"]["within_tasks"]["spearman"] if within else None
    if within_new:
        text = f"Spearman's {_give(within_new)} inside {n_of(within_new['n'], 'task')}"
        lines.append(("the same, cells not trained on", text, None))
    beside = block["generator"]["generated_vs_uniform"]
    if beside and beside["difference"]:
        text, verdict = (
            f"{_give(beside['difference'], signed=True)} ({unit}) against uniform cells",
            beside["beats_uniform"],
        )
        lines.append(("generator on held-out tasks", text + _untested(verdict), verdict))
    return lines


def _untested(verdict: bool | None) -> str:
    return "; no test, since all tasks have the same numbers" if verdict is None else ""


def _candidates(one: Mapping[str, Any]) -> tuple[str, str, None]:
    shares = ", ".join(f"{100 * one[share]:.1f} % {word}" for share, word in SHARES)
    return f"candidates, seed {one['seed']}", f"{one['n']} of {one['n_proposed']} proposals: {shares}", None


SHARES = (
    ("validity", "valid"),
    ("connected", "of these connected"),
    ("uniqueness", "of those different"),
    ("novelty", "of the different ones not in the database"),
)


def _in_table(block: Mapping[str, Any] | None) -> list[tuple[str, str, bool | None]]:
    """Lines on how predictions stand to published accuracies."""
    if block is None:
        return []
    proposed, best = block["proposed"], block["best_of"]
    correlations = ", ".join(
        f"{name.capitalize()} {coefficient(one['mean'])}"
        for name, one in block["correlation"].items()
        if one["mean"] is not None
    )
    half = "" if proposed["ci95"] is None else f" ± {percent(proposed['ci95'])}"
    return [
        ("predictions against the table", correlations or "undefined", block["beats_random"]),
        (
            "mean of the candidates",
            f"{percent(proposed['mean'])}{half} % (uniform cells: {percent(block['uniform_mean'])} %)",
            block["beats_uniform"],
        ),
        (
            f"best of the first {best['k']} by test accuracy",
            f"{percent(best['accuracy']['mean'])} %; no result of the search, which may not see test accuracies",
            None,
        ),
    ]


def _spent(cost: Mapping[str, Any]) -> list[tuple[str, str, None]]:
    """Lines on seconds: of the two networks in this search, of describing the images, and once for all searches."""
    own = [("generator", cost.get("generator_seconds")), ("predictor", cost.get("predictor_seconds"))]
    here = ", ".join(f"{name} {duration(seconds)}" for name, seconds in own if seconds is not None)
    once = ", ".join(
        f"{name.replace('_', ' ')} {duration(one['device_seconds'])}" for name, one in cost.get("amortised", {}).items()
    )
    features = duration(cost["features"]["device_seconds"]) if "features" in cost else ""
    pairs = (
        ("device time of this search", here),
        ("features of the data set", features),
        ("once for all searches", once),
    )
    return [(name, text, None) for name, text in pairs if text]


def _give(estimate: Mapping[str, Any], signed: bool = False) -> str:
    half = "" if estimate["ci95"] is None else f" ± {estimate['ci95']:.2f}"
    return printed(estimate["mean"], 2, signed) + half


def _tau(agreement: Mapping[str, float] | None) -> str | None:
    if not agreement:
        return None
    value, low, high = (printed(agreement[name], 2) for name in ("tau", "low", "high"))
    return f"τ = {value} ({low} to {high})"


def _tau_figure(rounds: Sequence[Mapping[str, Any]]) -> str | None:
    """Kendall's tau by round, mean over search seeds, a line per indicator and one for their agreement; None for
    fewer than two rounds."""
    points: dict[str, dict[int, list[float]]] = {}
    for item in rounds:
        found = {name.replace("_", " "): tau for name, tau in item["between_repeats"].items()}
        found["between indicators"] = item["between_indicators"]
        for name, tau in found.items():
            if tau is not None:
                points.setdefault(name, {}).setdefault(item["round"], []).append(tau)
    if len({item["round"] for item in rounds}) < 2:
        return None
    series = {
        name: [(number, sum(taus) / len(taus)) for number, taus in sorted(by_round.items())]
        for name, by_round in points.items()
    }
    return line_figure(series, "Agreement of rankings (Kendall's τ)", "round of the search", width=520)
