"""Stored episodes come back as they were, or not at all."""

import pytest

from pipeline.core.errors import ArtifactError
from pipeline.episodes import files
from pipeline.episodes.sampler import EpisodeSampler


@pytest.fixture
def episodes(folder_set):
    return {
        k_shot: [
            EpisodeSampler(folder_set, "base", n_way=4, k_shot=k_shot, n_query=3, seed=0).episode(i) for i in range(6)
        ]
        for k_shot in (1, 5)
    }


def test_what_is_read_is_what_was_written(episodes, tmp_path):
    files.write(tmp_path / "episodes.csv", episodes)
    found = files.read(tmp_path / "episodes.csv")
    assert list(found) == [1, 5]
    for k_shot, expected in episodes.items():
        for ours, theirs in zip(found[k_shot], expected, strict=True):
            for name in ("classes", "support", "query"):
                assert (getattr(ours, name) == getattr(theirs, name)).all()
                assert getattr(ours, name).shape == getattr(theirs, name).shape


def test_a_row_is_readable_by_people(episodes, tmp_path):
    files.write(tmp_path / "episodes.csv", episodes)
    head, first, *rest = (tmp_path / "episodes.csv").read_text().splitlines()
    assert head == "k_shot,episode,classes,support,query"
    episode = episodes[1][0]
    support, query = (" ".join(map(str, rows.ravel())) for rows in (episode.support, episode.query))
    assert first == f"1,0,{' '.join(map(str, episode.classes))},{support},{query}"
    assert len(rest) == 11


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) - 30],
        lambda text: text.replace("k_shot,", "shots,"),
        lambda text: text.replace("\n5,", "\n4,"),
        lambda text: text.replace(",0,", ",0,x ", 1),
        lambda text: "",
    ],
    ids=["cut", "other columns", "other shots", "no number", "empty"],
)
def test_a_damaged_file_is_an_error(episodes, tmp_path, damage):
    path = tmp_path / "episodes.csv"
    files.write(path, episodes)
    path.write_text(damage(path.read_text()))
    with pytest.raises(ArtifactError, match="damaged"):
        files.read(path)


def test_a_missing_file_is_an_error_that_names_the_stage(tmp_path):
    with pytest.raises(ArtifactError, match="episodes stage"):
        files.read(tmp_path / "nothing.csv")


def test_episodes_of_other_data_are_noticed(episodes, folder_set, two_folds, tmp_path):
    files.check(episodes, folder_set, "episodes.csv")
    with pytest.raises(ArtifactError, match="other prepared data"):
        files.check(episodes, two_folds, "episodes.csv")
