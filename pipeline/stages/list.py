"""List what can be named: methods, datasets, spaces, proxies, strategies, learners.

Data sets include the folders registered under data.folders in params.yaml.
"""

import importlib

from pipeline.stages.settings import FOLDER_FAMILY, PARAMS, folders, load

ROOMS = {
    "methods": "methods",
    "datasets": "data",
    "spaces": "spaces",
    "proxies": "proxies",
    "strategies": "strategies",
    "learners": "learners",
}


def add_arguments(parser) -> None:
    parser.add_argument("what", choices=list(ROOMS), help="what to list")


def run(arguments) -> None:
    names = importlib.import_module(f"pipeline.{ROOMS[arguments.what]}").names()
    if arguments.what == "datasets":
        own = folders(load()) if PARAMS.exists() else {}
        names = sorted([*(name for name in names if name != FOLDER_FAMILY), *own])
    print("\n".join(names))
