"""params.yaml as a whole: its sections, their meaning, and the frozen parameter files made from them.

Import-light: reading the configuration imports neither torch nor any method's machinery.
"""

import functools
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from pipeline import data, methods
from pipeline.core.code import PACKAGE, CodeIndex
from pipeline.core.config import BUDGETS, resolve
from pipeline.core.errors import ArtifactError, ConfigError, UnknownNameError
from pipeline.core.types import FEW_SHOT
from pipeline.data.settings import FetchConfig, PrepareConfig
from pipeline.episodes.settings import EpisodesConfig
from pipeline.evaluation.settings import EvaluateConfig, NetworkConfig, TrainConfig

PARAMS = pathlib.Path("params.yaml")
CODE_CACHE = pathlib.Path("build/code.json")
CONTROL = "random"
FOLDER_FAMILY = "image_folder"
TOP_LEVEL = (
    "budget", "seed", "grid", "compute", "data", "prepare", "episodes", "network", "search", "train", "evaluate",
)  # fmt: skip
SECTIONS = {
    "prepare": PrepareConfig,
    "episodes": EpisodesConfig,
    "network": NetworkConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
}
# sections of params.yaml that each stage's frozen file carries
DATA_STAGES = {"prepare": ("prepare",), "episodes": ("episodes",)}
METHOD_STAGES = {
    "search": ("network", "search"),
    "train": ("network", "train"),
    "evaluate": ("network", "train", "evaluate"),
    "compare": (),
}


