"""Build the database that a meta-learned search learns from: tasks, architectures, and what each reached on them."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipeline import spaces
from pipeline.core import artifacts, provenance
from pipeline.core.artifacts import read_json, sha256
from pipeline.core.checkpoint import Checkpoint
from pipeline.core.config import build
from pipeline.core.device import choose_device, use_threads
from pipeline.core.errors import ArtifactError
from pipeline.core.progress import say, spoken
from pipeline.core.types import KINDS
from pipeline.core.wording import n_of
from pipeline.data.accuracy_tables import read_compact_csv
from pipeline.data.database import COLUMNS, read_rows, triples_digest
from pipeline.data.prepared import PreparedSet
from pipeline.recipes import oracles
from pipeline.recipes.database import Answers, DatabaseConfig, Plan, ask, statistics
from pipeline.recipes.oracles import Bench
from pipeline.stages.common import (
    Frozen,
    add_prepared_arguments,
    checkpoint_path,
    data_standing,
    machine,
    read_params,
)

SPLIT_BY_SEED = "drawn from the data set's classes by the seed, 60 : 20 : 20, since all its splits share them"
SPLIT_OF_SET = "the data set's own base, validation and novel classes"


def add_arguments(parser) -> None:
    add_prepared_arguments(parser)
    parser.add_argument("--table", metavar="FILE", help="accuracies of the space's architectures (oracle: table)")
    parser.add_argument("--table-facts", metavar="FILE", help="where they come from")
    parser.add_argument("--params", required=True, metavar="FILE", help="frozen parameters of the database")
    for name, what in (("tasks", "the tasks"), ("triples", "a row per accuracy, a CSV file"), ("report", "statistics")):
        parser.add_argument(f"--{name}", required=True, metavar="FILE", help=f"where to write {what}")


def run(arguments) -> None:
    frozen, here = read_params(arguments.params), machine()
    config = build(DatabaseConfig, frozen.params["database"], "database")
    oracle = build(oracles.get(config.oracle), frozen.params["oracle"], f"oracle.{config.oracle}")
    prepared = PreparedSet.open(arguments.images, arguments.index, arguments.manifest, verify=True)
    device = choose_device(here.device)
    table = table_files(arguments) if oracle.needs_table else {}
    space = spaces.get(config.space)()
    bench = Bench(space, prepared, frozen.seed, device, **table)
    key = {"params": frozen.digest, "data": prepared.digest, "table": bench.table_facts}
    checkpoint = Checkpoint(checkpoint_path("database", frozen.dataset), key)
    plan = Plan.of(config, space, prepared, frozen.seed)
    answers = ask(plan, oracle, bench, n_workers=use_threads(here.threads), checkpoint=checkpoint)
    rows = rows_of(plan, answers, config, frozen)
    artifacts.write_json(arguments.tasks, tasks_record(plan, prepared, frozen))
    artifacts.write_csv(arguments.triples, pd.DataFrame(rows, columns=COLUMNS))
    digests = {"tasks": sha256(arguments.tasks), "triples": triples_digest(read_rows(arguments.triples))}
    report = report_record(plan, answers, rows, oracle, bench, config, frozen)
    artifacts.write_json(arguments.report, {**report, "digests": {**digests, **report["digests"]}})
    checkpoint.clear()
    took = spoken(answers.wall_seconds)
    say(
        f"{n_of(len(rows), 'accuracy', 'accuracies')} on {n_of(len(plan.tasks), 'task')} in {took} -> "
        f"{arguments.triples}"
    )


def table_files(arguments) -> dict[str, Any]:
    """The table and its facts. Raises ArtifactError when they are not named, or do not belong together."""
    if not arguments.table or not arguments.table_facts:
        raise ArtifactError(
            "database.oracle is table, so --table and --table-facts must name the files of the table stage, e.g. "
            "data/tables/nas_bench_201.csv and .json."
        )
    table, facts = read_compact_csv(arguments.table), read_json(arguments.table_facts)
    if facts.get("table_sha256") != sha256(arguments.table):
        raise ArtifactError(
            f"{arguments.table} is not the file that {arguments.table_facts} describes. Delete both and run the table "
            "stage again."
        )
    return {"table": table, "table_facts": facts}


def rows_of(plan: Plan, answers: Answers, config: DatabaseConfig, frozen: Frozen) -> list[dict[str, Any]]:
    """The rows of triples.csv: every pair that got a number."""
    rows = []
    for number, (task, text) in enumerate(plan.pairs):
        if answers.values[number] is not None:
            rows.append(
                {
                    "task": task.id,
                    "split": task.split,
                    "genotype": text,
                    "accuracy": answers.values[number],
                    "oracle": config.oracle,
                    "seed": plan.question(number, frozen.seed).seed,
                    "seconds": round(answers.seconds[number], 3),
                    "source": frozen.dataset,
                    "space": config.space,
                    "params_digest": frozen.digest,
                }
            )
    return rows


def tasks_record(plan: Plan, prepared: PreparedSet, frozen: Frozen) -> dict[str, Any]:
    """Content of tasks.json."""
    return {
        "source": frozen.dataset,
        "data_digest": prepared.digest,
        "seed": frozen.seed,
        "tasks": [
            {"id": task.id, "split": task.split, "classes": [prepared.class_names[one] for one in task.classes]}
            for task in plan.tasks
        ],
    }


def report_record(
    plan: Plan,
    answers: Answers,
    rows: list[Mapping[str, Any]],
    oracle: Any,
    bench: Bench,
    config: DatabaseConfig,
    frozen: Frozen,
) -> dict[str, Any]:
    """Content of report.json; only `cost` and `provenance` differ between two runs of the same work."""
    prepared, device = bench.prepared, bench.device
    shares = KINDS[prepared.kind].shares_classes
    columns = ([row[name] for row in rows] for name in ("task", "split", "genotype", "accuracy"))
    return {
        "schema_version": 1,
        "source": frozen.dataset,
        "budget": frozen.budget,
        "seed": frozen.seed,
        "space": config.space,
        "oracle": {
            "name": config.oracle,
            "unit": oracle.unit,
            "knows_tasks": oracle.knows_tasks,
            **oracle.facts(bench),
            "knobs": frozen.params["oracle"],
        },
        "splits": {
            "classes": {split: len(of) for split, of in plan.classes.items()},
            "meaning": SPLIT_BY_SEED if shares else SPLIT_OF_SET,
        },
        "sampling": {name: getattr(config, name) for name in ("sampling", "n_architectures", "cells_per_task")},
        "statistics": statistics(*columns, bench.space),
        "failures": [
            {"task": plan.pairs[number][0].id, "genotype": plan.pairs[number][1], "reason": reason}
            for number, reason in answers.reasons.items()
        ],
        "digests": {
            "data": prepared.digest,
            "params": frozen.digest,
        },
        "cost": {
            "wall_seconds": answers.wall_seconds,
            "device_seconds": sum(answers.seconds),
            "seconds_per_triple": sum(answers.seconds) / len(answers.seconds),
        },
        "reproducible": device.type == "cpu",
        "provenance": {**data_standing(prepared.manifest), **provenance.gather(device)},
    }
