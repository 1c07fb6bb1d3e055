"""Tell what a target would cost before anything runs: its jobs, their seconds, the critical path, the hours in all.

The jobs are those that `snakemake -n` plans, so finished ones count nothing. Their seconds come from a small cost model
(docs/scale.md) whose coefficients were measured on one core by benchmarks/costs.py. A meta-learning job tells again,
better, when it runs: it measures itself first.
"""

import pathlib
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline import methods
from pipeline.core.artifacts import read_json
from pipeline.core.config import build
from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.progress import spoken
from pipeline.core.wording import n_of
from pipeline.data.fetching import folder_files
from pipeline.evaluation.schedule import critical_path, end, tails
from pipeline.evaluation.work import OF_IMAGES, Costs, Images, seconds, work
from pipeline.stages.common import FROZEN
from pipeline.stages.site import site

COSTS = pathlib.Path("benchmarks/figures/costs_cpu.json")
COMMAND = re.compile(r"^Shell command: python -m pipeline (.*?)(?: 2>&1 \| tee .*)?$", re.MULTILINE)
SETTING = re.compile(r"\w+=")
FROM_OTHERS = "Input files updated by another job: "
# images to train on and others, by class and data set, and the side, of data sets that are not prepared yet
# (docs/datasets/README.md)
CLASSES = {
    "doublemnist": (64, 36), "miniimagenet": (64, 36), "tieredimagenet": (351, 257), "cifarfs": (64, 36),
    "fc100": (60, 40), "omniglot": (1028, 595), "imagenet32": (600, 400), "cifar10": (10, 10), "cifar100": (100, 100),
    "imagenet16": (120, 120), "imagenet": (1000, 1000), "mnist": (10, 10), "svhn": (10, 10), "aircraft": (30, 30),
    "pets": (37, 37),
}  # fmt: skip
PER_CLASS = {
    "doublemnist": (100, 100), "miniimagenet": (600, 600), "tieredimagenet": (1280, 1280), "cifarfs": (600, 600),
    "fc100": (600, 600), "omniglot": (20, 20), "imagenet32": (1280, 1280), "cifar10": (5000, 1000),
    "cifar100": (500, 100), "imagenet16": (1264, 50), "imagenet": (1281, 50), "mnist": (6000, 1000),
    "svhn": (7326, 2603), "aircraft": (222, 111), "pets": (170, 30),
}  # fmt: skip
SIDES = {
    "doublemnist": 32, "cifarfs": 32, "fc100": 32, "omniglot": 28, "imagenet32": 32, "cifar10": 32, "cifar100": 32,
    "imagenet16": 16, "mnist": 32, "svhn": 32, "imagenet": 224, "aircraft": 224, "pets": 224,
}  # fmt: skip
LARGEST_SIDE = 84
# of a folder's images, what is trained on: few-shot classes are split 64 to 16 to 20
TRAIN_SHARE = 0.64


@dataclass(frozen=True)
class Planned:
    """One job of a plan.

    Attributes:
        name: of its parameter file, e.g. train_metantk_doublemnist.
        files: paths in its command.
        awaited: those of them that other jobs of the plan make.
        after: names of those jobs.
    """

    name: str
    files: frozenset[str]
    awaited: frozenset[str]
    after: set[str] = field(default_factory=set)


def planned(printed: str) -> dict[str, Planned]:
    """The jobs in what `snakemake -n --printshellcmds` printed, by name, each with the jobs that it waits for.

    A file that a job reads and does not make stands behind `FROM_OTHERS` in its paragraph; of the jobs whose command
    names a file, the one that does not wait for it makes it.
    """
    jobs: dict[str, Planned] = {}
    for paragraph in printed.split("\n\n"):
        command = COMMAND.search(paragraph)
        named = command and re.search(rf"--params {FROZEN}/(\S+)\.json", command[1])
        if not named:
            continue
        told = re.search(rf"{FROM_OTHERS}(.*)$", paragraph, re.MULTILINE)
        awaited = frozenset(told[1].split("; ")[0].split(", ")) if told else frozenset()
        jobs[named[1]] = Planned(named[1], frozenset(shlex.split(command[1])), awaited)
    makers = {file: job.name for job in jobs.values() for file in job.files - job.awaited}
    for job in jobs.values():
        job.after.update(makers[file] for file in job.awaited if file in makers)
    return jobs