def load(path: str | os.PathLike = PARAMS) -> dict[str, Any]:
    """params.yaml as a mapping. Raises ArtifactError or ConfigError when it is missing or not YAML."""
    try:
        content = yaml.safe_load(pathlib.Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing. Run from the project's folder, or restore it from git.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold sections of `key: value` lines.")
    return content


def folders(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The user's own image folders: name -> options. Raises ConfigError for names that cannot be used."""
    named = (config.get("data") or {}).get("folders") or {}
    if not isinstance(named, Mapping):
        raise ConfigError(
            "data.folders must map names to options, e.g. data.folders: {birds: {path: /pictures/birds}}."
        )
    for name, options in named.items():
        if not re.fullmatch(r"[a-z][a-z0-9]*", str(name)):
            raise ConfigError(f"data.folders.{name}: a name is made of small letters and digits, letters first.")
        if name in data.names():
            raise ConfigError(f"data.folders.{name}: that is the name of a known data set. Choose another.")
        if not isinstance(options, Mapping):
            raise ConfigError(f"data.folders.{name} must be options such as {{path: /pictures/birds}}.")
    return dict(named)


def known_datasets(config: Mapping[str, Any]) -> list[str]:
    """Names that may stand for {dataset} in a target."""
    return sorted([name for name in data.names() if name != FOLDER_FAMILY] + list(folders(config)))


def grid(config: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The (datasets, methods) that `snakemake` without a target and `dvc repro` make. Raises ConfigError."""
    section = config.get("grid") or {}
    for key in section:
        if key not in ("datasets", "methods"):
            raise UnknownNameError("key in grid:", key, ("datasets", "methods"))
    datasets, chosen = section.get("datasets") or [], section.get("methods") or []
    for kind, names, known in (("data set", datasets, known_datasets(config)), ("method", chosen, methods.names())):
        if not isinstance(names, list):
            raise ConfigError(f"grid: the {kind}s must be a list, not {names!r}.")
        for name in names:
            if name not in known:
                raise UnknownNameError(kind, name, known, "(grid in params.yaml)")
    if chosen and CONTROL not in chosen:
        raise ConfigError(f"grid.methods must hold '{CONTROL}': every result stands beside its random control.")
    return datasets, chosen


def check_top_level(config: Mapping[str, Any]) -> None:
    """Raises ConfigError for unknown sections, budgets and values outside the typed sections."""
    for key in config:
        if key not in TOP_LEVEL:
            raise UnknownNameError("key in params.yaml:", key, TOP_LEVEL)
    if config.get("budget") not in BUDGETS:
        raise UnknownNameError("budget", config.get("budget"), BUDGETS)
    if not isinstance(config.get("seed"), int) or isinstance(config["seed"], bool) or config["seed"] < 0:
        raise ConfigError(f"seed is {config.get('seed')!r}; a whole number from 0 up is needed.")
    for section, keys in (("compute", ("device", "threads")), ("data", ("mirror", "folders"))):
        for key in config.get(section) or {}:
            if key not in keys:
                raise UnknownNameError(f"key in {section}:", key, keys)
    threads = (config.get("compute") or {}).get("threads", 0)
    if not isinstance(threads, int) or threads < 0:
        raise ConfigError(f"compute.threads is {threads!r}; a whole number is needed, 0 for all cores.")
    for name in config.get("search") or {}:
        if name not in methods.names():
            raise UnknownNameError("method in search:", name, methods.names())


def machine_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Where bytes are found and what computes; kept out of the frozen files because it never says which bytes."""
    compute, of_data = config.get("compute") or {}, config.get("data") or {}
    mirror = of_data.get("mirror")
    return {
        "mirror": None if mirror is None else str(pathlib.Path(mirror).expanduser().absolute()),
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


class Freezer:
    """Resolves params.yaml for every job of the workflow."""

    def __init__(self, config: Mapping[str, Any]):
        check_top_level(config)
        self.config, self.folders = config, folders(config)
        self.datasets, self.methods = known_datasets(config), methods.names()
        grid(config)
        base = {field: self._section(field, NetworkConfig, (config["budget"],)) for field in ("network",)}
        self.cells_tag = f"{base['network']['n_cells']}cells"
        self._code: dict[Any, str] = {}
        self._index = CodeIndex(CODE_CACHE)

    def _section(self, name: str, cls: type, tags: tuple[str, ...], section: Any = None, where: str = "") -> dict:
        known = {*BUDGETS, *self.datasets, *(f"{count}cells" for count in range(1, 100))}
        section = self.config.get(name) if section is None else section
        return resolve(cls, section, tags, known, where or name)

    def _tags(self, dataset: str) -> tuple[str, ...]:
        return (self.config["budget"], dataset, self.cells_tag)

    def _file(self, stage: str, dataset: str, params: dict, method: str | None = None, family: str = "") -> dict:
        used = frozenset([*names_in(params), *([method] if method else []), *([family] if family else [])])
        key = (stage, used)
        if key not in self._code:
            self._code[key] = self._index.digest([PACKAGE / "stages" / f"{stage}.py"], sorted(used))
        frozen = {
            "stage": stage,
            "dataset": dataset,
            "budget": self.config["budget"],
            "seed": self.config["seed"],
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
        folder = {"folder": options} if dataset in self.folders else {}
        yield f"fetch_{dataset}.json", self._file("fetch", dataset, {"family": family, **folder}, family=family)
        for stage, sections in DATA_STAGES.items():
            if stage == "episodes" and data.kind_of(family) != FEW_SHOT:
                continue
            params = {name: self._section(name, SECTIONS[name], self._tags(dataset)) for name in sections}
            if stage == "prepare":
                params = {"family": family, **folder, **params}
            yield f"{stage}_{dataset}.json", self._file(stage, dataset, params, family=family * (stage == "prepare"))

    def method_files(self, method: str, dataset: str) -> Iterator[tuple[str, dict]]:
        """(file name, content) of search, train, evaluate and compare for one method on one data set."""
        own = (self.config.get("search") or {}).get(method) or {}
        for stage, sections in METHOD_STAGES.items():
            params = {
                name: self._section(name, methods.get(method).Config, self._tags(dataset), own, f"search.{method}")
                if name == "search"
                else self._section(name, SECTIONS[name], self._tags(dataset))
                for name in sections
            }
            yield f"{stage}_{method}_{dataset}.json", self._file(stage, dataset, params, method)

    @functools.cached_property
    def files(self) -> dict[str, dict]:
        """Every frozen parameter file: name -> content."""
        files = {}
        for dataset in self.datasets:
            files.update(self.data_files(dataset))
            for method in self.methods:
                files.update(self.method_files(method, dataset))
        files["report.json"] = {"stage": "report", "code": self._index.digest([PACKAGE / "stages" / "report.py"])}
        self._index.save()
        return files
