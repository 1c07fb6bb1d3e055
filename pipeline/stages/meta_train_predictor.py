"""Meta-train the network that rates architectures for a data set, on the database of a source."""

from collections.abc import Mapping
from typing import Any

from pipeline.core.progress import say, spoken
from pipeline.core.wording import fixed, n_of
from pipeline.meta_networks import Normalisation
from pipeline.meta_networks.normalisation import PARITY_SCALE
from pipeline.recipes.held_out import judge_predictor
from pipeline.recipes.learned import fresh
from pipeline.recipes.meta_settings import PredictorTraining
from pipeline.recipes.meta_training import train_predictor
from pipeline.stages import meta_trained
from pipeline.stages.meta_trained import Job

add_arguments = meta_trained.add_arguments


def run(arguments) -> None:
    job = Job.read("predictor", PredictorTraining, arguments)
    config = job.config
    examples = job.examples(job.database.triples)
    normalisation = Normalisation.of(examples["base"].accuracy.tolist(), PARITY_SCALE if config.small_targets else 1.0)
    size = job.size(config.predictor_hs, config.predictor_nz)
    network, meter = fresh("predictor", size, job.space, job.seed).to(job.device), job.meter()
    trained = train_predictor(
        network,
        examples["base"],
        examples["validation"],
        normalisation,
        config,
        seed=job.seed,
        device=job.device,
        **job.progress(meter),
    )
    cost = meter.so_far()
    held_out = None
    if "novel" in examples:
        known = examples["base"].genotypes
        held_out = judge_predictor(
            network,
            examples["novel"],
            known,
            config,
            knows_tasks=job.database.report["oracle"]["knows_tasks"],
            seed=job.seed,
            device=job.device,
        )
    facts = job.write(
        arguments,
        network,
        size,
        trained,
        cost,
        normalisation={name: getattr(normalisation, name) for name in ("mean", "std", "scale")},
        n_pairs={split: len(of_split) for split, of_split in examples.items()},
        held_out=held_out,
    )
    job.checkpoint.clear()
    say(f"{summary(facts)} -> {arguments.weights}")


def summary(facts: Mapping[str, Any]) -> str:
    """One line for the log."""
    held_out, took = facts["held_out"], spoken(facts["cost"]["wall_seconds"])
    if held_out is None or held_out["within_tasks"]["spearman"] is None:
        return f"predictor of {facts['source']}, epoch {facts['training']['best_epoch']}, in {took}"
    within = held_out["within_tasks"]["spearman"]
    half = "" if within["ci95"] is None else f" ± {within['ci95']:.2f}"
    return (
        f"predictor of {facts['source']}, epoch {facts['training']['best_epoch']}, in {took}: ranks the architectures "
        f"of {n_of(within['n'], 'held-out task')} with Spearman's correlation {fixed(within['mean'])}{half} (random: 0)"
    )
