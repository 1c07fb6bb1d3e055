"""The database's reader: what it gives, and what it refuses."""

import csv
import io
import json

import pytest

from pipeline.core.artifacts import digest, sha256, to_json
from pipeline.core.errors import ArtifactError, ConfigError, UnknownNameError
from pipeline.data.database import COLUMNS, Database, Triple, triples_digest

ACCURACIES = {0: [40.0, 60.0, 50.0, 60.0], 1: [20.0, 10.0], 2: [33.5], 3: [70.25, 80.125, 0.1]}
SPLITS = ["base", "base", "validation", "novel"]
CLASSES = [["a", "b"], ["b", "c"], ["d", "e"], ["f", "g"]]


def rows() -> list[dict]:
    return [
        {
            "task": task, "split": SPLITS[task], "genotype": f"cell {i}", "accuracy": accuracy, "oracle": "train",
            "seed": 7 * task + i, "seconds": 0.5, "source": "tiny", "space": "made", "params_digest": "f" * 64,
        }
        for task, of_task in ACCURACIES.items()
        for i, accuracy in enumerate(of_task)
    ]  # fmt: skip


def text_of(table: list[dict], columns=COLUMNS) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def write(folder, table=None, tasks=None, columns=COLUMNS) -> dict:
    """The three files; digests in the report are those of what is written."""
    folder.mkdir(exist_ok=True)
    table = rows() if table is None else table
    if tasks is None:
        tasks = [{"id": i, "split": SPLITS[i], "classes": of} for i, of in enumerate(CLASSES)]
    paths = {
        name: folder / f"{name}.{end}" for name, end in (("tasks", "json"), ("triples", "csv"), ("report", "json"))
    }
    paths["tasks"].write_text(to_json({"source": "tiny", "tasks": tasks}))
    paths["triples"].write_text(text_of(table, columns))
    paths["report"].write_text(
        to_json({"digests": {"tasks": sha256(paths["tasks"]), "triples": triples_digest(table)}, "oracle": {}})
    )
    return paths


def test_the_triples_of_a_split_come_back_exactly(tmp_path):
    database = Database.open(**write(tmp_path))
    expected = [Triple(row["task"], row["genotype"], row["accuracy"]) for row in rows()]
    for split in ("base", "validation", "novel"):
        assert database.triples(split) == [one for one in expected if SPLITS[one.task] == split]
    assert [task.id for task in database.tasks] == [0, 1, 2, 3]
    assert database.tasks[3].classes == ("f", "g") and database.tasks[3].split == "novel"


def test_accuracies_keep_every_digit(tmp_path):
    table = rows()
    table[0]["accuracy"] = 100 * (13 / 30)
    assert Database.open(**write(tmp_path, table)).triples("base")[0].accuracy == 100 * (13 / 30)


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [
        (0.25, [(0, "cell 1"), (1, "cell 0")]),
        (0.01, [(0, "cell 1"), (1, "cell 0")]),
        (0.5, [(0, "cell 1"), (0, "cell 3"), (1, "cell 0")]),
        (1.0, [(0, "cell 1"), (0, "cell 3"), (0, "cell 2"), (0, "cell 0"), (1, "cell 0"), (1, "cell 1")]),
    ],
)
def test_the_best_share_of_each_task_has_at_least_one_and_comes_best_first(tmp_path, fraction, expected):
    best = Database.open(**write(tmp_path)).best("base", fraction)
    assert [(one.task, one.genotype) for one in best] == expected


