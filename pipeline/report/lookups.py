"""Results that were looked up in a benchmark's table: their rows, and the page that shows them."""

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.core.artifacts import digest
from pipeline.report.tables import league_numbers, stacked

LOOKUP_LEAGUE = ("dataset", "budget", "space", "protocol_digest", "table_sha256", "data_digest")
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


def stacked_lookups(frames: Iterable[tuple[str, Any]]):
    """All rows of looked-up results under each other; arguments and errors as in `pipeline.report.tables.stacked`."""
    example = "results/tenas_cifar10.json"
    return stacked(frames, NEEDED, kind="a looked-up result", stage="look-up", example=example)


def lookup_table(table):
    """The table with the column `league`: rows of equal league may be set against each other, the best first."""
    board = table.copy()
    board.insert(0, "league", league_numbers(table, LOOKUP_LEAGUE))
    return board.sort_values(["league", "accuracy", "method"], ascending=[True, False, True], ignore_index=True)
