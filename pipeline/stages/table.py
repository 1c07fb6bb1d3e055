"""Bring a table of published accuracies from the local mirror into one plain file, with its provenance beside it."""

import pathlib

from pipeline.data.published_tables import make
from pipeline.stages.common import machine, read_params_for


def add_arguments(parser) -> None:
    parser.add_argument("--name", required=True, metavar="NAME", help="search space that the table is about")
    parser.add_argument("--params", required=True, metavar="FILE", help="frozen parameters (build/params)")
    parser.add_argument(
        "--out", required=True, metavar="FILE", help="the table to write (.csv); its provenance goes beside it (.json)"
    )


def beside(arguments) -> list[str]:
    """Files that are written besides those that the arguments name."""
    return [str(pathlib.Path(arguments.out).with_suffix(".json"))]


def run(arguments) -> None:
    frozen = read_params_for(arguments.name, arguments.params)
    (facts,) = beside(arguments)
    make(frozen.params["name"], arguments.out, facts, mirror=machine().mirror)
