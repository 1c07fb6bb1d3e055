"""Leaving on SIGTERM, and checkpoints that are torn when a machine goes down."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from pipeline.core import stopping
from pipeline.core.checkpoint import Checkpoint, Kept, Pace
from pipeline.core.progress import track
from pipeline.core.stopping import Stopped, listening


def told(n: int = 1) -> None:
    for _ in range(n):
        signal.raise_signal(signal.SIGTERM)


def test_the_item_at_hand_is_finished_before_the_process_leaves():
    seen = []
    with pytest.raises(Stopped), listening():
        for item in track(range(5), "items"):
            if item == 2:
                told()
            seen.append(item)
    assert seen == [0, 1, 2] and not stopping.asked()


def test_work_that_ends_by_itself_is_not_stopped():
    with listening():
        told()
        assert stopping.asked()
    assert not stopping.asked()


def test_a_step_longer_than_the_grace_time_is_broken_off(monkeypatch):
    monkeypatch.setattr(stopping, "GRACE_SECONDS", 0.05)
    started = time.monotonic()
    with pytest.raises(Stopped), listening():
        told()
        time.sleep(20)
    assert time.monotonic() - started < 10


def test_a_second_signal_does_not_wait():
    with pytest.raises(Stopped), listening():
        told(2)


def test_outside_the_block_the_signal_means_what_it_meant():
    before = signal.getsignal(signal.SIGTERM)
    with listening():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_state_is_due_when_time_has_passed_and_when_the_process_is_told_to_stop():
    now = [0.0]
    pace = Pace(10, lambda: now[0])
    assert not pace.due
    now[0] = 10.0
    assert pace.due
    pace.restart()
    assert not pace.due
    with listening():
        told()
        assert pace.due


@pytest.fixture
def twice(tmp_path) -> Checkpoint:
    """A checkpoint that has been saved twice."""
    checkpoint = Checkpoint(tmp_path / "job.pt", {"of": "this"})
    for number in (1, 2):
        checkpoint.save({"number": number, "weights": torch.full((50, 50), float(number))})
    return checkpoint


def torn(path, how: str) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    if how == "cut":
        del content[middle:]
    elif how == "flipped":
        content[middle] ^= 1
    elif how == "zeros":
        content[middle:] = bytes(len(content) - middle)
    else:
        content.clear()
    path.write_bytes(content)


def test_the_last_state_is_loaded_and_both_are_cleared(twice):
    assert twice.load()["number"] == 2
    twice.clear()
    assert twice.load() is None and not list(twice.path.parent.iterdir())


@pytest.mark.parametrize("how", ["cut", "flipped", "zeros", "emptied"])
def test_a_torn_state_gives_way_to_the_one_before(how, twice, capfd):
    torn(twice.path, how)
    assert torch.equal(twice.load()["weights"], torch.full((50, 50), 1.0))
    assert "is damaged" in capfd.readouterr().err
    # the next state stands beside the whole one, not beside the torn one
    twice.save({"number": 3})
    torn(twice.path, how)
    assert twice.load()["number"] == 1


def test_when_both_are_torn_the_work_starts_afresh(twice):
    torn(twice.path, "flipped")
    torn(twice.previous, "cut")
    assert twice.load() is None


def test_a_power_cut_between_the_two_renamings_loses_only_the_last_state(twice):
    os.replace(twice.path, twice.previous)
    assert twice.load()["number"] == 2


def test_a_state_of_another_key_is_passed_over_and_kept(twice, capfd):
    other = Checkpoint(twice.path, {"of": "that"})
    assert other.load() is None
    assert "other parameters or data" in capfd.readouterr().err
    assert twice.load()["number"] == 2


def test_every_bit_of_a_checkpoint_is_guarded(tmp_path):
    checkpoint = Checkpoint(tmp_path / "job.pt", "key")
    checkpoint.save({"numbers": [1.5, 2.5]})
    whole = checkpoint.path.read_bytes()
    for place in range(0, len(whole), 37):
        changed = bytearray(whole)
        changed[place] ^= 16
        checkpoint.path.write_bytes(changed)
        assert checkpoint.load() is None, place


def test_pieces_that_are_kept_are_not_made_again(tmp_path):
    made = []

    def make(item: int):
        made.append(item)
        if item == 3 and len(made) == 4:
            told()
        return torch.tensor([item])

    def job(kept: Kept) -> list:
        return [int(one) for name in ("a", "b") for one in kept.pieces(name, range(5), make)]

    path = tmp_path / "job.pt"
    with pytest.raises(Stopped), listening():
        job(Kept(Checkpoint(path, "key")))
    kept = Kept(Checkpoint(path, "key"))
    assert job(kept) == 2 * [0, 1, 2, 3, 4]
    assert made == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    kept.clear()
    assert not path.exists() and job(Kept()) == 2 * [0, 1, 2, 3, 4]


TEED = """
import sys, time
from pipeline.core.stopping import Stopped, listening
from pipeline.core.progress import say, track
with listening():
    try:
        for item in track(range(1000), "items"):
            say(f"item {item}")
            time.sleep(0.05)
    except Stopped:
        say("stopped")
        open(sys.argv[1], "w").write("saved")
        sys.exit(143)
"""


def test_a_log_whose_reader_was_told_to_stop_too_does_not_keep_the_state_from_being_saved(tmp_path):
    saved = tmp_path / "saved"
    shell = f"{sys.executable} -c '{TEED}' {saved} 2>&1 | tee {tmp_path / 'log'}"
    running = subprocess.Popen(["bash", "-c", shell], start_new_session=True)
    while not (tmp_path / "log").exists() or not (tmp_path / "log").stat().st_size:
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGTERM)
    running.wait()
    deadline = time.monotonic() + 20
    while not saved.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert saved.exists()
