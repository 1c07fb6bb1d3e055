"""The control of a guided search: architectures drawn at random, as many as its budget pays for, judged alike.

A search that draws, measures and keeps the best may owe its success to the measuring alone. The control measures the
same indicators on the same networks and images, and differs in how architectures are proposed.
"""

from collections.abc import Callable, Sequence
from typing import Any

from pipeline.core.rng import stream_seed, torch_stream
from pipeline.recipes.genotype_scoring import evaluator_of, indicators_of
from pipeline.strategies.runner import Context, Evaluator, run

CONTROL = "control"


def random_control(scorers: Sequence[Any], space: Any, context: Context, seed: int, n_evaluations: int) -> None:
    """Search at random with the budget of a finished search; what it finds goes to the journal's `controls`.

    Args:
        scorers: what measures, a scorer per repeat.
        seed: of the search that it is the control of.
        n_evaluations: networks that search measured, counted once per indicator; the control measures no more.

    Its time and evaluations are kept apart from the search's.
    """
    from pipeline import strategies

    used = scorers[0].proxies
    n_architectures = max(1, n_evaluations // (len(scorers) * len(used)))

    def strategy():
        return strategies.get("random_search")(
            space,
            indicators_of(used),
            torch_stream(stream_seed(context.seed, "search", seed), "equal budget"),
            n_architectures=min(n_architectures, space.n_genotypes or n_architectures),
        )

    run_control(strategy, lambda: evaluator_of(scorers, space, context, seed, event=CONTROL), space, context, seed)


def run_control(
    strategy_of: Callable[[], Any], evaluator_of: Callable[[], Evaluator], space: Any, context: Context, seed: int
) -> None:
    """Run a control to its end, unless the journal has it; what it finds and costs goes to the journal's `controls`.

    Args:
        strategy_of, evaluator_of: make what proposes and what measures.
        seed: of the search that it is the control of.
    """
    journal = context.journal
    if "genotype" in journal.controls.get(seed, {}):
        return
    if seed not in journal.controls:
        journal.controls[seed] = {"before": _spent(context)}
    strategy = strategy_of()
    run(strategy, evaluator_of(), context, f"random control with seed {seed}")
    before, after = journal.controls[seed]["before"], _spent(context)
    journal.controls[seed] = {
        "genotype": space.to_text(strategy.found()[0]),
        "n_architectures": len(strategy.found()),
        **{name: after[name] - before[name] for name in after},
    }
    context.save()


def _spent(context: Context) -> dict[str, float]:
    journal = context.journal
    return {
        "wall_seconds": context.elapsed(),
        "device_seconds": journal.device_seconds,
        "network_evaluations": journal.network_evaluations,
    }
