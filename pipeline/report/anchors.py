"""Published accuracies, for orientation beside our own; only figures read in the source they name are shown."""

import pathlib
from typing import Any

from pipeline.core.artifacts import read_csv

TABLE = pathlib.Path(__file__).with_name("anchors.csv")
SHOTS = (1, 5)


def published(dataset: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Published rows for a data set, best 5-shot accuracy last, and the names of methods whose figures are unchecked.

    Each row: method, network, parameters (or None), shots {k: "52.84 ± 1.41" or ""}, setting, protocol, source, note.
    Accuracies are percentages as printed in the source.
    """
    frame = read_csv(TABLE, dtype=str, keep_default_na=False)
    frame = frame[frame["dataset"] == dataset]
    checked = frame[frame["verified"] == "yes"]
    rows = [
        {
            **{name: row[name] for name in ("method", "network", "setting", "protocol", "source", "note")},
            "parameters": float(row["parameters"]) if row["parameters"] else None,
            "shots": {k: _figure(row[f"accuracy_{k}shot"], row[f"ci95_{k}shot"]) for k in SHOTS},
        }
        for row in checked.to_dict("records")
    ]
    return rows, frame[frame["verified"] != "yes"]["method"].tolist()


def _figure(accuracy: str, half: str) -> str:
    return f"{accuracy} ± {half}" if accuracy and half else accuracy
