"""What `dvc.lock` says, and what becomes of one that is damaged."""

import pytest

from pipeline.core.errors import ArtifactError
from pipeline.stages.track import recorded_stages, unrecorded, upstream_first


def test_a_missing_or_empty_lock_records_nothing(tmp_path):
    lock = tmp_path / "dvc.lock"
    assert recorded_stages(lock) == {}
    lock.write_text("")
    assert recorded_stages(lock) == {}


@pytest.mark.parametrize(
    "content",
    [
        "<<<<<<< HEAD\nstages: {}\n",
        "stages: [",
        "a: !!bool x\n",
        "- a\n",
        "stages: 3\n",
        "stages: {a: 3}\n",
        "a: 2001-99-99\n",
    ],
)
def test_a_damaged_lock_is_named_with_the_way_out(content, tmp_path):
    lock = tmp_path / "dvc.lock"
    lock.write_text(content)
    with pytest.raises(ArtifactError, match=r"(?s)dvc\.lock, in which DVC keeps .*mark of a conflict.*git checkout"):
        recorded_stages(lock)


def test_a_stage_comes_after_those_that_make_what_it_reads():
    stages = {
        "train": {"deps": [{"path": "genotype"}], "outs": [{"path": "weights"}]},
        "search": {"deps": [{"path": "images"}], "outs": [{"path": "genotype"}]},
        "prepare": {"outs": [{"path": "images"}]},
    }
    assert list(upstream_first(stages)) == ["prepare", "search", "train"]


def test_all_files_of_a_job_are_unrecorded_where_one_is_unknown_or_of_another_size(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("known", "grown", "beside", "new"):
        (tmp_path / name).write_text("1234")
    outs = [{"path": "known", "size": 4}, {"path": "grown", "size": 3}, {"path": "beside", "size": 4}]
    jobs = [["known"], ["grown", "beside"], ["new"]]
    assert unrecorded(jobs, {"stage": {"outs": outs}}) == {"grown", "beside", "new"}
