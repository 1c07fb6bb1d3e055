"""Named tensors in one safetensors file, with a word on what they are."""

import json
from collections.abc import Mapping
from typing import Any

from pipeline.core.artifacts import PathLike, writing
from pipeline.core.errors import ArtifactError

KEY = "few_shot_nas"


def write_tensors(path: PathLike, tensors: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Write tensors by name, and JSON-able `facts`, the same bytes each time. Raises as `writing` does."""
    from safetensors.torch import save

    # one key: safetensors writes several in an order that changes from run to run
    content = save(dict(tensors), metadata={KEY: json.dumps(facts, sort_keys=True)})
    with writing(path, "wb") as file:
        file.write(content)


def read_tensors(path: PathLike, stage: str) -> dict[str, Any]:
    """The tensors of such a file by name, on the CPU. Raises ArtifactError naming the `stage` that makes it."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing. Run the {stage} stage (see `snakemake -n {path}`).") from None
    except (SafetensorError, ValueError, LookupError, TypeError, OverflowError, RuntimeError) as error:
        raise ArtifactError(f"{path} is damaged ({error}). Delete it and run the {stage} stage again.") from None
