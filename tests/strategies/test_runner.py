"""The loop of ask and tell ends the same however often it is interrupted, and does nothing twice that it has saved."""

import pytest
import torch

from pipeline.core.checkpoint import Checkpoint
from pipeline.strategies.runner import Context, run
from tests.strategies.toy import answer, start


class InterruptionError(Exception):
    pass


class ToyEvaluator:
    """One job per candidate; may break off after a number of jobs, as a killed process would."""

    def __init__(self, break_after: int | None = None):
        self.break_after, self.n_run, self.n_closed = break_after, 0, 0

    def n_jobs(self, n_candidates):
        return n_candidates

    def jobs(self, strategy):
        return list(range(len(strategy.ask())))

    def run(self, strategy, jobs):
        wanted = answer(strategy)["quality"]
        try:
            for job in jobs:
                if self.n_run == self.break_after:
                    raise InterruptionError
                self.n_run += 1
                yield job, {"value": wanted.values[job], "seconds": 1.0, "n_evaluations": 1, "peak_mib": 5.0}
        finally:
            self.n_closed += 1

    def measured(self, strategy, results):
        measured = answer(strategy)["quality"]
        assert [results[job]["value"] for job in range(len(measured.values))] == measured.values
        return {"quality": measured}

    def rows(self, number, results, verdicts):
        return [{"round": number, "event": one.event, "candidate": list(one.candidate)} for one in verdicts]


def context(path) -> Context:
    return Context(None, seed=0, n_cells=2, device=torch.device("cpu"), checkpoint=Checkpoint(path, "key"))


def finish(path, break_after=None, save_every=0.0):
    strategy, evaluator, here = start("prune_by_rank"), ToyEvaluator(break_after), context(path)
    run(strategy, evaluator, here, "toy", save_every=save_every)
    return strategy, evaluator, here


@pytest.mark.parametrize("break_after", range(14))
def test_an_interrupted_search_resumes_to_the_same_end_without_repeating_saved_work(tmp_path, break_after):
    whole, _, undisturbed = finish(tmp_path / "whole.pt")
    with pytest.raises(InterruptionError):
        finish(tmp_path / "cut.pt", break_after)
    resumed, evaluator, here = finish(tmp_path / "cut.pt")
    assert resumed.found() == whole.found()
    assert here.journal.rows == undisturbed.journal.rows
    assert evaluator.n_run == 15 - break_after
    assert here.journal.network_evaluations == 15
    assert here.journal.device_seconds == 15.0


def test_without_saves_inside_a_round_only_whole_rounds_are_kept(tmp_path):
    with pytest.raises(InterruptionError):
        finish(tmp_path / "cut.pt", break_after=12, save_every=1e9)
    _, evaluator, _ = finish(tmp_path / "cut.pt")
    assert evaluator.n_run == 6


def test_the_journal_counts_work_and_values_that_are_none(tmp_path):
    _, evaluator, here = finish(tmp_path / "state.pt")
    assert here.journal.not_finite == {"quality": 0}
    assert here.journal.peak_memory_mib == 5.0
    assert evaluator.n_closed == 2


def test_wall_seconds_grow_over_resumed_runs(tmp_path):
    with pytest.raises(InterruptionError):
        finish(tmp_path / "cut.pt", break_after=9)
    before = context(tmp_path / "cut.pt").journal.wall_seconds
    _, _, here = finish(tmp_path / "cut.pt")
    assert here.journal.wall_seconds > before > 0


def test_the_state_of_another_search_is_not_taken_over(tmp_path):
    here = context(tmp_path / "state.pt")
    here.save("first", {"x": 1})
    assert context(tmp_path / "state.pt").state_of("first") == {"x": 1}
    assert context(tmp_path / "state.pt").state_of("second") is None


def test_progress_says_how_much_is_done_and_left(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("pipeline.core.progress.LOG_INTERVAL_SECONDS", 0.0)
    finish(tmp_path / "state.pt")
    assert "toy: 14 of 15" in capsys.readouterr().err
