"""What a kernel cannot be computed from."""

from pipeline.core.errors import CapabilityError, PipelineError


class KernelError(PipelineError):
    """A matrix, count or constant that has no meaning as (part of) a kernel."""


class UnsupportedLayerError(CapabilityError):
    """A layer whose per-sample gradients an engine cannot give; the message names it and says what to do."""
