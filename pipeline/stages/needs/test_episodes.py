"""The stored test episodes, for methods whose architecture depends on the task."""

from dataclasses import dataclass
from typing import Any, ClassVar

from pipeline.stages.needs import NEEDS


@dataclass(frozen=True)
class StoredEpisodes:
    """What the test will be.

    Attributes:
        episodes: by shot; a search may look at their support images.
        digest: of their file.
    """

    episodes: dict[int, list[Any]]
    digest: str


@NEEDS.register("test_episodes")
class TestEpisodes:
    """Opens as `StoredEpisodes`."""

    __test__ = False  # the name begins like that of a test

    files: ClassVar[dict[str, tuple[str, str]]] = {
        "episodes": ("data/episodes/{dataset}.csv", "stored test episodes"),
    }

    @staticmethod
    def open(paths: dict[str, str], prepared: Any, device: Any) -> StoredEpisodes:
        from pipeline.core.artifacts import sha256
        from pipeline.episodes import files

        del device
        found = files.read(paths["episodes"])
        files.check(found, prepared, paths["episodes"])
        return StoredEpisodes(found, sha256(paths["episodes"]))
