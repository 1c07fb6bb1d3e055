"""Write results/report.html and results/leaderboard.csv from the rows of all results.

Only files are read. Each is checked against the hash that was recorded when the result was made.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.artifacts import read_csv, read_json, sha256, write_csv, write_text
from pipeline.core.errors import ArtifactError
from pipeline.evaluation.statistics import paired_difference, t_quantile
from pipeline.report.page import render
from pipeline.report.parts import Entry
from pipeline.report.ranking import shared_ranks
from pipeline.report.schema import check_result
from pipeline.report.svg import is_drawing
from pipeline.report.tables import leaderboard, leagues, shots, stacked
from pipeline.stages.compare import episode_table, mean_by_episode

SHOWN = ("accuracies", "trace", "curve", "drawing")


def add_arguments(parser) -> None:
    parser.add_argument(
        "--rows", required=True, nargs="+", metavar="PATH", help="row files of results, or folders that hold them"
    )
    parser.add_argument("--params", metavar="FILE", help="frozen parameters of this job")
    parser.add_argument("--out", required=True, metavar="FILE", help="the page, an HTML file")
    parser.add_argument("--leaderboard", required=True, metavar="FILE", help="all results as a table, a CSV file")


def run(arguments) -> None:
    table = stacked((str(path), read_csv(path)) for path in row_files(arguments.rows))
    entries = [entry(row, SHOWN, check_result) for row in table.to_dict("records")]
    ranks = ranked(table, [episode_means(each) for each in entries])
    write_csv(arguments.leaderboard, leaderboard(table, ranks))
    write_text(arguments.out, render(entries, table, ranks, str(Path(arguments.out).parent)))


def row_files(places: Sequence[str]) -> Iterator[Path]:
    """The row files named, and those inside the folders named."""
    for place in map(Path, places):
        yield from sorted(place.glob("*.csv")) if place.is_dir() else [place]


def entry(
    row: Mapping[str, Any], shown: Sequence[str], check: Callable[[Any, str], None], stage: str = "compare"
) -> Entry:
    """The result of a row with the files shown with it.

    Args:
        shown: roles of the files that must be those that were recorded.
        check: of the result's shape.
        stage: that writes such results, for messages.

    Raises ArtifactError for missing, changed or damaged files.
    """
    check_hash(row["result"], row["sha256"], row["result"], stage)
    result = read_json(row["result"])
    check(result, row["result"])
    files, artifacts = result["provenance"]["files"], result["artifacts"]
    for role in shown:
        check_hash(artifacts[role], files.get(artifacts[role]), row["result"], stage, role)
    drawing = Path(artifacts["drawing"]).read_text(encoding="utf-8", errors="replace")
    if not is_drawing(drawing):
        raise ArtifactError(
            f"{artifacts['drawing']} (the drawing of {row['result']}) holds other things than shapes and words, and is "
            "not put on a page. Delete it and make the result anew."
        )
    return Entry(
        result=result,
        path=row["result"],
        sha256=row["sha256"],
        drawing=drawing,
        trace=read_csv(artifacts["trace"]),
        curve=read_csv(artifacts["curve"]) if "curve" in shown else None,
    )


def check_hash(path: str, expected: str | None, result: str, stage: str, role: str = "") -> None:
    """Raises ArtifactError when a file is missing or is not the one that was recorded.

    Args:
        result: the result that it is or, in the role `role`, belongs to.
        stage: that writes such results.
    """
    role = f" (the {role} of {result})" if role else ""
    if not Path(path).is_file():
        raise ArtifactError(
            f"{path}{role} is missing. Run from the project's folder, and `snakemake --cores 4` to make "
            "what is missing; delete the row file of a result you no longer want."
        )
    if sha256(path) != expected:
        raise ArtifactError(
            f"{path}{role} is not the file that was recorded: its SHA-256 differs. Delete it, make the result anew by "
            f"`snakemake --cores 4 --forcerun {stage.replace('-', '_')} -- {result}`, and report again."
        )


def episode_means(each: Entry) -> dict[int, Any]:
    """Per shot the accuracy of every episode, mean over architectures."""
    path = each.result["artifacts"]["accuracies"]
    return mean_by_episode(episode_table(path, each.result["protocol"]["read_out"]), path)


def ranked(table, means: Sequence[Mapping[int, Any]]) -> list[dict[int, int]]:
    """Per row of the table its rank by shot; only rows of one league are compared."""
    ranks: list[dict[int, int]] = [{} for _ in means]
    for _, rows in leagues(table):
        for k_shot in shots(table.loc[rows[0]]):
            found = shared_ranks(
                {index: float(means[index][k_shot].mean()) for index in rows},
                lambda a, b, k_shot=k_shot: paired_p_value(means[a][k_shot], means[b][k_shot]),
            )
            for index, rank in found.items():
                ranks[index][k_shot] = rank
    return ranks


def paired_p_value(a, b) -> float:
    """Two-sided p of the paired t-test that two methods are equally good on the same episodes.

    Raises ArtifactError when the episodes differ. Differences without any spread give 1 when they are zero, else 0.
    """
    from scipy.special import stdtr

    if not a.index.equals(b.index):
        raise ArtifactError("Two results of one ranking name the same episodes but tested different ones.")
    if len(a) < 2:
        return 1.0
    found = paired_difference(a.to_numpy(), b.to_numpy())
    error = found.ci95 / t_quantile(len(a) - 1)
    if error == 0 or found.tie == len(a):
        return 1.0 if found.tie == len(a) else 0.0
    return float(2 * stdtr(len(a) - 1, -math.fabs(found.mean) / error))
