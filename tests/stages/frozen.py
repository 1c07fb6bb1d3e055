"""Frozen parameter files, and stages run as the command line runs them."""

import argparse
import importlib
import json
import pathlib

from pipeline.core.config import resolve
from pipeline.data import names
from pipeline.data.settings import FetchConfig, PrepareConfig
from pipeline.episodes.settings import EpisodesConfig

BUDGETS = ("laptop", "gpu", "paper")


def freeze(folder: pathlib.Path, stage: str, dataset: str, *, family=None, spec=None, prepare=None, episodes=None):
    """The frozen file of a data stage, as `python -m pipeline freeze` writes it."""
    known = {*BUDGETS, *names(), dataset}
    params = {"family": family or dataset}
    if spec is not None:
        params["folder"] = resolve(FetchConfig, spec, ("laptop", dataset), known, "data.folders")
    if stage == "prepare":
        params["prepare"] = resolve(PrepareConfig, prepare or {}, ("laptop", dataset), known, "prepare")
    if stage == "episodes":
        params = {"episodes": resolve(EpisodesConfig, episodes or {}, ("laptop", dataset), known, "episodes")}
    path = folder / f"{stage}_{dataset}.json"
    content = {"stage": stage, "dataset": dataset, "budget": "laptop", "seed": 0, "params": params, "code": "0"}
    path.write_text(json.dumps(content))
    return path


def run(stage: str, **paths) -> None:
    """Run a stage with these options."""
    module = importlib.import_module(f"pipeline.stages.{stage}")
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    options = [word for name, value in paths.items() for word in (f"--{name}", str(value))]
    module.run(parser.parse_args(options))
