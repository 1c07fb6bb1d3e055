"""Score a random sample of a space's architectures by every proxy, on the images that a search may see."""

import pandas as pd

from pipeline.core import artifacts
from pipeline.core.checkpoint import Checkpoint
from pipeline.core.config import build
from pipeline.core.device import choose_device, use_threads
from pipeline.core.progress import say, spoken
from pipeline.core.wording import n_of
from pipeline.data.prepared import PreparedSet
from pipeline.recipes.genotype_scoring import seconds_column
from pipeline.recipes.proxy_scores import ScoreConfig, score_sample
from pipeline.stages.common import add_prepared_arguments, checkpoint_path, machine, read_params
from pipeline.stages.search import cost_record
from pipeline.strategies.runner import Context
from pipeline.strategies.stability import repeat_column


def add_arguments(parser) -> None:
    parser.add_argument("--space", required=True, help="name of a space (python -m pipeline list spaces)")
    add_prepared_arguments(parser)
    parser.add_argument("--params", required=True, metavar="FILE", help="frozen parameters of the scoring")
    parser.add_argument("--scores", required=True, metavar="FILE", help="where to write a row per score, a CSV file")
    parser.add_argument("--cost", required=True, metavar="FILE", help="where to write the cost")


def run(arguments) -> None:
    frozen, here = read_params(arguments.params), machine()
    config = build(ScoreConfig, frozen.params["score"], "score")
    prepared = PreparedSet.open(arguments.images, arguments.index, arguments.manifest, verify=True)
    device = choose_device(here.device)
    key = {"params": frozen.digest, "data": prepared.digest}
    checkpoint = Checkpoint(checkpoint_path("score", arguments.space, frozen.dataset), key)
    context = Context(
        prepared,
        seed=frozen.seed,
        n_cells=config.n_cells,
        device=device,
        n_workers=use_threads(here.threads),
        checkpoint=checkpoint,
    )
    rows = score_sample(config, arguments.space, context)
    context.journal.wall_seconds = context.elapsed()
    artifacts.write_csv(arguments.scores, score_table(rows, config))
    cost = cost_record(context.journal, device) | {"data_digest": prepared.digest, "params_digest": frozen.digest}
    artifacts.write_json(arguments.cost, cost)
    checkpoint.clear()
    say(f"{n_of(len(rows), 'architecture')} of {arguments.space} scored in {spoken(context.journal.wall_seconds)}")


def score_table(rows: list[dict], config: ScoreConfig) -> pd.DataFrame:
    """A row per architecture, proxy and repeat; the seconds are a proxy's mean over its repeats."""
    return pd.DataFrame(
        {
            "genotype": row["genotype"],
            "proxy": name,
            "repeat": repeat,
            "score": row[repeat_column(name, repeat)],
            "seconds": row[seconds_column(name)] / config.repeat,
        }
        for row in rows
        for name in config.proxies
        for repeat in range(config.repeat)
    )
