"""What the Snakefile calls: freezing at the start of a run, recording in DVC at its end."""

import contextlib
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.core.device import may_be_accelerated, n_cores
from pipeline.core.errors import ArtifactError, ConfigError, UnknownNameError
from pipeline.core.progress import say
from pipeline.core.types import FEW_SHOT
from pipeline.data.published_tables import TABLES
from pipeline.stages.common import FROZEN, THREADS_TO_ADAPT
from pipeline.stages.folder import SNAKEMAKE, claim, require_writable
from pipeline.stages.freeze import changes, freeze, remember
from pipeline.stages.needs import option
from pipeline.stages.settings import (
    CONTROL,
    METHOD_STAGES,
    ROWS,
    Freezer,
    adapted,
    classification,
    control_of,
    grid,
    is_adapted,
    learned,
    learned_pairs,
    load,
    references_of,
    section_of,
)
from pipeline.stages.track import refresh

LOOKING = {
    "--dry-run", "--dryrun", "--summary", "--detailed-summary", "--list", "--list-rules", "--list-target-rules", "--lt",
    "--list-changes", "--lc", "--list-input-changes", "--li", "--list-params-changes", "--lp", "--list-untracked",
    "--lu", "--dag", "--rulegraph", "--filegraph", "--d3dag", "--lint",
}  # fmt: skip
"""Options of Snakemake with which it runs nothing, and deletes nothing."""
SHORT_LOOKING = re.compile(r"-[Fafkpt]*[nSDl].*")
"""Their short forms, also behind others without a value as in -pn."""
NOTHING_LISTED = (
    "params.yaml lists nothing to make: fill in grid, e.g. datasets: [doublemnist] and methods: [metantk, random], or "
    "classification, learned or adapted; or name a result, such as results/metantk_doublemnist.json"
)
_held: list[contextlib.ExitStack] = []
"""The claim on the folder, for as long as Snakemake runs."""


def any_of(names: Iterable[str]) -> str:
    """A regular expression of just these names; it matches nothing where there are none."""
    return "|".join(map(re.escape, names)) or "(?!)"


@dataclass(frozen=True)
class Grid:
    """What is made without a named target, what a target may name, and how many cores a large job takes.

    Attributes:
        datasets, methods: of the few-shot results that are made without a named target.
        looked_up, trained, cards: stems of the other results that are made without a named target.
        dataset_pattern, few_shot_pattern, classification_pattern: regular expressions of the names of all data sets and
            of those of a kind.
        method_pattern: regular expression of all methods' names.
        threads, threads_to_adapt: cores of a large job, and of one that adapts networks to tasks.
        gpus_to_adapt: accelerators of the latter; where there is none, several of them run side by side.
        adapted_pattern, plain_pattern: of those whose start is meta-learned, and of the others.
        pairs: kind of result -> stem -> (method, data set), of all results that a target may name.
        tables: space -> data sets of the tables of accuracies.
        pages: spaces whose looked-up results get a page.
        database_tables: source -> space of the table that the database made of its classes looks into; others look into
            none.
        needed: (method, data set) -> argument of the search -> path, of what the method needs besides the images.
        learned: stems of the few-shot results of methods that learned beforehand, made without a named target.
        adapted: the same of methods whose start is meta-learned.
        controls: method -> the method that its few-shot results stand beside.
        references: method -> others whose accuracies on the same episodes its results are compared with.
    """

    datasets: list[str]
    methods: list[str]
    dataset_pattern: str
    few_shot_pattern: str
    classification_pattern: str
    method_pattern: str
    adapted_pattern: str
    plain_pattern: str
    threads: int
    threads_to_adapt: int
    gpus_to_adapt: int
    pairs: dict[str, dict[str, tuple[str, str]]]
    looked_up: list[str]
    trained: list[str]
    tables: dict[str, tuple[str, ...]]
    pages: list[str]
    cards: list[str]
    database_tables: dict[str, str]
    needed: dict[tuple[str, str], dict[str, str]]
    learned: list[str]
    adapted: list[str]
    controls: dict[str, str]
    references: dict[str, tuple[str, ...]]

    def listed(self) -> list[str]:
        """All that is made without a named target; where that is nothing, it says what to fill in.

        The report is left out where there is nothing to report.
        """
        few_shot = [*stems(self.methods, self.datasets), *self.learned, *self.adapted]
        results = [*few_shot, *self.looked_up, *self.trained, *self.cards]
        report = ["results/report.html"] if few_shot or any(ROWS.glob("*.csv")) else []
        files = [f"results/{stem}.json" for stem in results]
        files += [*report, *(f"results/{space}.html" for space in self.pages)]
        if not files:
            say(NOTHING_LISTED)
        return files

    def threads_of_search(self, method: str) -> int:
        """Processor cores of a search."""
        return self.threads_to_adapt if is_adapted(method) else self.threads

    def gpus_of_search(self, method: str) -> int:
        """Accelerators of a search; 1 also stands for all cores."""
        return self.gpus_to_adapt if is_adapted(method) else 1

    def against(self, method: str, dataset: str) -> dict[str, str]:
        """Role -> path of the files of a method's references."""
        return {
            f"{role}_{name}": f"results/{folder}/{name}_{dataset}.{ending}"
            for name in self.references[method]
            for role, folder, ending in (("against", "measured", "json"), ("episodes", "episodes", "csv"))
        }

    def against_arguments(self, method: str, dataset: str) -> str:
        """What the command that compares says of them; nothing for most."""
        files = self.against(method, dataset)
        return " ".join(
            f"--against {files[f'against_{name}']} {files[f'episodes_{name}']}" for name in self.references[method]
        )

    def needed_arguments(self, method: str, dataset: str) -> str:
        """What a search's command says of the files that its method needs besides; nothing for most."""
        return " ".join(f"{option(name)} {path}" for name, path in self.needed.get((method, dataset), {}).items())

    def pattern(self, kind: str) -> str:
        """Regular expression of the stems of all results of a kind."""
        return any_of(self.pairs[kind])

    def dataset_of(self, stem: str) -> str:
        """The data set in a result's stem, e.g. cifar10 in tenas_cifar10."""
        return next(pairs[stem][1] for pairs in self.pairs.values() if stem in pairs)


