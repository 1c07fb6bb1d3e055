"""Draw and store the test episodes of the novel classes, on which every method is tested."""

from pipeline.core.config import build
from pipeline.core.progress import say
from pipeline.core.wording import n_of
from pipeline.data.prepared import PreparedSet, require_few_shot
from pipeline.episodes import files
from pipeline.episodes.sampler import EpisodeSampler
from pipeline.episodes.settings import EpisodesConfig
from pipeline.stages.common import add_prepared_arguments, read_params

SPLIT = "novel"


def add_arguments(parser) -> None:
    add_prepared_arguments(parser)
    parser.add_argument("--params", required=True, metavar="FILE", help="frozen parameters (build/params)")
    parser.add_argument("--out", required=True, metavar="FILE", help="the table of episodes to write (.csv)")


def run(arguments) -> None:
    frozen = read_params(arguments.params)
    config = build(EpisodesConfig, frozen.params["episodes"], "episodes")
    prepared = PreparedSet.open(arguments.images, arguments.index, arguments.manifest, verify=True)
    require_few_shot(prepared, "Drawing test episodes")
    episodes = {}
    for k_shot in config.k_shots:
        sampler = EpisodeSampler(
            prepared,
            SPLIT,
            n_way=config.n_way,
            k_shot=k_shot,
            n_query=config.n_query,
            seed=frozen.seed,
            purpose="test",
        )
        episodes[k_shot] = [sampler.episode(index) for index in range(config.n_episodes)]
    files.write(arguments.out, episodes)
    shots = " and ".join(map(str, config.k_shots))
    say(
        f"{prepared.name}: {n_of(config.n_episodes, 'episode')} each of {config.n_way}-way {shots}-shot -> "
        f"{arguments.out}"
    )
