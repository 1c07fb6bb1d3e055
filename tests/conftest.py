"""One thread for each test process: pytest runs as many processes as there are cores."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
# tests start processes by the hundred, each of which would compile all that it imports
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import torch

torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    """The longest files come first, so that no process waits for another at the end."""
    items.sort(key=lambda item: item.get_closest_marker("e2e") is None)
