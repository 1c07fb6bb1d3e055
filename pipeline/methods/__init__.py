"""Methods: recipes that name entries of the rooms; one file each. Importing one does not import torch."""

from pipeline.core.registry import Registry

METHODS = Registry("methods", "method")
get, names = METHODS.get, METHODS.names
