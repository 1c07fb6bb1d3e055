"""params.yaml as a whole: its sections, their meaning, and the frozen parameter files made from them.

Import-light: reading the configuration imports neither torch nor any method's machinery.
"""

import dataclasses
import functools
import itertools
import os
import pathlib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pipeline import data, methods, spaces
from pipeline.core.artifacts import digest, read_json, sha256
from pipeline.core.code import PACKAGE, CodeIndex
from pipeline.core.config import BUDGETS, LARGEST, build, is_text, resolve
from pipeline.core.errors import ArtifactError, ConfigError, DataError, UnknownNameError, shown
from pipeline.core.types import CLASSIFICATION, FEW_SHOT, KINDS
from pipeline.core.yaml_text import parse_yaml
from pipeline.data.fetching import expanded, folder_state, own_path
from pipeline.data.published_tables import TABLES
from pipeline.data.settings import FetchConfig, PrepareConfig
from pipeline.episodes.settings import EpisodesConfig
from pipeline.evaluation.settings import (
    AdaptConfig,
    EncodingConfig,
    EvaluateConfig,
    FeatureNetConfig,
    FeaturesConfig,
    NetworkConfig,
    TestConfig,
    TrainConfig,
)
from pipeline.recipes import oracles
from pipeline.recipes.database import DatabaseConfig
from pipeline.recipes.meta_settings import GeneratorTraining, MetaTrainConfig, PredictorTraining
from pipeline.recipes.proxy_scores import RateConfig, ScoreConfig
from pipeline.stages import needs
from pipeline.stages.common import FROZEN, MIRROR_VARIABLE

PARAMS = pathlib.Path("params.yaml")
ROWS, LOOKUPS = pathlib.Path("results/rows"), pathlib.Path("results/lookups")
CODE_CACHE = pathlib.Path("build/code.json")
CONTROL = "random"
MOST_THREADS = 4096
DEVICES = r"auto|cpu|mps|cuda(:[0-9]{1,4})?"
FOLDER_FAMILY = "image_folder"
# options of a folder that are about one kind of data set
ONLY_FOR = {FEW_SHOT: ("base", "validation", "novel"), CLASSIFICATION: ("test_fraction",)}
TOP_LEVEL = (
    "budget", "seed", "grid", "classification", "compute", "data", "prepare", "episodes", "features", "network",
    "search", "train", "evaluate", "test", "score", "rate", "database", "oracle",
    "meta_train", "learned", "supernet", "meta_learn", "adapt", "adapted",
)  # fmt: skip
SECTIONS = {
    "prepare": PrepareConfig,
    "episodes": EpisodesConfig,
    "features": FeaturesConfig,
    "network": NetworkConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "test": TestConfig,
    "score": ScoreConfig,
    "rate": RateConfig,
    "database": DatabaseConfig,
    "meta_train": MetaTrainConfig,
    "adapt": AdaptConfig,
}
MOST_VALUES, MOST_LEVELS = 20_000, 50
"""Of params.yaml; the file as it comes has some hundred values in five levels."""
# sections with knobs for each method, and the attribute of a method that says which
METHOD_SECTIONS = {"search": "Config", "supernet": "Supernet", "meta_learn": "Learning"}
# stages that the budget reaches through their knobs alone, and stages that draw nothing
WITHOUT_BUDGET = ("fetch", "prepare", "episodes", "table", "feature_net", "features")
WITHOUT_SEED = ("fetch", "prepare", "table", "features")
# stages of meta-training, and the knobs of each
META_STAGES = {"meta_train_generator": GeneratorTraining, "meta_train_predictor": PredictorTraining}
# sections of params.yaml that each stage's frozen file carries
DATA_STAGES = {"prepare": ("prepare",), "episodes": ("episodes",)}
METHOD_STAGES = {
    "few_shot": {
        "search": ("network", "search"),
        "train": ("network", "train"),
        "evaluate": ("network", "train", "evaluate"),
        "compare": (),
    },
    "looked_up": {"search": ("network", "search"), "look_up": ()},
    "trained": {
        "search": ("network", "search"),
        "train": ("network", "train"),
        "test": ("network", "train", "test"),
        "contrast": (),
    },
    "adapted": {
        "supernet": ("episodes", "supernet"),
        "search": ("search",),
        "meta_learn": ("episodes", "meta_learn"),
        "adapt": ("meta_learn", "adapt"),
        "compare": (),
    },
}
"""By kind of result: a few-shot test, an accuracy looked up in a table, one of a classifier that was trained, or a
few-shot test of a learner whose start was meta-learned."""
# kinds that a method which learns from a database may give
LEARNED_KINDS = ("few_shot", "looked_up", "trained")
# of the stored episodes, what meta-learning is for
SHAPE_OF_TASKS = ("n_way", "k_shots")


