"""Prepared sets that several tests look at."""

import pytest

from pipeline.data.settings import PrepareConfig
from tests.data.tiny_sources import made, made_folder


@pytest.fixture(scope="session")
def doublemnist(tmp_path_factory):
    """The embedded default, made from the real digits."""
    return made(tmp_path_factory.mktemp("doublemnist"), "doublemnist", knobs=PrepareConfig())


@pytest.fixture(scope="session")
def folder_set(tmp_path_factory):
    """A user's folder of 12 classes with 6 colour images of 8 pixels each."""
    return made_folder(tmp_path_factory.mktemp("folder"))
