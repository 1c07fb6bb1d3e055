"""Results as rows: one line per result, and the leaderboard made of them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.core.artifacts import digest
from pipeline.core.errors import ArtifactError
from pipeline.core.wording import n_of

# what two learners that adapt may differ in and still be ranked together
LEARNERS_OWN = ("read_out", "image_size")
LEAGUE = ("dataset", "budget", "protocol_digest", "recipe_digest", "data_digest", "episodes_digest")
NEEDED = ("method", *LEAGUE, "n_way", "k_shots", "result", "sha256")


def result_row(result: Mapping[str, Any], path: str, sha256: str):
    """A result (see the schema) as a one-row table that names its file, the file's hash and what it may be ranked with.

    The six columns of LEAGUE decide which results are comparable: only rows that agree in all of them share a ranking.
    Of results of the kind adapted, learners are what is compared: learner, recipe and size of images do not part them.
    """
    import pandas

    protocol, provenance = result["protocol"], result["provenance"]
    adapted = result.get("kind") == "adapted"
    shared = {name: value for name, value in protocol.items() if not (adapted and name in LEARNERS_OWN)}
    row = {
        **{name: result[name] for name in ("method", "dataset", "dataset_title", "budget")},
        "space": result.get("space"),
        **{f"control_{name}": result["control"].get(name) for name in ("method", "space")},
        **{name: protocol[name] for name in ("n_way", "n_query", "n_episodes", "n_augmented_support", "setting")},
        "read_out": protocol["read_out"],
        "k_shots": " ".join(map(str, protocol["k_shots"])),
    }
    for shot in map(str, protocol["k_shots"]):
        row |= _shot_columns(result, shot)
    row |= {
        "parameters": result["parameters"]["total"],
        "backbone_parameters": result["parameters"]["backbone"],
        "flops": result["flops"],
        "n_architectures": len(result["genotypes"]),
        "n_control_architectures": result["control"]["n_architectures"],
    }
    for stage, names in (("search", ("wall_seconds", "device_seconds", "network_evaluations", "peak_memory_mib")),
                         ("training", ("wall_seconds", "device_seconds", "peak_memory_mib"))):  # fmt: skip
        row |= {f"{stage}_{name}": result[f"{stage}_cost"].get(name) for name in names}
    row |= {
        "protocol_digest": digest(shared),
        "recipe_digest": digest("each learner's own") if adapted else provenance["recipe_digest"],
        **{name: provenance[name] for name in ("data_digest", "episodes_digest")},
        "official_data": provenance["official_data"],
        "commit": provenance["commit"],
        "result": path,
        "sha256": sha256,
    }
    return pandas.DataFrame([row])


def _shot_columns(result: Mapping[str, Any], shot: str) -> dict[str, Any]:
    own, control = result["accuracy"][shot], result["control"]
    bootstrap = own["data_aware"]["hierarchical_bootstrap"]
    difference = control["paired_difference"][shot]
    columns = {
        "accuracy": own["mean"],
        "ci95": own["ci95"],
        "data_aware_low": bootstrap["low"],
        "data_aware_high": bootstrap["high"],
        **second_read_out(result, shot),
        "untrained": result["untrained"][shot]["mean"],
        "control": control["accuracy"][shot]["mean"],
        "control_ci95": control["accuracy"][shot]["ci95"],
        "relative_improvement_percent": control["relative_improvement_percent"][shot],
        "difference": difference["mean"],
        "difference_ci95": difference["ci95"],
    }
    return {f"{name}_{shot}shot": value for name, value in columns.items()}


def second_read_out(result: Mapping[str, Any], shot: str) -> dict[str, float | None]:
    """Accuracy by prototypes; nothing where a learner adapts to each task."""
    found = result.get("prototypes", {}).get(shot, {})
    return {"prototypes": found.get("mean"), "prototypes_ci95": found.get("ci95")}


def shots(row: Mapping[str, Any]) -> list[int]:
    """The shots a row was tested with."""
    return [int(part) for part in str(row["k_shots"]).split()]


def stacked(
    frames: Iterable[tuple[str, Any]],
    needed: Sequence[str] = NEEDED,
    *,
    kind: str = "a result",
    stage: str = "compare",
    example: str = "results/metantk_doublemnist.json",
):
    """All rows under each other, by data set, budget and method.

    Args:
        frames: (file name, table) of every row file.
        needed: columns that a row of this kind of result has.
        kind, stage, example: of the results, the stage that writes them and one of them, for messages.

    Raises ArtifactError when there is no row, a file is no row of a result, or two rows name the same result.
    """
    import pandas

    named = list(frames)
    if not named:
        raise ArtifactError(
            f"There is no result to report. Make {kind} first, e.g. `snakemake --cores 4 {example}`, or list data sets "
            "and methods in params.yaml."
        )
    for name, frame in named:
        missing = [column for column in needed if column not in frame]
        if missing or len(frame) != 1:
            wrong = f"lacks {', '.join(missing)}" if missing else f"has {n_of(len(frame), 'row')}"
            raise ArtifactError(
                f"{name} is not the row of {kind}: it {wrong}. Delete it and run the {stage} stage again."
            )
    table = pandas.concat([frame for _, frame in named], ignore_index=True)
    twice = table[table.duplicated("result")]["result"].tolist()
    if twice:
        raise ArtifactError(f"Two rows name the same result: {', '.join(twice)}. Delete the older row file.")
    return table.sort_values(["dataset", "budget", "method"], kind="stable", ignore_index=True)


def leagues(table, common: Sequence[str] = LEAGUE) -> list[tuple[dict[str, str], list[int]]]:
    """Groups of rows that may be set against each other: (their common columns, indices of their rows).

    Args:
        common: columns in which the rows of a group agree.
    """
    grouped = table.groupby(list(common), sort=True, dropna=False)
    return [(dict(zip(common, key, strict=True)), list(index)) for key, index in grouped.groups.items()]


def league_numbers(table, common: Sequence[str] = LEAGUE) -> list[int]:
    """Per row of the table the number of its league, from 1."""
    numbers = {}
    for place, (_, rows) in enumerate(leagues(table, common), start=1):
        numbers |= dict.fromkeys(rows, place)
    return [numbers[index] for index in table.index]


def leaderboard(table, ranks: Sequence[Mapping[int, int]]):
    """The table with its ranks: columns `league` (rows of equal league were ranked together) and `rank_{k}shot`.

    Args:
        ranks: per row of the table, rank by shot.
    """
    board = table.copy()
    board.insert(0, "league", league_numbers(table))
    for column, k_shot in enumerate(sorted({k for row in ranks for k in row})):
        values = [row.get(k_shot) for row in ranks]
        board.insert(1 + column, f"rank_{k_shot}shot", values)
    first = [name for name in board.columns if name.startswith("rank_")]
    return board.sort_values(["league", *first, "method"], kind="stable", ignore_index=True)
