"""Search spaces: genotypes and their text form, the networks they build, supernets with masks."""

from pipeline.core.registry import Registry

SPACES = Registry("spaces", "space")
get, names = SPACES.get, SPACES.names
