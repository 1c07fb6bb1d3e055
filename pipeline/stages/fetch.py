"""Get a data set's files from the local mirror or the official source, and pack them into one raw archive."""

from pipeline.data.base import open_dataset
from pipeline.data.fetching import fetch
from pipeline.stages.common import machine, read_params_for


def add_arguments(parser) -> None:
    parser.add_argument("--dataset", required=True, metavar="NAME", help="data set, or folder of data.folders")
    parser.add_argument("--params", required=True, metavar="FILE", help="frozen parameters (build/params)")
    parser.add_argument("--out", required=True, metavar="FILE", help="the raw archive to write (.tar)")


def run(arguments) -> None:
    frozen = read_params_for(arguments.dataset, arguments.params)
    fetch(open_dataset(frozen.params), arguments.dataset, arguments.out, mirror=machine().mirror)
