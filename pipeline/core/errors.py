"""Errors a user can act on. Each message says what was given, what is allowed and what to do."""

import difflib
import reprlib
from collections.abc import Iterable
from typing import Any

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 120


def shown(value: Any) -> str:
    """A value as messages show it: shortened, whatever it holds."""
    try:
        return _SHORT.repr(value)
    # Python refuses to write numbers of thousands of digits
    except ValueError:
        return f"a {type(value).__name__} with a number of thousands of digits"


class PipelineError(Exception):
    """Anything the user can mend; the command line prints its message as one paragraph and exits with 1."""


class ConfigError(PipelineError):
    """A key or value of the configuration that is unknown, of the wrong type or out of range."""


class UnknownNameError(ConfigError):
    """A name that no registry entry, stage, data set, budget or key carries."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = ""):
        known, name = sorted(known), name if isinstance(name, str) else shown(name)
        near = difflib.get_close_matches(name[:100], known, n=1, cutoff=0.6)
        meant = f" Did you mean '{near[0]}'?" if near else ""
        listed = ", ".join(known) if known else "none"
        super().__init__(f"Unknown {kind} '{name}'.{meant} Known: {listed}.{' ' + hint if hint else ''}")


class DataError(PipelineError):
    """Images, archives or splits that cannot be used as they are."""


class DownloadError(DataError):
    """A source that neither the local mirror nor its official address could give."""


class ArtifactError(PipelineError):
    """A file of the workflow that is missing, damaged or cannot be written."""


class DiskFullError(ArtifactError):
    """No room left where an artifact was to be written; nothing half-written stays behind."""


class DeviceError(PipelineError):
    """A device that was asked for and is not there, or has too little memory."""


class CapabilityError(PipelineError):
    """A space, strategy or proxy asked to do what it cannot."""


class ScoreError(PipelineError):
    """Scores that cannot be compared, because none of them is a number."""


class GenotypeError(PipelineError):
    """A genotype or mask that its space does not hold."""


class TrainingError(PipelineError):
    """A training that has diverged or cannot start; its weights are never used."""


class JobError(PipelineError):
    """A stage that was submitted to a cluster and failed there in every try."""