def with_overrides(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with `--config mirror=PATH` in its place under `data`."""
    config = {**config}
    if "mirror" in config:
        config["data"] = {**section_of(config, "data"), "mirror": config.pop("mirror")}
    return config


def check_targets(arguments: Iterable[str], freezer: Freezer) -> None:
    """Raises UnknownNameError or ConfigError for a result among the command line's arguments that nothing can give."""
    for argument in arguments:
        named = re.fullmatch(r"(?:\./)?results/([^/]+)\.json", argument)
        if named is None or "_" not in named[1]:
            continue
        if named[1].startswith("proxies_"):
            rated = [f"proxies_{space}_{dataset}" for space, of in TABLES.items() for dataset in of]
            if named[1] not in rated:
                raise UnknownNameError("report card of proxies:", named[1], rated)
            continue
        if named[1] in freezer.pairs("trained"):
            check_control(named[1], freezer)
        named_pairs = [(m, d) for m in freezer.methods for d in freezer.datasets if f"{m}_{d}" == named[1]]
        if named_pairs:
            freezer.kind_of(*named_pairs[0])
            continue
        starts = [method for method in freezer.methods if named[1].startswith(f"{method}_")]
        if not starts:
            raise UnknownNameError(f"method in the target {argument}:", named[1].split("_")[0], freezer.methods)
        dataset = named[1].removeprefix(f"{max(starts, key=len)}_")
        hint = "Your own folder of images gets a name under data.folders in params.yaml."
        raise UnknownNameError(f"data set in the target {argument}:", dataset, freezer.datasets, hint)


def check_control(stem: str, freezer: Freezer) -> None:
    """Raises ConfigError when the control of a trained classifier would be looked up in a table instead."""
    method, dataset = freezer.pairs("trained")[stem]
    if freezer.kinds[CONTROL, dataset] != "trained":
        raise ConfigError(
            f"{method} is trained on {dataset}, but its control '{CONTROL}' searches a space whose accuracies are "
            f"looked up there. Set search.{CONTROL}.space to the space of {method} in params.yaml."
        )


def only_looks(arguments: Iterable[str]) -> bool:
    """Whether Snakemake, with these arguments, tells something instead of running jobs."""
    options = itertools.takewhile(lambda argument: argument != "--", arguments)
    return any(option.split("=")[0] in LOOKING or SHORT_LOOKING.fullmatch(option) for option in options)


def prepare(freezer: Freezer, looks: bool) -> None:
    """Freeze the configuration, for a run that claims the folder until it ends, or only to look at what would run.

    Raises ArtifactError while another run is at work here; who looks is refused only where parameters would change.
    """
    if not looks:
        require_writable()
        _held.append(claim(SNAKEMAKE))
        freeze(freezer)
        refresh()
        return
    try:
        held = claim(SNAKEMAKE)
    except ArtifactError as error:
        if any(changes(freezer)):
            raise ArtifactError(
                f"{error} The parameters of this command are others than those in {FROZEN}, where it would freeze them."
            ) from None
        return
    with held:
        freeze(freezer)
        refresh()


def start(config: Mapping[str, Any], is_main_process: bool, files: Iterable[str | os.PathLike] = ()) -> Grid:
    """Check and freeze the configuration; the parts of it that the rules need. Raises ConfigError.

    Jobs of a run parse the Snakefile again; only the main process writes.

    Args:
        files: what Snakemake read the configuration from, to be read again for what Snakemake passes over.
    """
    # jobs say `python`: they shall find the one that runs Snakemake, activated or not
    os.environ["PATH"] = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ.get('PATH', '')}"
    for path in files if is_main_process else ():
        # Snakemake takes JSON, too, which is no YAML where it is indented by tabs
        if os.fspath(path).endswith((".yaml", ".yml")):
            load(path)
    config = with_overrides(config)
    freezer = Freezer(config)
    if is_main_process:
        check_targets(sys.argv[1:], freezer)
        prepare(freezer, only_looks(sys.argv[1:]))
    (datasets, methods), listed, of_learned = grid(config), classification(config), learned(config)
    of_adapted = adapted(config)
    compute = section_of(config, "compute")
    threads = compute.get("threads")
    return Grid(
        datasets=datasets,
        methods=methods,
        dataset_pattern=any_of(freezer.datasets),
        few_shot_pattern=any_of(name for name in freezer.datasets if freezer.data_kind(name) == FEW_SHOT),
        classification_pattern=any_of(name for name in freezer.datasets if freezer.data_kind(name) != FEW_SHOT),
        method_pattern=any_of(freezer.methods),
        adapted_pattern=any_of(name for name in freezer.methods if is_adapted(name)),
        plain_pattern=any_of(name for name in freezer.methods if not is_adapted(name)),
        threads=threads or n_cores(),
        threads_to_adapt=threads or THREADS_TO_ADAPT,
        gpus_to_adapt=int(may_be_accelerated(compute.get("device", "auto"))),
        pairs={kind: freezer.pairs(kind) for kind in METHOD_STAGES},
        learned=["_".join(pair) for pair in learned_pairs(of_learned, "few_shot")],
        looked_up=stems(listed["looked_up"], listed["datasets"])
        + stems(of_learned["methods"], of_learned["looked_up"]),
        trained=stems(listed["trained"], listed["datasets"]) + stems(of_learned["methods"], of_learned["trained"]),
        tables=dict(TABLES),
        pages=listed["tables"] if listed["looked_up"] or of_learned["looked_up"] else [],
        cards=[f"proxies_{stem}" for stem in stems(listed["cards"], listed["datasets"])],
        database_tables=freezer.database_tables,
        needed=freezer.needed,
        adapted=stems([*of_adapted["methods"], *of_adapted["supernets"]], of_adapted["datasets"]),
        controls={name: control_of(name) for name in freezer.methods},
        references={name: references_of(name) for name in freezer.methods},
    )


def stems(first: Iterable[str], second: Iterable[str]) -> list[str]:
    """All first_second."""
    return [f"{one}_{other}" for one, other in itertools.product(first, second)]


def record(workflow) -> None:
    """Remember which files this run made with which parameters, and tell DVC, whose failure never fails the run."""
    dag = workflow.dag
    finished = [job for job in dag.finished_jobs if job.output]
    if not finished:
        return
    if os.path.isdir(".dvc"):
        made, kept = finished, [job for job in dag.jobs if job.output and not dag.needrun(job)]
        commit(*([list(map(str, job.output)) for job in jobs] for jobs in (made, kept)))
    remember((str(job.input.params), list(map(str, job.output))) for job in finished)


def commit(made: list[list[str]], kept: list[list[str]]) -> None:
    """Record outputs of jobs in dvc.lock, in a process of its own, under the lock that this one holds.

    Args:
        made: of the jobs of this run.
        kept: of the jobs it found done; a run that was killed outright may have made them, and told nobody.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".json") as listing:
        json.dump({"made": made, "kept": kept}, listing)
        listing.flush()
        subprocess.run([sys.executable, "-m", "pipeline", "track", "commit", "--locked", "--files", listing.name])
