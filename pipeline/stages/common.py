"""What every stage needs: its frozen parameters, and the machine it runs on."""

import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.core.artifacts import digest, read_json
from pipeline.core.errors import ConfigError

FROZEN = pathlib.Path("build/params")
MACHINE = pathlib.Path("build/machine.json")
CHECKPOINTS = pathlib.Path("build/checkpoints")
MIRROR_VARIABLE = "FEWSHOT_NAS_MIRROR"
THREADS_TO_ADAPT = 1
"""Of jobs that adapt networks to tasks, where no number is set: more would wait for each other, and two jobs side by
side need them."""


@dataclass(frozen=True)
class Frozen:
    """The frozen parameter file of one job.

    Attributes:
        source: the few-shot set whose feature network describes the data set; None for stages that use none.
        params: resolved knobs, one dict per section for stages that use several.
        budget: None for stages that work alike under all.
        seed: run seed, from which every random stream is derived; None for stages that draw nothing.
        code: digest of the code the stage can reach.
        digest: SHA-256 over all of the above; names the job's configuration in artifacts and checkpoints.
    """

    stage: str
    dataset: str
    method: str | None
    budget: str | None
    seed: int | None
    params: dict[str, Any]
    code: str
    digest: str = field(default="")
    source: str | None = None


def read_params(path: str | os.PathLike) -> Frozen:
    """Read a file of build/params/. Raises ArtifactError or ConfigError when it is missing or not such a file."""
    raw = read_json(path)
    try:
        return Frozen(
            **{name: raw[name] for name in ("stage", "dataset", "budget", "seed", "params", "code")},
            method=raw.get("method"),
            source=raw.get("source"),
            digest=digest(raw),
        )
    except (KeyError, TypeError, ValueError):
        raise ConfigError(
            f"{path} is not a frozen parameter file. Make it with `python -m pipeline freeze` from params.yaml."
        ) from None


def read_params_for(dataset: str, path: str | os.PathLike) -> Frozen:
    """`read_params`, for a job on `dataset`. Raises ConfigError when the file belongs to another data set."""
    frozen = read_params(path)
    if frozen.dataset != dataset:
        raise ConfigError(
            f"{path} holds the parameters of the data set '{frozen.dataset}', but --dataset is '{dataset}'. "
            "Give the file that belongs to it."
        )
    return frozen


@dataclass(frozen=True)
class Machine:
    """Where to find bytes and on what to compute; never part of what is computed.

    Attributes:
        mirror: folder that is looked in before the official sources, or None.
        device: name for `pipeline.core.device.choose_device`.
        threads: processor cores a job may use; 0 for all.
    """

    mirror: str | None = None
    device: str = "auto"
    threads: int = 0

    @property
    def threads_to_adapt(self) -> int:
        """The same of a job that adapts networks to tasks."""
        return self.threads or THREADS_TO_ADAPT


def machine() -> Machine:
    """The machine's settings as the last freeze left them; the mirror's environment variable goes before them."""
    settings = read_json(MACHINE) if MACHINE.exists() else {}
    mirror = os.environ.get(MIRROR_VARIABLE) or settings.get("mirror")
    return Machine(mirror=mirror, device=settings.get("device", "auto"), threads=int(settings.get("threads", 0)))


def data_standing(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a provenance says about the images of a prepared set: official, or what else they are."""
    if manifest["official"]:
        return {"official_data": True}
    own = any(source["origin"] == "user" for source in manifest["sources"])
    variant = "the user's own images" if own else "a mirror's variant of the data, not the official files"
    return {"official_data": False, "data_variant": variant}


def checkpoint_path(stage: str, *names: str) -> pathlib.Path:
    """Where a job keeps the state it resumes from; not an output, so no retry deletes it."""
    return CHECKPOINTS / f"{'_'.join([stage, *names])}.pt"


def add_prepared_arguments(parser) -> None:
    """The three files of a prepared set, as arguments of a stage."""
    for name, what in (("images", "memory-mapped images"), ("index", "table of images"), ("manifest", "manifest")):
        parser.add_argument(f"--{name}", required=True, metavar="FILE", help=f"{what} of the prepared set")
