"""Search spaces: what a genotype is, its text, and the networks it stands for. `get(name)` gives a space's class."""

from pipeline.core.registry import Registry

SPACES = Registry("spaces", "space")
get = SPACES.get
names = SPACES.names
