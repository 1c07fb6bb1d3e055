"""List what can be named: methods, datasets, spaces, proxies, strategies, learners, oracles.

Data sets include the folders registered under data.folders in params.yaml.
"""

import importlib

from pipeline.core.types import KINDS
from pipeline.data import kind_of
from pipeline.stages.settings import FOLDER_FAMILY, PARAMS, folder_kind, folders, load

ROOMS = {
    "methods": "methods",
    "datasets": "data",
    "spaces": "spaces",
    "proxies": "proxies",
    "strategies": "strategies",
    "learners": "learners",
    "oracles": "recipes.oracles",
}


def add_arguments(parser) -> None:
    parser.add_argument("what", choices=list(ROOMS), help="what to list")
    parser.add_argument("--kind", choices=list(KINDS), help="only data sets of this kind")


def run(arguments) -> None:
    names = importlib.import_module(f"pipeline.{ROOMS[arguments.what]}").names()
    if arguments.what == "datasets":
        own = folders(load()) if PARAMS.exists() else {}
        kinds = {name: kind_of(name) for name in names if name != FOLDER_FAMILY}
        kinds |= {name: folder_kind(options) for name, options in own.items()}
        names = sorted(name for name, kind in kinds.items() if arguments.kind in (None, kind))
    print("\n".join(names))
