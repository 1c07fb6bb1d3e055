import pytest

from tests.e2e.project import SMALL, Project


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """A project whose whole grid Snakemake has made, on the real default images."""
    project = Project.copied(tmp_path_factory.mktemp("finished") / "project", SMALL)
    project.first_jobs = project.snakemake()
    project.first_result = project.result("metantk")
    project.save("results")
    return project