def plan(targets: Iterable[str], settings: Iterable[str]) -> dict[str, Planned]:
    """What Snakemake would do for the targets; of the grid without any.

    Args:
        settings: KEY=VALUE, laid over params.yaml as by Snakemake's --config.

    Raises PipelineError with what Snakemake says, ConfigError for what it would take for an option.
    """
    targets, settings = list(targets), list(settings)
    for text in settings:
        if not SETTING.match(text):
            raise ConfigError(f"--config is {text!r}, but it must be KEY=VALUE, as in --config budget=gpu.")
    if not all(targets):
        raise ConfigError("A target is empty. Name files, such as results/metantk_doublemnist.json.")
    config = ["--config", *settings] if settings else []
    command = [sys.executable, "-m", "snakemake", "-n", "--printshellcmds", "--cores", "1", "--nocolor", *config, "--"]
    done = subprocess.run(
        [*command, *targets], text=True, errors="backslashreplace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        told = [line for line in done.stdout.splitlines() if line.strip()]
        raise PipelineError("Snakemake cannot plan this:\n" + "\n".join(told[-8:]))
    return planned(done.stdout)


def read_costs(path: pathlib.Path) -> Costs:
    """The measured coefficients. Raises ArtifactError or ConfigError when the file is missing or another one."""
    raw = read_json(path)
    try:
        return Costs(raw["start"], raw["channels_exponent"], raw["coefficients"], raw["spaces"])
    except (KeyError, TypeError):
        raise ConfigError(
            f"{path} holds no coefficients of costs. Make it with `python benchmarks/costs.py`."
        ) from None


def frozen_params(name: str) -> dict[str, Any]:
    """The parameters of a frozen file of that name, or none where there is no such job."""
    path = FROZEN / f"{name}.json"
    return read_json(path)["params"] if path.exists() else {}


def images_of(dataset: str) -> Images | None:
    """The size of a data set: as it was prepared, or as it will be by what is known of it beforehand; None where
    nothing is known."""
    manifest = pathlib.Path(f"data/prepared/{dataset}.manifest.json")
    prepare = frozen_params(f"prepare_{dataset}").get("prepare", {})
    expected = counts_of(dataset, prepare.get("max_images_per_class"))
    if manifest.exists():
        facts = read_json(manifest)
        share = expected[0] / max(1, sum(expected)) if expected else TRAIN_SHARE
        n_train = round(share * facts["n_images"])
        return Images(n_train, facts["n_images"] - n_train, facts["image_size"])
    if expected is None:
        return None
    return Images(*expected, min(SIDES.get(dataset, LARGEST_SIDE), prepare.get("max_image_size", LARGEST_SIDE)))


def counts_of(dataset: str, most: int | None) -> tuple[int, int] | None:
    """Images to train on and others, of a data set that is known or a folder that is there."""
    if dataset in CLASSES:
        both = zip(CLASSES[dataset], PER_CLASS[dataset], strict=True)
        n_train, n_rest = (n_classes * min(per_class, most or per_class) for n_classes, per_class in both)
        return n_train, n_rest
    folder = frozen_params(f"fetch_{dataset}").get("folder", {}).get("path")
    if not folder or not (path := pathlib.Path(folder).expanduser()).is_dir():
        return None
    n_files = sum(1 for _ in folder_files(path))
    return round(TRAIN_SHARE * n_files), n_files - round(TRAIN_SHARE * n_files)


def space_of(method: str, search: Mapping[str, Any]) -> str:
    """The space whose networks a method finds, under these knobs of its search."""
    entry = methods.get(method)
    return entry.space(build(entry.Config, search))


class Estimator:
    """Seconds of jobs, each file read once."""

    def __init__(self, costs: Costs):
        self.costs = costs
        self._images: dict[str, Images | None] = {}

    def inputs_of(self, name: str) -> tuple:
        """The arguments of `work` but the costs, of the job with this parameter file."""
        frozen = read_json(FROZEN / f"{name}.json")
        dataset, method = frozen.get("dataset"), frozen.get("method")
        if dataset is not None and dataset not in self._images:
            self._images[dataset] = images_of(dataset)
        beside: dict[str, Mapping[str, Any]] = {
            "episodes": frozen_params(f"episodes_{dataset}").get("episodes", {}),
            "database": frozen_params(f"database_{dataset}").get("database", {}),
        }
        if method is not None:
            beside |= {other: frozen_params(f"{other}_{method}_{dataset}") for other in ("search", "supernet")}
        space = None if method is None else space_of(method, beside["search"].get("search", {}))
        return frozen["stage"], method, space, frozen.get("params", {}), beside, self._images.get(dataset)

    def estimate(self, name: str) -> tuple[float | None, str]:
        """Expected seconds of a job, or None and what is not known of it."""
        inputs = self.inputs_of(name)
        stage, method, *_, images = inputs
        try:
            key, amount = work(*inputs, self.costs)
        except KeyError:
            # a method of one's own may have other knobs than those that are counted
            return None, f"{stage} of {method}: how much work its parameters mean is not known"
        found = seconds(key, amount, self.costs)
        if found is not None:
            return found, ""
        if stage in OF_IMAGES and images is None:
            dataset = read_json(FROZEN / f"{name}.json")["dataset"]
            return None, f"{stage}: the number of images of {dataset} is not known before they are prepared"
        return None, f"{key}: this kind of job was not measured"


def accelerated(names: Iterable[str]) -> set[str]:
    """Those of these jobs that ask a cluster for a GPU, by its table. Raises ConfigError for a table that is wrong."""
    table = site()
    rules = tuple(f"{rule}_" for rule, group in table.group_of.items() if table.groups[group].gpus)
    return {name for name in names if name.startswith(rules)}


def lines(
    jobs: Mapping[str, Planned],
    expected: Mapping[str, tuple[float | None, str]],
    n_nodes: int,
    listed: int,
    on_gpus: Collection[str] = (),
) -> list[str]:
    """The forecast in words.

    Args:
        expected: job -> its seconds, or None and what is not known of it.
        listed: most jobs that are named; of more, the longest ones.
        on_gpus: jobs that ask for a GPU.
    """
    if not jobs:
        return ["nothing to be made: all jobs are finished, or params.yaml lists none"]
    known = {name: value or 0.0 for name, (value, _) in expected.items()}
    unknown = Counter(why for value, why in expected.values() if value is None)
    after = {name: job.after for name, job in jobs.items()}
    told = []
    # the order of the plan: upstream first, equal ones by name
    left = tails(known, after)
    costly = sorted(jobs, key=lambda name: -known[name])
    for name in sorted(costly[:listed], key=lambda name: (-left[name], name)):
        value, _ = expected[name]
        told.append(f"{'unknown' if value is None else spoken(value):>14}  {name}")
    if len(jobs) > listed:
        told.append(f"{'':>14}  and {n_of(len(jobs) - listed, 'other job')} (--jobs {len(jobs)} lists all)")
    path = critical_path(known, after)
    # jobs of unknown cost make the figures lower bounds
    least = "at least " if unknown else ""
    total, longest = sum(known.values()), sum(known[name] for name in path)
    hours_on_gpus = sum(known[name] for name in on_gpus) / 3600
    told += [
        "",
        f"{n_of(len(jobs), 'job')}, {least}{total / 3600:.2f} core-hours",
        f"asking a cluster for a GPU: {n_of(len(on_gpus), 'job')}, {least}{hours_on_gpus:.2f} hours of what the costs "
        "were measured on",
        f"critical path {least}{spoken(longest)}: " + " > ".join(path),
        f"on {n_of(n_nodes, 'node')}, one job at a time on each: {least}{spoken(end(known, after, n_nodes))}",
    ]
    if unknown:
        told.append(f"{n_of(unknown.total(), 'job')} cannot be estimated and counted as nothing:")
        told += [f"{n_of(number, 'job'):>14}  {why}" for why, number in sorted(unknown.items())]
        told.append("docs/scale.md tells how kinds of jobs are measured, for --costs")
    return told


def positive(text: str) -> int:
    """A whole number from 1 up. Raises ValueError, which argparse explains."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def add_arguments(parser) -> None:
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="files to be made; none: the grid of params.yaml")
    parser.add_argument("--nodes", type=positive, default=1, metavar="N", help="nodes, each with one job at a time")
    parser.add_argument("--jobs", type=positive, default=30, metavar="N", help="most jobs to list (default: 30)")
    parser.add_argument("--costs", default=str(COSTS), metavar="FILE", help=f"coefficients (default: {COSTS})")
    parser.add_argument(
        "--config", action="append", default=[], metavar="KEY=VALUE", help="as Snakemake's; may be given several times"
    )


def run(arguments) -> None:
    costs = read_costs(pathlib.Path(arguments.costs))
    jobs = plan(arguments.targets, arguments.config)
    estimator = Estimator(costs)
    expected = {name: estimator.estimate(name) for name in jobs}
    print("\n".join(lines(jobs, expected, arguments.nodes, arguments.jobs, accelerated(jobs))))
