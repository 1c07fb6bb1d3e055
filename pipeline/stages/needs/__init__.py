"""What a method may need besides the images it searches for; one file per kind.

A method that has `needs`, names of entries, gets them in `context.given`; one that learned from another data set has
`source(config)` too, that data set's name. An entry has

- `files`: argument of the search stage -> (path with {method}, {dataset} and {source}, what it is);
- `open(paths, prepared, device)`: the thing, with a `digest` that names its content.

The workflow's rules, `dvc.yaml` and the arguments of the search stage follow from `files`. Entries import what reads
files inside `open`: paths are wanted whenever the configuration is read.
"""

from typing import Any

from pipeline.core.config import build
from pipeline.core.errors import ArtifactError
from pipeline.core.registry import Registry

NEEDS = Registry("stages/needs", "need of a method")
get, names = NEEDS.get, NEEDS.names


def needs_of(method: Any) -> tuple[str, ...]:
    """What a method needs; nothing for most."""
    return getattr(method, "needs", ())


def has_source(method: Any) -> bool:
    """Whether a method learned from another data set beforehand."""
    return hasattr(method, "source")


def source_of(method: Any, knobs: dict[str, Any]) -> str | None:
    """The data set that a method learned from, None for methods that learned from no other."""
    return method.source(build(method.Config, knobs)) if has_source(method) else None


def files_of(method: Any, dataset: str, source: str | None) -> dict[str, str]:
    """Argument of the search stage -> path, of all that a method needs for a data set."""
    return {
        argument: path.format(method=method.name, dataset=dataset, source=source)
        for name in needs_of(method)
        for argument, (path, _) in get(name).files.items()
    }


def option(argument: str) -> str:
    return f"--{argument.replace('_', '-')}"


def add_arguments(parser) -> None:
    """All files that some method may need, as optional arguments."""
    for name in names():
        for argument, (_, what) in get(name).files.items():
            parser.add_argument(option(argument), metavar="FILE", help=f"{what}, for methods that need it")


def opened(method: Any, arguments, prepared: Any, device: Any) -> dict[str, Any]:
    """What a method needs, by name, from the files that the arguments name.

    Raises ArtifactError when one that is needed is not named, or one that is not needed is.
    """
    wanted = {argument for name in needs_of(method) for argument in get(name).files}
    every = {argument for name in names() for argument in get(name).files}
    missing = sorted(option(argument) for argument in wanted if getattr(arguments, argument) is None)
    useless = sorted(option(argument) for argument in every - wanted if getattr(arguments, argument) is not None)
    if missing or useless:
        what = f"needs {', '.join(missing)}" if missing else f"has no use for {', '.join(useless)}"
        raise ArtifactError(
            f"The method {method.name} {what}. `snakemake -n -p results/{method.name}_{prepared.name}.json` prints the "
            "whole command."
        )
    return {
        name: get(name).open({file: getattr(arguments, file) for file in get(name).files}, prepared, device)
        for name in needs_of(method)
    }
