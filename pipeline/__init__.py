"""Few-shot neural architecture search: find, train and honestly compare architectures from a few pictures a class."""

__version__ = "0.1.0"
