"""No search: architectures drawn uniformly from a space, as controls of those that are found in it."""

from pipeline.core.rng import torch_stream
from pipeline.strategies.runner import Context, Found


def draw_architectures(space_name: str, n: int, context: Context) -> list[Found]:
    """`n` distinct architectures of a space, the first with seed 0; the run's seed decides which."""
    from pipeline import spaces, strategies

    strategy = strategies.get("random_search")(
        spaces.get(space_name)(),
        generator=torch_stream(context.seed, "random architectures"),
        n_architectures=n,
    )
    return [Found(seed, genotype) for seed, genotype in enumerate(strategy.found())]
