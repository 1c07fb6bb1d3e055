"""Read a raw archive into the memory-mapped array of images, its index and its manifest."""

from pipeline.core.device import n_cores
from pipeline.data.base import open_dataset
from pipeline.data.preparing import prepare
from pipeline.stages.common import add_prepared_arguments, checkpoint_path, machine, read_params_for


def add_arguments(parser) -> None:
    parser.add_argument("--dataset", required=True, metavar="NAME", help="data set, or folder of data.folders")
    parser.add_argument("--raw", required=True, metavar="FILE", help="the raw archive of the fetch stage")
    parser.add_argument("--params", required=True, metavar="FILE", help="frozen parameters (build/params)")
    add_prepared_arguments(parser)


def run(arguments) -> None:
    frozen = read_params_for(arguments.dataset, arguments.params)
    prepare(
        open_dataset(frozen.params),
        arguments.dataset,
        arguments.raw,
        images=arguments.images,
        index=arguments.index,
        manifest=arguments.manifest,
        n_workers=machine().threads or n_cores(),
        checkpoint=(checkpoint_path("prepare", arguments.dataset), frozen.digest),
    )
