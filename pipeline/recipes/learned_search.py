"""Search with meta-trained networks: a generator proposes architectures for a data set, a predictor ranks them.

Lee, Hyung, Hwang: "Rapid Neural Architecture Search by Learning to Generate Graphs from Datasets" (MetaD2A), ICLR 2021,
section 3.4. Both networks see features of images that a search may read, and nothing is trained.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from pipeline.core.errors import CapabilityError
from pipeline.core.progress import say
from pipeline.core.rng import stream_seed, torch_stream
from pipeline.data.features import FeatureSet, draw
from pipeline.evaluation.cost import Meter
from pipeline.meta_networks import Normalisation, Predictor
from pipeline.recipes.equal_budget import CONTROL, run_control
from pipeline.recipes.genotype_scoring import EVALUATED
from pipeline.recipes.learned_account import PREDICTION, Given, account_of, amortised, seconds
from pipeline.recipes.learned_settings import LearnedSearchConfig
from pipeline.recipes.measuring import knobs_against_noise
from pipeline.recipes.meta_training import rated
from pipeline.recipes.proposing import Proposer, encoded
from pipeline.strategies.indicators import Measured, mean
from pipeline.strategies.runner import Context, Found, run
from pipeline.strategies.stability import repeat_column, summarise_genotypes

UNJUDGED = {
    "verdict": {},
    "warning": None,
    "meaning": "Repeats are new drawings of images under one predictor, so their agreement says how much the images "
    "matter, not whether the predictor is right: that stands under held_out.",
}
"""What the agreement of predictions is, in the place of a verdict on the search."""


class Drawings:
    """Calls give random drawings of the images that a search may read.

    Args:
        wanted: images per class; a class that has fewer lowers it for all.

    Attributes:
        n_images: images per class.
    """

    def __init__(self, features: FeatureSet, wanted: int, generator: torch.Generator):
        self.features, self.generator = features, generator
        prepared = features.prepared
        self.classes = prepared.classes_of(prepared.search_split).tolist()
        self.n_images = min(wanted, *(len(features.rows_of(class_id)) for class_id in self.classes))

    def __call__(self, n: int) -> Tensor:
        """Shape (n n_classes n_images dim)."""
        return torch.stack([draw(self.features, self.classes, self.n_images, self.generator) for _ in range(n)])


class PredictionEvaluator:
    """Rates all architectures of a question at once, by the predictor on the same few drawings of the data set.

    Args:
        predictor: on the device that computes.
        datasets: what it reads in the drawings, shape (r nz); a drawing is a repeat.
        event: what the trace calls a rated architecture.
    """

    def __init__(
        self,
        predictor: Predictor,
        datasets: Tensor,
        normalisation: Normalisation,
        space: Any,
        seed: int,
        event: str = EVALUATED,
    ):
        self.predictor, self.datasets, self.normalisation = predictor, datasets, normalisation
        self.space, self.seed, self.event = space, seed, event
        self._asked: list[str] = []

    def n_jobs(self, n_candidates: int) -> int:
        return 1

    def jobs(self, strategy) -> list[int]:
        self._asked = [self.space.to_text(genotype) for genotype in strategy.ask()]
        return [0]

    def run(self, strategy, jobs: list[int]) -> Iterator[tuple[int, dict]]:
        for job in jobs:
            meter = Meter(self.datasets.device)
            types = torch.stack([self.space.to_types(self.space.from_text(text)) for text in self._asked])
            with torch.no_grad():
                graphs = self.predictor.encode_graphs(types.to(self.datasets.device))
            values = self.normalisation.to_accuracy(rated(self.predictor, self.datasets, graphs)).T.tolist()
            cost = meter.so_far()
            yield (
                job,
                {
                    "values": values,
                    "seconds": cost["device_seconds"],
                    "wall_seconds": cost["wall_seconds"],
                    "n_evaluations": 0,
                    "peak_mib": cost["peak_memory_mib"],
                },
            )

    def measured(self, strategy, results: Mapping[int, dict]) -> dict[str, Measured]:
        return {PREDICTION.name: Measured(results[0]["values"])}

    def rows(self, number: int, results: Mapping[int, dict], verdicts: list[int]) -> list[dict[str, Any]]:
        """A line per architecture, in the order proposed; its `rank` is 0 for the one predicted best."""
        each = results[0]["wall_seconds"] / len(self._asked)
        return [
            {
                "seed": self.seed,
                "round": number,
                "event": self.event,
                "cell": None,
                "edge": None,
                "operation": None,
                "genotype": text,
                PREDICTION.name: mean(values),
                "rank": rank,
                "seconds": round(each, 6),
                **{repeat_column(PREDICTION.name, place): value for place, value in enumerate(values)},
            }
            for text, values, rank in zip(self._asked, results[0]["values"], verdicts, strict=True)
        ]


def search_learned(config: LearnedSearchConfig, context: Context) -> list[Found]:
    """One architecture per seed of the configuration, the one predicted best among those that the generator proposed.

    Raises CapabilityError when the space does not encode architectures as graphs, or not enough different ones are
    proposed; ArtifactError when what was learned does not belong together.
    """
    from pipeline import spaces, strategies

    space = spaces.get(config.space)()
    if "encodes" not in space.capabilities:
        raise CapabilityError(
            f"This search needs a space that encodes its architectures as graphs; '{config.space}' does not. Set "
            "search.metad2a.space to nas_bench_201."
        )
    given, journal = Given.of(context, space), context.journal
    predictor = given.predictor.network
    journal.account |= account_of(config, given)
    journal.ledger |= {"features": seconds(given.features.facts["cost"]), "amortised": amortised(given)}
    known = given.database.genotypes
    strategy_of = strategies.get("generate_and_rank")
    for seed in config.seeds:
        if seed in journal.found and (not config.control or "genotype" in journal.controls.get(seed, {})):
            continue
        search_seed = stream_seed(context.seed, "search", seed)
        meter = Meter(context.device)
        rating = Drawings(
            given.features, given.predictor.facts["n_images"], torch_stream(search_seed, "rating drawings")
        )
        datasets = encoded(predictor, rating, config.n_resamplings, context.device)
        reading = meter.so_far()

        def evaluator(event: str, datasets: Tensor = datasets, seed: int = seed) -> PredictionEvaluator:
            return PredictionEvaluator(predictor, datasets, given.predictor.normalisation, space, seed, event)

        if seed not in journal.found:
            meter = Meter(context.device)
            drawings = Drawings(
                given.features, given.generator.facts["n_images"], torch_stream(search_seed, "proposal drawings")
            )
            strategy = strategy_of(
                space,
                [PREDICTION],
                torch_stream(search_seed, "proposals"),
                n_candidates=config.n_candidates,
                n_at_once=config.drawings_at_once,
                propose=Proposer(given.generator.network, space, drawings, context.device),
            )
            proposing = meter.so_far()
            before = journal.device_seconds
            run(strategy, evaluator(EVALUATED), context, f"search with seed {seed}")
            best_first = [space.to_text(genotype) for genotype in strategy.found()]
            journal.found[seed] = best_first[0]
            # with the seconds of encoding the drawings
            rating_seconds = journal.device_seconds - before + reading["device_seconds"]
            journal.device_seconds += proposing["device_seconds"] + reading["device_seconds"]
            spend(journal.ledger, "generator_seconds", proposing["device_seconds"])
            spend(journal.ledger, "predictor_seconds", rating_seconds)
            journal.account.setdefault("candidates", []).append(
                candidates_of(seed, strategy, best_first, known, drawings.n_images, rating.n_images)
            )
            context.save()
        if config.control:
            run_control(
                lambda search_seed=search_seed: strategy_of(
                    space, [PREDICTION], torch_stream(search_seed, "equal budget"), n_candidates=config.n_candidates
                ),
                lambda evaluator=evaluator: evaluator(CONTROL),
                space,
                context,
                seed,
            )
    candidates = [row for row in journal.rows if row["event"] == EVALUATED]
    knobs = knobs_against_noise(config, context)
    journal.stability = summarise_genotypes(candidates, [PREDICTION], config.n_resamplings, knobs) | UNJUDGED
    for warning in journal.account["warnings"]:
        say(f"warning: {warning}")
    return [Found(seed, space.from_text(journal.found[seed])) for seed in config.seeds]


def spend(ledger: dict[str, Any], name: str, seconds: float) -> None:
    ledger[name] = ledger.get(name, 0.0) + seconds


def candidates_of(
    seed: int, strategy: Any, texts: list[str], known: set[str], n_images: int, n_images_rated: int
) -> dict[str, Any]:
    """What was proposed with one seed: how many were valid, connected, different and new."""
    return {
        "seed": seed,
        "n": len(texts),
        "n_proposed": strategy.n_proposed,
        "n_valid": strategy.n_valid,
        "n_connected": strategy.n_connected,
        "validity": strategy.n_valid / strategy.n_proposed,
        "connected": strategy.n_connected / strategy.n_valid,
        "uniqueness": len(texts) / strategy.n_connected,
        "novelty": sum(text not in known for text in texts) / len(texts),
        "images_per_class": {"generator": n_images, "predictor": n_images_rated},
    }