@pytest.mark.parametrize("fraction", [0, -0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(tmp_path, fraction):
    with pytest.raises(ConfigError, match=r"must be in \(0, 1\]"):
        Database.open(**write(tmp_path)).best("base", fraction)


def test_an_unknown_split_is_refused_with_the_known_ones(tmp_path):
    database = Database.open(**write(tmp_path))
    with pytest.raises(UnknownNameError, match="Did you mean 'validation'"):
        database.triples("validations")


def test_the_digest_counts_accuracies_and_not_the_time_they_took(tmp_path):
    one = Database.open(**write(tmp_path))
    slower, better = rows(), rows()
    slower[0]["seconds"], better[0]["accuracy"] = 99.0, 41.0
    assert Database.open(**write(tmp_path / "slower", slower)).digest == one.digest
    assert Database.open(**write(tmp_path / "better", better)).digest != one.digest


def test_a_changed_table_is_refused(tmp_path):
    paths = write(tmp_path)
    paths["triples"].write_text(paths["triples"].read_text().replace("33.5", "93.5"))
    with pytest.raises(ArtifactError, match=r"triples\.csv is not the file that .*report\.json describes"):
        Database.open(**paths)


def test_changed_seconds_are_not_refused(tmp_path):
    paths = write(tmp_path)
    paths["triples"].write_text(paths["triples"].read_text().replace(",0.5,", ",0.75,"))
    assert len(Database.open(**paths).triples("base")) == 6


def test_tasks_of_another_run_are_refused(tmp_path):
    paths = write(tmp_path)
    content = json.loads(paths["tasks"].read_text())
    content["tasks"][0]["classes"] = ["a", "c"]
    paths["tasks"].write_text(to_json(content))
    with pytest.raises(ArtifactError, match=r"tasks\.json is not the file that .*report\.json describes"):
        Database.open(**paths)


def changed(place: int, **fields):
    table = rows()
    table[place] |= fields
    return table


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (changed(2, accuracy="nan"), "line 4: the accuracy is nan"),
        (changed(2, accuracy="high"), "line 4: task or accuracy is no number"),
        (changed(2, task=9), "line 4: there is no base task 9"),
        (changed(2, task=-1), "line 4: there is no base task -1"),
        (changed(2, split="novel"), "line 4: there is no novel task 0"),
        (changed(2, genotype="cell 0"), "cell 0 on task 0 more than once"),
    ],
)
def test_rows_that_cannot_be_are_refused_with_their_place(tmp_path, table, said):
    with pytest.raises(ArtifactError, match=said):
        Database.open(**write(tmp_path, table))


def test_a_cut_line_is_refused(tmp_path):
    paths = write(tmp_path)
    paths["triples"].write_text(paths["triples"].read_text()[:-80])
    with pytest.raises(ArtifactError, match="row 11 is cut"):
        Database.open(**paths)


def test_a_table_with_other_columns_is_refused(tmp_path):
    paths = write(tmp_path, columns=[name for name in COLUMNS if name != "seed"])
    with pytest.raises(ArtifactError, match="no table of triples: its columns are .* instead of task, split, genotype"):
        Database.open(**paths)


def test_a_class_in_two_splits_is_refused(tmp_path):
    tasks = [{"id": i, "split": SPLITS[i], "classes": of} for i, of in enumerate([*CLASSES[:3], ["a", "g"]])]
    with pytest.raises(ArtifactError, match=r"Class 'a' .*several splits \(base, novel\)"):
        Database.open(**write(tmp_path, tasks=tasks))


@pytest.mark.parametrize("name", ["tasks", "triples", "report"])
def test_a_missing_file_says_what_makes_it(tmp_path, name):
    paths = write(tmp_path)
    paths[name].unlink()
    with pytest.raises(ArtifactError, match=rf"{name}\.(csv|json) is missing. Run the .*stage"):
        Database.open(**paths)


def test_a_report_of_something_else_is_refused(tmp_path):
    paths = write(tmp_path)
    paths["report"].write_text("{}")
    with pytest.raises(ArtifactError, match="no report of a database"):
        Database.open(**paths)


def test_tasks_out_of_order_are_refused(tmp_path):
    tasks = [{"id": 5, "split": "base", "classes": ["a"]}]
    with pytest.raises(ArtifactError, match="not numbered from 0"):
        Database.open(**write(tmp_path, [], tasks))


def test_the_digest_of_rows_is_that_of_their_text():
    names = [name for name in COLUMNS if name != "seconds"]
    assert triples_digest(rows()) == digest([[str(row[name]) for name in names] for row in rows()])