def load(path: str | os.PathLike = PARAMS) -> dict[str, Any]:
    """params.yaml as a mapping. Raises ArtifactError or ConfigError when it is missing or not YAML."""
    try:
        content = parse_yaml(pathlib.Path(path).read_bytes(), str(path))
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing. Run from the project's folder, or restore it from git.") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold sections of `key: value` lines.")
    check_size(content, path)
    return content


def check_size(content: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Raises ConfigError when aliases make a configuration endless, or far larger than its text."""
    sizes: dict[int, int] = {}

    def size(value: Any, depth: int) -> int:
        if depth > MOST_LEVELS:
            return MOST_VALUES + 1
        if not isinstance(value, (dict, list, tuple, set)):
            return 1
        if id(value) not in sizes:
            inner = [*value, *value.values()] if isinstance(value, dict) else value
            sizes[id(value)] = 1 + sum(size(one, depth + 1) for one in inner)
        return sizes[id(value)]

    if size(content, 0) > MOST_VALUES:
        raise ConfigError(
            f"{path} holds more than {MOST_VALUES} values, or values within values without end. Write out its aliases "
            "(&name and *name)."
        )


def section_of(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A section of params.yaml, empty where it is missing. Raises ConfigError unless it holds `key: value` lines."""
    section = config.get(name)
    if section is not None and not isinstance(section, Mapping):
        raise ConfigError(f"{name} must be a section of `key: value` lines, not {shown(section)}.")
    return section or {}


def folders(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The user's own image folders: name -> options. Raises ConfigError for names that cannot be used."""
    named = section_of(config, "data").get("folders") or {}
    if not isinstance(named, Mapping):
        raise ConfigError(
            "data.folders must map names to options, e.g. data.folders: {birds: {path: /pictures/birds}}."
        )
    for name, options in named.items():
        if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9]*", name):
            raise ConfigError(f"data.folders.{name}: a name is made of small letters and digits, letters first.")
        if name in (*data.names(), *BUDGETS, *KINDS):
            raise ConfigError(
                f"data.folders.{name}: that is the name of a known data set, of a budget or of a kind. Choose another."
            )
        if not isinstance(options, Mapping):
            raise ConfigError(f"data.folders.{name} must be options such as {{path: /pictures/birds}}.")
        check_kind(name, options)
    return dict(named)


def check_kind(name: str, options: Mapping[str, Any]) -> None:
    """Raises ConfigError or UnknownNameError unless the folder's kind is known and its options are about that kind."""
    kind = folder_kind(options)
    if not isinstance(kind, str) or kind not in KINDS:
        raise UnknownNameError(f"kind in data.folders.{name}:", kind, KINDS)
    for other, only in ONLY_FOR.items():
        foreign = [option for option in only if option in options]
        if foreign and other != kind:
            raise ConfigError(
                f"data.folders.{name}: {foreign[0]} is for folders of the kind {other}, but this one is of the kind "
                f"{kind}. Take the option away, or set kind: {other}."
            )


def folder_kind(options: Mapping[str, Any]) -> Any:
    """The kind of data set that a folder's options ask for, as they name it."""
    return options.get("kind", FEW_SHOT)


def known_datasets(config: Mapping[str, Any]) -> list[str]:
    """Names that may stand for {dataset} in a target."""
    return sorted([name for name in data.names() if name != FOLDER_FAMILY] + list(folders(config)))


def grid(config: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The (datasets, methods) that `snakemake` without a target and `dvc repro` make few-shot results of.

    Raises ConfigError or UnknownNameError.
    """
    found = lists(config, "grid", {"datasets": known_datasets(config), "methods": methods.names()})
    if found["datasets"] and CONTROL not in found["methods"]:
        raise ConfigError(f"grid.methods must hold '{CONTROL}': every result stands beside its random control.")
    return found["datasets"], found["methods"]


def classification(config: Mapping[str, Any]) -> dict[str, list[str]]:
    """What is made besides for data sets of ordinary classification: datasets, tables, looked_up, trained, cards.

    Raises ConfigError or UnknownNameError.
    """
    tables = list(TABLES)
    known = {
        "datasets": known_datasets(config),
        "tables": tables,
        "looked_up": methods.names(),
        "trained": methods.names(),
        "cards": tables,
    }
    found = lists(config, "classification", known)
    if found["trained"] and CONTROL not in found["trained"]:
        raise ConfigError(f"classification.trained must hold '{CONTROL}': every result stands beside its control.")
    if (found["looked_up"] or found["cards"]) and not found["tables"]:
        raise ConfigError(f"classification.tables must name the table to look accuracies up in: {', '.join(tables)}.")
    return found


def learned(config: Mapping[str, Any]) -> dict[str, list[str]]:
    """What is made besides by methods that learn from other data beforehand: methods, sources, datasets, of these by
    kind of result few_shot, looked_up and trained, and controls of the few-shot results.

    Raises ConfigError or UnknownNameError.
    """
    datasets = known_datasets(config)
    able = [name for name in methods.names() if needs.has_source(methods.get(name))]
    controls = sorted({control_of(name) for name in able})
    names = ("sources", "datasets", *LEARNED_KINDS)
    found = lists(config, "learned", {"methods": able, "controls": controls, **dict.fromkeys(names, datasets)})
    if len(found["sources"]) > 1:
        raise ConfigError("learned.sources must name one data set at most; make results of another source by name.")
    for key in ("sources", *LEARNED_KINDS):
        if missing := [name for name in found[key] if name not in found["datasets"]]:
            raise ConfigError(f"learned.datasets must hold '{missing[0]}', which learned.{key} names.")
    if found["methods"] and not found["sources"]:
        raise ConfigError("learned.sources must name the data set that search.<method>.source names.")
    for name in found["methods"] if found["few_shot"] else []:
        if control_of(name) not in found["controls"]:
            raise ConfigError(
                f"learned.controls must hold '{control_of(name)}': the few-shot result of {name} stands beside its "
                "accuracies."
            )
    fetched = [*grid(config)[0], *classification(config)["datasets"]]
    if missing := [name for name in found["datasets"] if name not in fetched]:
        raise ConfigError(
            f"learned.datasets names '{missing[0]}', which neither grid.datasets nor classification.datasets does. Add "
            "it there: its images and its random control are made with those."
        )
    return found


def adapted(config: Mapping[str, Any]) -> dict[str, list[str]]:
    """What is made besides by methods whose start is meta-learned: methods, those that search in a supernet, datasets.

    Raises ConfigError or UnknownNameError.
    """
    able = [name for name in methods.names() if is_adapted(name)]
    searching = [name for name in able if has_supernet(name)]
    known = {
        "methods": [name for name in able if name not in searching],
        "supernets": searching,
        "datasets": known_datasets(config),
    }
    found = lists(config, "adapted", known)
    datasets, chosen = grid(config)
    for dataset in found["datasets"]:
        if dataset not in datasets:
            raise ConfigError(f"adapted.datasets names '{dataset}', which grid.datasets does not. Add it there.")
    if not found["datasets"]:
        return found
    for name in [*found["methods"], *found["supernets"]]:
        for beside in (control_of(name), *references_of(name)):
            section, listed = ("adapted", found["methods"]) if is_adapted(beside) else ("grid", chosen)
            if beside not in listed:
                raise ConfigError(
                    f"{section}.methods must hold '{beside}': the result of {name} stands beside its accuracies."
                )
    return found


def is_adapted(method: str) -> bool:
    """Whether a method's networks are tested by a learner whose start was meta-learned."""
    return hasattr(methods.get(method), "learner")


def has_supernet(method: str) -> bool:
    """Whether a method meta-trains a supernet before its search."""
    return hasattr(methods.get(method), METHOD_SECTIONS["supernet"])


def control_of(method: str) -> str:
    """The method that every result of `method` stands beside; random architectures for most."""
    return getattr(methods.get(method), "control", CONTROL)


def references_of(method: str) -> tuple[str, ...]:
    """Other methods whose accuracies on the same episodes those of `method` are compared with."""
    return getattr(methods.get(method), "references", ())


def lists(config: Mapping[str, Any], section: str, known: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """The lists of names in a section, each against the names it may hold. Raises ConfigError or UnknownNameError."""
    content = section_of(config, section)
    for key in content:
        if key not in known:
            raise UnknownNameError(f"key in {section}:", key, known)
    found = {key: content.get(key) or [] for key in known}
    for key, names in found.items():
        if not isinstance(names, list):
            raise ConfigError(f"{section}.{key} must be a list, not {shown(names)}.")
        for name in names:
            if name not in known[key]:
                raise UnknownNameError(f"name in {section}.{key}:", name, known[key], f"({section} in params.yaml)")
    return found


def learned_pairs(listed: Mapping[str, list[str]], kind: str) -> list[tuple[str, str]]:
    """(method, data set) of the results of a kind that the section `learned` lists; its controls give few-shot ones."""
    controls = listed["controls"] if kind == "few_shot" else []
    return list(itertools.product([*listed["methods"], *controls], listed[kind]))


def check_top_level(config: Mapping[str, Any]) -> None:
    """Raises ConfigError for unknown sections, budgets and values outside the typed sections."""
    for key in config:
        if key not in TOP_LEVEL:
            raise UnknownNameError("key in params.yaml:", key, TOP_LEVEL)
    if config.get("budget") not in BUDGETS:
        raise UnknownNameError("budget", config.get("budget"), BUDGETS)
    if type(config.get("seed")) is not int or not 0 <= config["seed"] <= LARGEST:
        raise ConfigError(f"seed is {shown(config.get('seed'))}; a whole number from 0 up is needed.")
    for section, keys in (("compute", ("device", "threads")), ("data", ("mirror", "folders"))):
        for key in section_of(config, section):
            if key not in keys:
                raise UnknownNameError(f"key in {section}:", key, keys)
    device = section_of(config, "compute").get("device", "auto")
    if not isinstance(device, str) or not re.fullmatch(DEVICES, device):
        raise ConfigError(f"compute.device is {shown(device)}; allowed: auto, cpu, cuda, cuda:N (a number), mps.")
    threads = section_of(config, "compute").get("threads", 0)
    if type(threads) is not int or not 0 <= threads <= MOST_THREADS:
        raise ConfigError(
            f"compute.threads is {shown(threads)}; a whole number up to {MOST_THREADS} is needed, 0 for all cores."
        )
    mirror = section_of(config, "data").get("mirror")
    if mirror is not None and not (isinstance(mirror, str) and is_text(mirror)):
        raise ConfigError(f"data.mirror is {shown(mirror)}; the path of a folder is needed, or null.")
    nested = {section: ("method", list(with_section(section))) for section in METHOD_SECTIONS}
    for section, (what, names) in {**nested, "oracle": ("oracle", oracles.names())}.items():
        for name in section_of(config, section):
            if name not in names:
                raise UnknownNameError(f"{what} in {section}:", name, names)


def with_section(section: str) -> dict[str, type]:
    """Method -> knobs, of the methods that have knobs in a section of METHOD_SECTIONS."""
    attribute = METHOD_SECTIONS[section]
    found = {name: getattr(methods.get(name), attribute, None) for name in methods.names()}
    return {name: knobs for name, knobs in found.items() if knobs is not None}


def machine_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Where bytes are found and what computes; kept out of the frozen files because it never says which bytes."""
    compute, of_data = section_of(config, "compute"), section_of(config, "data")
    mirror = of_data.get("mirror")
    return {
        "mirror": None if mirror is None else str(expanded(mirror, "data.mirror").absolute()),
        "device": str(compute.get("device", "auto")),
        "threads": compute.get("threads", 0),
    }


def names_in(value: Any) -> Iterator[str]:
    """All texts inside nested parameters; those that name registry entries bring those entries' code."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from names_in(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from names_in(inner)


def other_rows(folder: pathlib.Path, stems: Collection[str]) -> dict[str, str]:
    """Rows of results that were asked for by name: a report shows them too, and is made anew when they change."""
    return {path.name: sha256(path) for path in sorted(folder.glob("*.csv")) if path.stem not in stems}


class Freezer:
    """Resolves params.yaml for every job of the workflow."""

    def __init__(self, config: Mapping[str, Any]):
        check_top_level(config)
        self.config, self.folders = config, folders(config)
        self.datasets, self.methods = known_datasets(config), methods.names()
        self._n_cells: dict[str, int] = {}
        self._code: dict[Any, str] = {}
        self._index = CodeIndex(CODE_CACHE)
        # the names are read from source texts each time: once is enough
        self._spaces, self._oracles = spaces.names(), oracles.names()

    def _section(self, name: str, cls: type, tags: tuple[str, ...], section: Any = None, where: str = "") -> dict:
        section = self.config.get(name) if section is None else section
        return resolve(cls, section, tags, self._known_tags, where or name)

    @functools.cached_property
    def _known_tags(self) -> frozenset[str]:
        return frozenset((*BUDGETS, *self.datasets, *(f"{count}cells" for count in range(1, 100))))

    def _tags(self, dataset: str) -> tuple[str, ...]:
        """The budget, the data set, its kind and the number of cells that its network has."""
        return (*self._tags_without_cells(dataset), f"{self.n_cells(dataset)}cells")

    def _tags_without_cells(self, dataset: str) -> tuple[str, ...]:
        return (self.config["budget"], dataset, self.data_kind(dataset))

    def n_cells(self, dataset: str) -> int:
        """Cells of the networks for a data set. Raises ConfigError when that depends on itself."""
        if dataset not in self._n_cells:
            tags = self._tags_without_cells(dataset)
            n_cells = self._section("network", NetworkConfig, tags)["n_cells"]
            if self._section("network", NetworkConfig, (*tags, f"{n_cells}cells"))["n_cells"] != n_cells:
                raise ConfigError(
                    f"network.n_cells has a row for {n_cells}cells, that is, it depends on itself. Let its rows name "
                    "budgets, data sets and kinds only."
                )
            self._n_cells[dataset] = n_cells
        return self._n_cells[dataset]

    def _file(self, stage: str, dataset: str, params: dict, method: str | None = None, family: str = "") -> dict:
        used = frozenset([*names_in(params), *([method] if method else []), *([family] if family else [])])
        key = (stage, used)
        if key not in self._code:
            self._code[key] = self._index.digest([PACKAGE / "stages" / f"{stage}.py"], sorted(used))
        frozen = {
            "stage": stage,
            "dataset": dataset,
            "budget": None if stage in WITHOUT_BUDGET else self.config["budget"],
            "seed": None if stage in WITHOUT_SEED else self.config["seed"],
            "params": params,
            "code": self._code[key],
        }
        return {**frozen, "method": method} if method else frozen

    def data_files(self, dataset: str) -> Iterator[tuple[str, dict]]:
        """(file name, content) of fetch, prepare and, where classes can be new, episodes for one data set."""
        family = FOLDER_FAMILY if dataset in self.folders else dataset
        options = self._section(
            "data", FetchConfig, self._tags(dataset), self.folders.get(dataset, {}), f"data.folders.{dataset}"
        )
        folder = {"folder": options, "content": self._content(dataset, options)} if dataset in self.folders else {}
        yield f"fetch_{dataset}.json", self._file("fetch", dataset, {"family": family, **folder}, family=family)
        for stage, sections in DATA_STAGES.items():
            if stage == "episodes" and self.data_kind(dataset) != FEW_SHOT:
                continue
            params = {name: self._section(name, SECTIONS[name], self._tags(dataset)) for name in sections}
            if stage == "prepare":
                params = {"family": family, **({"folder": options} if folder else {}), **params}
            yield f"{stage}_{dataset}.json", self._file(stage, dataset, params, family=family * (stage == "prepare"))

    def _content(self, dataset: str, options: Mapping[str, Any]) -> str | None:
        """Digest of names, sizes and times of the files in a user's folder, so that a changed one is fetched again.

        Where the folder is not at hand, as in a clone elsewhere, what was frozen before. None where it cannot be read:
        the fetch stage says why, to those who use it.
        """
        if not options["path"]:
            return None
        mirror = os.environ.get(MIRROR_VARIABLE) or section_of(self.config, "data").get("mirror")
        folder = expanded(mirror, "data.mirror") if mirror else None
        try:
            path = own_path(options["path"], folder, f"data.folders.{dataset}.path")
            if path.exists():
                return digest(folder_state(path))
        except (DataError, OSError):
            return None
        frozen = FROZEN / f"fetch_{dataset}.json"
        return read_json(frozen)["params"].get("content") if frozen.exists() else None

    def data_kind(self, dataset: str) -> str:
        """The kind of a data set, a key of `pipeline.core.types.KINDS`."""
        return folder_kind(self.folders[dataset]) if dataset in self.folders else data.kind_of(dataset)

    @functools.cached_property
    def sources(self) -> list[str]:
        """Data sets whose base classes meta-training tasks, and a feature network, can be made of."""
        return [name for name in self.datasets if self.data_kind(name) == FEW_SHOT]

    def feature_files(self) -> Iterator[tuple[str, dict]]:
        """(file name, content) of the feature network of each source, and of what it makes of each data set."""
        for source in self.sources:
            yield (
                f"feature_net_{source}.json",
                self._file("feature_net", source, self._features(source, FeatureNetConfig)),
            )
        for dataset, source in itertools.product(self.datasets, self.sources):
            frozen = self._file("features", dataset, self._features(dataset, EncodingConfig))
            yield f"features_{dataset}_by_{source}.json", {**frozen, "source": source}

    def _features(self, dataset: str, part: type) -> dict:
        """The knobs of one part of the section `features`."""
        knobs = self._section("features", FeaturesConfig, self._tags(dataset))
        return {"features": {field.name: knobs[field.name] for field in dataclasses.fields(part)}}

    @functools.cached_property
    def kinds(self) -> dict[tuple[str, str], str]:
        """(method, data set) -> the kind of its result, a key of METHOD_STAGES."""
        found = {(m, d): self._kind(m, d) for d in self.datasets for m in self.methods}
        return {pair: kind for pair, kind in found.items() if kind is not None}

    def kind_of(self, method: str, dataset: str) -> str:
        """The kind of a result. Raises ConfigError where a method gives none."""
        if (method, dataset) not in self.kinds:
            able = ", ".join(name for name in self.datasets if (method, name) in self.kinds)
            raise ConfigError(
                f"{method} adapts to few-shot tasks, which {dataset}, a classification data set, does not have. "
                f"It gives results on {able}."
            )
        return self.kinds[method, dataset]

    def _kind(self, method: str, dataset: str) -> str | None:
        entry = methods.get(method)
        space = entry.space(build(entry.Config, self._search(method, dataset), f"search.{method}"))
        if space not in self._spaces:
            raise UnknownNameError(f"space in search.{method}.space:", space, self._spaces)
        if self.data_kind(dataset) == FEW_SHOT:
            return "adapted" if is_adapted(method) else "few_shot"
        if is_adapted(method):
            return None
        return "looked_up" if dataset in TABLES.get(space, ()) else "trained"

    def pairs(self, kind: str) -> dict[str, tuple[str, str]]:
        """Stem of the result's name -> (method, data set), of all results of a kind that can be asked for."""
        return {f"{pair[0]}_{pair[1]}": pair for pair, of in self.kinds.items() if of == kind}

    def _search(self, method: str, dataset: str) -> dict:
        return self._of_method("search", method, dataset)

    def _of_method(self, section: str, method: str, dataset: str) -> dict:
        """The knobs of one method in a section of METHOD_SECTIONS."""
        own = section_of(self.config, section).get(method) or {}
        knobs = getattr(methods.get(method), METHOD_SECTIONS[section])
        return self._section(section, knobs, self._tags(dataset), own, f"{section}.{method}")

    def method_files(self, method: str, dataset: str) -> Iterator[tuple[str, dict]]:
        """(file name, content) of all stages of one method on one data set."""
        kind = self.kinds[method, dataset]
        for stage, sections in METHOD_STAGES[kind].items():
            if stage == "supernet" and not has_supernet(method):
                continue
            params = {
                name: self._of_method(name, method, dataset)
                if name in METHOD_SECTIONS
                else self._section(name, SECTIONS[name], self._tags(dataset))
                for name in sections
            }
            if "episodes" in params:
                params["episodes"] = {name: params["episodes"][name] for name in SHAPE_OF_TASKS}
            yield f"{stage}_{method}_{dataset}.json", self._file(stage, dataset, params, method)

    def card_files(self) -> Iterator[tuple[str, dict]]:
        """(file name, content) of the tables of accuracies, and of the rating of proxies against them."""
        for space, datasets in TABLES.items():
            yield f"table_{space}.json", self._file("table", space, {"name": space})
            for dataset in datasets:
                tags = self._tags(dataset)
                score = {"space": space, "score": self._section("score", ScoreConfig, tags)}
                rate = {**score, "rate": self._section("rate", RateConfig, tags)}
                yield f"score_{space}_{dataset}.json", self._file("score", dataset, score)
                yield f"rate_{space}_{dataset}.json", self._file("rate", dataset, rate)

    def database(self, source: str) -> dict[str, dict]:
        """Knobs of the database whose tasks are made of the classes of `source`, and of the oracle it asks."""
        of_database = self._section("database", DatabaseConfig, self._tags(source))
        if of_database["space"] not in self._spaces:
            raise UnknownNameError("space in database.space:", of_database["space"], self._spaces)
        given, tags = section_of(self.config, "oracle"), self._tags(source)
        knobs = {
            name: self._section("oracle", oracles.get(name), tags, given.get(name) or {}, f"oracle.{name}")
            for name in self._oracles
        }
        return {"database": of_database, "oracle": knobs[of_database["oracle"]]}

    @functools.cached_property
    def database_tables(self) -> dict[str, str]:
        """Source -> space whose table of accuracies its database looks into. Raises ConfigError where there is none."""
        found = {}
        for source in self.datasets:
            params = self.database(source)["database"]
            if not oracles.get(params["oracle"]).needs_table:
                continue
            if params["space"] not in TABLES:
                raise ConfigError(
                    f"database.oracle is {params['oracle']}, but there is no table of accuracies of the space "
                    f"{params['space']}, only of {', '.join(TABLES)}. Set database.space or database.oracle."
                )
            found[source] = params["space"]
        return found

    def database_files(self, source: str) -> Iterator[tuple[str, dict]]:
        """(file name, content) of the database of a source."""
        params = self.database(source)
        entry = oracles.entry_of(params["database"]["oracle"])
        yield f"database_{source}.json", self._file("database", source, params, family=entry)

    def meta_files(self, source: str) -> Iterator[tuple[str, dict]]:
        """(file name, content) of the meta-trainings on the database of a source."""
        knobs = self._section("meta_train", MetaTrainConfig, self._tags(source))
        for stage, part in META_STAGES.items():
            params = {"meta_train": {field.name: knobs[field.name] for field in dataclasses.fields(part)}}
            yield f"{stage}_{source}.json", self._file(stage, source, params)

    def needed_files(self, method: str, dataset: str) -> dict[str, str]:
        """Argument of the search stage -> path, of what a method needs besides the images. Raises UnknownNameError."""
        entry = methods.get(method)
        source = needs.source_of(entry, self._search(method, dataset) if needs.has_source(entry) else {})
        if source is not None and source not in self.sources:
            hint = "A source is a few-shot data set, known or a folder of yours."
            raise UnknownNameError(f"source in search.{method}.source:", source, self.sources, hint)
        return needs.files_of(entry, dataset, source)

    @functools.cached_property
    def needed(self) -> dict[tuple[str, str], dict[str, str]]:
        """(method, data set) -> `needed_files`, where a method needs any."""
        found = {
            (m, d): self.needed_files(m, d)
            for m in self.methods
            if needs.needs_of(methods.get(m))
            for d in self.datasets
            if (m, d) in self.kinds
        }
        return {pair: files for pair, files in found.items() if files}

    @functools.cached_property
    def files(self) -> dict[str, dict]:
        """Every frozen parameter file: name -> content."""
        self._check_lists()
        _ = self.needed
        files = dict(self.card_files()) | dict(self.feature_files())
        for source in self.sources:
            files.update(self.meta_files(source))
        for dataset in self.datasets:
            files.update(self.data_files(dataset))
            files.update(self.database_files(dataset))
            for method in self.methods:
                if (method, dataset) in self.kinds:
                    files.update(self.method_files(method, dataset))
        listed, of_learned, of_adapted = classification(self.config), learned(self.config), adapted(self.config)
        shown = {
            "report": (
                ROWS,
                [
                    *itertools.product(*reversed(grid(self.config))),
                    *learned_pairs(of_learned, "few_shot"),
                    *itertools.product([*of_adapted["methods"], *of_adapted["supernets"]], of_adapted["datasets"]),
                ],
            ),
            "report_lookups": (
                LOOKUPS,
                [
                    *itertools.product(listed["looked_up"], listed["datasets"]),
                    *learned_pairs(of_learned, "looked_up"),
                ],
            ),
        }
        for stage, (folder, pairs) in shown.items():
            files[f"{stage}.json"] = {
                "stage": stage,
                "code": self._index.digest([PACKAGE / "stages" / f"{stage}.py"]),
                "others": other_rows(folder, {f"{method}_{dataset}" for method, dataset in pairs}),
            }
        self._index.save()
        return files

    def _check_lists(self) -> None:
        """Raises ConfigError when params.yaml lists a result under another kind than its own."""
        datasets, chosen = grid(self.config)
        listed = classification(self.config)
        wanted = {("grid", "few_shot"): (datasets, chosen)}
        wanted |= {("classification", kind): (listed["datasets"], listed[kind]) for kind in ("looked_up", "trained")}
        for (section, kind), (names, of_methods) in wanted.items():
            for method, dataset in itertools.product(of_methods, names):
                found = self.kind_of(method, dataset)
                if found != kind:
                    places = {"few_shot": "grid", "adapted": "adapted"}
                    place = places.get(found, f"classification.{found}")
                    raise ConfigError(
                        f"{section} in params.yaml lists {method} on {dataset} as '{kind}', but its result is of the "
                        f"kind '{found}'. List it under {place} instead"
                        + ("." if is_adapted(method) else f", or choose another search.{method}.space.")
                    )
        self._check_learned(learned(self.config), chosen, [*listed["looked_up"], *listed["trained"]])
        for space, dataset in itertools.product(listed["cards"], listed["datasets"]):
            if dataset not in TABLES[space]:
                raise ConfigError(
                    f"classification.cards: the table of {space} has no accuracies of {dataset}, only of "
                    f"{', '.join(TABLES[space])}."
                )

    def _check_learned(
        self, listed: Mapping[str, list[str]], chosen: Collection[str], elsewhere: Collection[str]
    ) -> None:
        """Raises ConfigError when a method that learns, or its control, is listed with others, or with another source.

        Args:
            chosen: methods of `grid`.
            elsewhere: those of `classification`.
        """
        for method in [*chosen, *elsewhere]:
            if needs.has_source(methods.get(method)):
                raise ConfigError(
                    f"{method} learns from a database beforehand. List it under learned in params.yaml, not under grid "
                    "or classification."
                )
        for method in chosen:
            if control_of(method) != CONTROL:
                raise ConfigError(
                    f"grid.methods cannot hold '{method}', whose control is '{control_of(method)}'. Name it under "
                    "learned.controls in params.yaml."
                )
        for source in listed["sources"]:
            if listed["methods"] and source in self.database_tables:
                raise ConfigError(
                    "learned in params.yaml lists results, but database.oracle looks into a table, which DVC cannot "
                    "follow. Leave learned.methods empty and name the results on Snakemake's command line."
                )
        for kind in LEARNED_KINDS:
            for method, dataset in learned_pairs(listed, kind):
                if self.kinds[method, dataset] != kind:
                    raise ConfigError(
                        f"learned.{kind} in params.yaml lists {dataset}, but the result of {method} on it is of the "
                        f"kind '{self.kinds[method, dataset]}'. List it under that key of learned."
                    )
                if method in listed["controls"]:
                    continue
                source = needs.source_of(methods.get(method), self._search(method, dataset))
                if source not in listed["sources"]:
                    raise ConfigError(
                        f"{method} on {dataset} learns from '{source}' (search.{method}.source), but learned.sources "
                        f"names {', '.join(listed['sources'])}. Let both name the same."
                    )
