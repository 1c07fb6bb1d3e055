"""The report card of the proxies: how far each one's ranking of architectures can be trusted, as one HTML page."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.core.artifacts import read_csv
from pipeline.report.figures import interval_figure, scatter_figure
from pipeline.report.parts import data_label, origin, table_facts, template

# what a ranking has to beat: the size of a network, which costs nothing to know
SIZES = ("n_params", "flops", "n_layers")
KINDS = {"proxy": 0, "sum of ranks": 1, "size alone": 7}
FIGURES = {
    "kendall_tau_b": "Kendall's\u00a0τ",
    "spearman": "Spearman's\u00a0ρ",
    "partial_spearman_given_log_params": "partial ρ given size",
    "ndcg": "nDCG",
    "regret_of_best": "regret of the best",
}
TABLE = pathlib.Path(__file__).with_name("published_proxies.csv")


def published_figures(space: str, dataset: str) -> dict[str, list[dict[str, Any]]]:
    """Published figures by proxy: {"figure", "value", "source", "note"}; only those read in the source they name.

    Figures are in the direction in which a higher score is better. Proxies joined by "+" are sums of ranks.
    """
    frame = _published(space, dataset)
    found: dict[str, list[dict[str, Any]]] = {}
    for row in frame[frame["verified"] == "yes"].to_dict("records"):
        entry = {**{name: row[name] for name in ("figure", "source", "note")}, "value": float(row["value"])}
        found.setdefault(row["proxy"], []).append(entry)
    return found


def published_beside(
    space: str, dataset: str, proxy: str, figures: Mapping[str, Mapping[str, float | None]]
) -> list[dict[str, Any]]:
    """A proxy's published figures, each with `difference`: the figure here less the published one, or None.

    Args:
        figures: as in a card: {"kendall_tau_b": {"value": ...}, ...}.
    """
    entries = published_figures(space, dataset).get(proxy, [])
    here = {name: figure["value"] for name, figure in figures.items()}
    return [
        {**entry, "difference": None if here.get(entry["figure"]) is None else here[entry["figure"]] - entry["value"]}
        for entry in entries
    ]


def unchecked_figures(space: str, dataset: str) -> list[dict[str, str]]:
    """Published figures that were not read in their source: proxy, figure, source and note, without the number."""
    frame = _published(space, dataset)
    columns = ["proxy", "figure", "source", "note"]
    return frame[frame["verified"] != "yes"][columns].drop_duplicates().to_dict("records")


def _published(space: str, dataset: str):
    """Lines about a data set, and those whose data set was not noted."""
    frame = read_csv(TABLE, dtype=str, keep_default_na=False)
    return frame[(frame["space"] == space) & frame["dataset"].isin([dataset, ""])]


def render_card(card: Mapping[str, Any]) -> str:
    """A card (see the schema) as one page that needs no network."""
    proxies, scores = sorted(card["proxies"], key=_standing), card["scatter"]["scores"]
    provenance = card["provenance"]
    return template("card.html.j2").render(
        card=card,
        rows=[_row(proxy, proxy["name"] in scores) for proxy in proxies],
        published=[line for proxy in proxies for line in _published_lines(proxy)],
        unchecked=[_unchecked(line) for line in unchecked_figures(card["space"], card["dataset"])],
        intervals=_intervals(proxies),
        scatters=[_scatter(proxy, card["scatter"]) for proxy in proxies if proxy["name"] in scores],
        settings=[(name, _setting(value)) for name, value in sorted(card["settings"].items())],
        n_top=max(1, round(card["top_fraction"] * card["sample"]["n_architectures"])),
        facts=table_facts(provenance["table"]),
        result={"budget": card["budget"], **origin(provenance)},
        data_label=data_label(provenance),
    )


def readable(name: str) -> str:
    """A proxy's name, or that of several whose ranks are summed, in words."""
    return name.replace("+", " + ").replace("_", " ")


def _setting(value: Any) -> str:
    """A knob's value as params.yaml would have it."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_setting, value))
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _standing(proxy: Mapping[str, Any]) -> tuple:
    """Sort key: the highest tau first, undefined ones last."""
    tau = proxy["figures"]["kendall_tau_b"]["value"]
    return tau is None, -(tau or 0.0), proxy["name"]


def _anchor(proxy: Mapping[str, Any]) -> str:
    return f"scatter-{proxy['name'].replace('+', '--')}"


def _kind(proxy: Mapping[str, Any]) -> str:
    if proxy["combines"]:
        return "sum of ranks"
    return "size alone" if proxy["name"] in SIZES else "proxy"


def _title(proxy: Mapping[str, Any]) -> str:
    """The proxy's title where it says more than its name."""
    return "" if proxy["title"] == readable(proxy["name"]) else proxy["title"]


def _row(proxy: Mapping[str, Any], has_scatter: bool) -> dict[str, Any]:
    names = ("figures", "tau_between_seeds", "variance_within", "n_not_finite", "n_measurements")
    taus = [entry for entry in proxy["published"] if entry["figure"] == "kendall_tau_b"]
    return {
        "name": readable(proxy["name"]),
        "remark": "; ".join(filter(None, [_title(proxy), "" if proxy["higher_is_better"] else "lower is better"])),
        "anchor": _anchor(proxy) if has_scatter else None,
        "kind": _kind(proxy),
        **{name: proxy[name] for name in names},
        "seconds": proxy["seconds_per_architecture"],
        "published": taus,
    }


def _direction(proxy: Mapping[str, Any]) -> str:
    if proxy["combines"]:
        return "ranks summed"
    return "higher is better" if proxy["higher_is_better"] else "lower is better"


def _published_lines(proxy: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            **entry,
            "proxy": "" if place else readable(proxy["name"]),
            "n_lines": len(proxy["published"]),
            "figure": FIGURES[entry["figure"]],
            "here": proxy["figures"][entry["figure"]]["value"],
        }
        for place, entry in enumerate(proxy["published"])
    ]


def _unchecked(line: Mapping[str, str]) -> str:
    return f"{readable(line['proxy'])}, {FIGURES[line['figure']]} ({line['source']})"


def _intervals(proxies: Sequence[Mapping[str, Any]]) -> str:
    kinds = {_kind(proxy) for proxy in proxies}
    rows = [
        {
            "name": readable(proxy["name"]),
            **proxy["figures"]["kendall_tau_b"],
            "hue": KINDS[_kind(proxy)],
            "published": [
                (entry["value"], entry["source"]) for entry in proxy["published"] if entry["figure"] == "kendall_tau_b"
            ],
        }
        for proxy in proxies
    ]
    legend = {kind: hue for kind, hue in KINDS.items() if kind in kinds}
    return interval_figure(rows, "Kendall's τ with the accuracies, and its 95 % interval", legend)


def _scatter(proxy: Mapping[str, Any], scatter: Mapping[str, Any]) -> dict[str, Any]:
    scores = scatter["scores"][proxy["name"]]
    name = readable(proxy["name"])
    return {
        "anchor": _anchor(proxy),
        "name": name,
        "direction": _direction(proxy),
        "n_missing": sum(score is None for score in scores),
        "figure": scatter_figure(scores, scatter["accuracies"], name, KINDS[_kind(proxy)]),
    }
