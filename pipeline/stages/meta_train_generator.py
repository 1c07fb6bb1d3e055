"""Meta-train the network that draws architectures for a data set, on the database of a source."""

from collections.abc import Mapping
from typing import Any

from pipeline.core.checkpoint import Checkpoint
from pipeline.core.config import build
from pipeline.core.progress import say, spoken
from pipeline.core.rng import numpy_stream
from pipeline.core.wording import fixed, n_of
from pipeline.evaluation.cost import Meter
from pipeline.recipes import oracles
from pipeline.recipes.database import Plan, ask, draw_architectures
from pipeline.recipes.held_out import compare_with_uniform, judge_generator, plan_of, proposals_for
from pipeline.recipes.learned import fresh
from pipeline.recipes.meta_settings import GeneratorTraining
from pipeline.recipes.meta_training import Examples, train_generator
from pipeline.recipes.oracles import Bench
from pipeline.recipes.proposing import texts_of
from pipeline.stages import meta_trained
from pipeline.stages.common import checkpoint_path
from pipeline.stages.database import table_files
from pipeline.stages.meta_trained import Job

GENERATED, UNIFORM = "generated", "uniform"


def add_arguments(parser) -> None:
    meta_trained.add_arguments(parser)
    parser.add_argument("--table", metavar="FILE", help="accuracies of the space's architectures (oracle: table)")
    parser.add_argument("--table-facts", metavar="FILE", help="where they come from")


def run(arguments) -> None:
    job = Job.read("generator", GeneratorTraining, arguments)
    config = job.config
    examples = job.examples(lambda split: job.database.best(split, config.best_fraction))
    size = job.size(config.generator_hs, config.generator_nz)
    network, meter = fresh("generator", size, job.space, job.seed).to(job.device), job.meter()
    trained = train_generator(
        network,
        examples["base"],
        examples["validation"],
        config,
        seed=job.seed,
        device=job.device,
        **job.progress(meter),
    )
    cost, held_out = meter.so_far(), None
    if "novel" in examples:
        held_out = judged(job, network, examples["base"], examples["novel"], arguments)
    facts = job.write(
        arguments,
        network,
        size,
        trained,
        cost,
        n_pairs={split: len(of_split) for split, of_split in examples.items()},
        held_out=held_out,
    )
    for checkpoint in (job.checkpoint, *(answers_of(job, what, None) for what in (GENERATED, UNIFORM))):
        checkpoint.clear()
    say(f"{summary(facts)} -> {arguments.weights}")


def judged(job: Job, network: Any, base: Examples, held_out: Examples, arguments) -> dict[str, Any]:
    """Figures on held-out tasks; what the drawn architectures are worth is the database's oracle's word."""
    config, space = job.config, job.space
    n_of_task = -(-config.n_graphs // len(held_out.classes))
    common = {"seed": job.seed, "device": job.device}
    proposals = proposals_for(network, held_out, space, config, n_of_task, **common)
    known = job.database.genotypes
    found = judge_generator(network, base, held_out, proposals, space, known, config, **common)
    wanted = config.cells_per_held_out_task
    # what a search would rate, and what uniform ones are set against
    firsts = [list(dict.fromkeys(texts_of(space, of_task, connected=True)))[:wanted] for of_task in proposals]
    found["generated_vs_uniform"] = asked(job, held_out, firsts, arguments) if any(firsts) else None
    return found


def asked(job: Job, held_out: Examples, texts: list[list[str]], arguments) -> dict[str, Any]:
    """The oracle's answers to drawn architectures of held-out tasks, beside those to architectures drawn uniformly.

    The database's own held-out architectures are the uniform ones, unless they were drawn otherwise; where they are
    fewer than those that the generator drew, others are drawn too.
    """
    name, knobs = (job.database.report["oracle"][key] for key in ("name", "knobs"))
    oracle = build(oracles.get(name), knobs, f"oracle.{name}")
    table = table_files(arguments) if oracle.needs_table else {}
    seed = job.database.report["seed"]
    bench = Bench(job.space, job.prepared, seed, job.device, **table)
    plan = plan_of(held_out, texts, {}, "novel")
    meter = Meter(job.device)
    answers = put(job, plan, oracle, bench, GENERATED)
    uniform: dict[int, list[float]] = {}
    if job.database.report["sampling"]["sampling"] == UNIFORM:
        for triple in job.database.triples("novel"):
            uniform.setdefault(triple.task, []).append(triple.accuracy)
    missing = {
        number: max(0, len(of_task) - len(uniform.get(number, ())))
        for number, of_task in zip(held_out.names, texts, strict=True)
    }
    if any(missing.values()):
        drawn = [
            draw_architectures(job.space, n, UNIFORM, numpy_stream(job.seed, "uniform cells", number))
            for number, n in missing.items()
        ]
        others = plan_of(held_out, drawn, {}, "novel")
        for (task, _), value in zip(others.pairs, put(job, others, oracle, bench, UNIFORM), strict=True):
            if value is not None:
                uniform.setdefault(task.id, []).append(value)
    found = compare_with_uniform(plan, answers, uniform, oracle.knows_tasks)
    return {
        "measured": f"by the database's oracle: {job.database.report['oracle']['meaning']}",
        "unit": oracle.unit,
        **found,
        "wall_seconds": meter.so_far()["wall_seconds"],
    }


def put(job: Job, plan: Plan, oracle: Any, bench: Bench, what: str) -> list[float | None]:
    """The oracle's answers to a plan, from where an earlier run stopped."""
    checkpoint = answers_of(job, what, [[task.id, text] for task, text in plan.pairs])
    return ask(plan, oracle, bench, n_workers=job.n_workers, checkpoint=checkpoint).values


def answers_of(job: Job, what: str, pairs: list | None) -> Checkpoint:
    """Where an oracle's answers are kept until all is written."""
    key = {"training": job.checkpoint.key, "pairs": pairs}
    return Checkpoint(checkpoint_path(job.frozen.stage, job.frozen.dataset, what), key)


def summary(facts: Mapping[str, Any]) -> str:
    """One line for the log."""
    held_out, took = facts["held_out"], spoken(facts["cost"]["wall_seconds"])
    told = f"generator of {facts['source']}, epoch {facts['training']['best_epoch']}, in {took}"
    if held_out is None:
        return told
    told += f": {100 * held_out['drawn']['validity']:.1f} % of {n_of(held_out['drawn']['n'], 'graph')} valid"
    beside = held_out["generated_vs_uniform"]
    if beside is None or beside["difference"] is None:
        return told
    difference = beside["difference"]
    half = "" if difference["ci95"] is None else f" ± {difference['ci95']:.2f}"
    where = f"drawn architectures less uniform ones on {n_of(difference['n'], 'held-out task')}"
    return f"{told}; {where}: {fixed(difference['mean'], signed=True)}{half}"
