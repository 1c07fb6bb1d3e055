"""The report card of the proxies: how far each one's ranking of architectures can be trusted, as one HTML page."""

import pathlib
from collections.abc import Mapping
from typing import Any

from pipeline.core.artifacts import read_csv

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
