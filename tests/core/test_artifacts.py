"""Files are whole or absent."""

import errno
import fcntl
import os
import shutil
import stat
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from pipeline.core.artifacts import (
    digest,
    read_json,
    resuming_array,
    scratch_folder,
    sha256,
    to_json,
    write_json,
    write_text,
    write_texts,
    writing,
    writing_array,
)
from pipeline.core.checkpoint import Checkpoint
from pipeline.core.errors import ArtifactError, DiskFullError


def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError, match="half way"), writing(path) as file:
        file.write('{"a": ')
        raise RuntimeError("half way")
    assert read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["result.json"]


def test_a_failure_while_filling_an_array_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), writing_array(tmp_path / "a.npy", (4, 2), np.uint8) as array:
        array[0] = 1
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_an_array_reads_back_as_it_was_filled(tmp_path):
    with writing_array(tmp_path / "a.npy", (5, 3), np.int64) as array:
        array[:] = np.arange(15).reshape(5, 3)
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.arange(15).reshape(5, 3))


def test_an_array_larger_than_the_disk_is_refused_before_anything_is_written(tmp_path):
    beyond = shutil.disk_usage(tmp_path).free + 2**30
    with pytest.raises(DiskFullError, match="MiB free"), writing_array(tmp_path / "a.npy", (beyond,), np.uint8):
        pytest.fail("the block must not be entered")
    assert os.listdir(tmp_path) == []


def fill(path, rows, shape=(4, 2), end=None):
    with resuming_array(path, shape, np.uint8) as array:
        found = array.copy()
        array[rows] = 7
        if end:
            raise end
    return found


def test_an_array_that_was_broken_off_goes_on_with_what_was_filled(tmp_path):
    path = tmp_path / "a.npy"
    with pytest.raises(KeyboardInterrupt):
        fill(path, 1, end=KeyboardInterrupt)
    assert not path.exists()
    assert fill(path, 2).tolist() == [[0, 0], [7, 7], [0, 0], [0, 0]]
    assert np.load(path).tolist() == [[0, 0], [7, 7], [7, 7], [0, 0]]
    assert os.listdir(tmp_path) == ["a.npy"]


def test_an_array_of_another_form_is_begun_afresh(tmp_path):
    path = tmp_path / "a.npy"
    with pytest.raises(KeyboardInterrupt):
        fill(path, 1, end=KeyboardInterrupt)
    assert not fill(path, 0, shape=(5, 2)).any()
    assert np.load(path).shape == (5, 2)


def test_an_array_that_ends_in_an_error_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError):
        fill(tmp_path / "a.npy", 1, end=RuntimeError)
    assert os.listdir(tmp_path) == []


def test_two_processes_that_fill_the_same_array_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "a.npy"
    with resuming_array(path, (4, 2), np.uint8) as first:
        first[:] = 1
        assert not fill(path, 3).any()
    assert np.load(path).tolist() == [[1, 1]] * 4
    assert os.listdir(tmp_path) == ["a.npy"]


def test_an_array_that_another_process_finished_before_it_was_locked_is_filled_by_itself(tmp_path, monkeypatch):
    path, partial = tmp_path / "a.npy", tmp_path / ".a.npy.partial"

    def late(handle, how):
        if partial.exists():
            os.replace(partial, path)
        return flock(handle, how)

    flock = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", late)
    assert not fill(path, 2).any()
    assert np.load(path).tolist() == [[0, 0], [0, 0], [7, 7], [0, 0]]
    assert os.listdir(tmp_path) == ["a.npy"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_are_open_to_whom_the_umask_lets_in(umask, mode, tmp_path):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a.txt", "text")
        fill(tmp_path / "a.npy", 1)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {mode}


def test_scratch_folders_of_killed_owners_go_and_those_of_living_ones_stay(tmp_path):
    left, other = tmp_path / ".work.abcd1234", tmp_path / ".else.abcd1234"
    left.mkdir()
    other.mkdir()
    with scratch_folder(tmp_path, "work") as first, scratch_folder(tmp_path, "work") as second:
        (first / "file").write_text("x")
        assert first.is_dir() and second.is_dir() and not left.exists()
    assert list(tmp_path.iterdir()) == [other]


KILLED_WHILE_WRITING = """
import os, signal, sys
from pipeline.core.artifacts import writing
with writing(sys.argv[1], "wb") as file:
    file.write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def leave_half_a_file(path) -> None:
    path.parent.mkdir(exist_ok=True)
    subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(path)])
    assert len(os.listdir(path.parent)) == 1


def test_what_a_killed_writer_left_goes_with_the_next_writing(tmp_path):
    leave_half_a_file(tmp_path / "result.json")
    (tmp_path / ".result.json.of_another").touch()
    write_json(tmp_path / "result.json", {"a": 1})
    assert sorted(os.listdir(tmp_path)) == [".result.json.of_another", "result.json"]


def test_what_a_killed_saving_left_goes_when_the_checkpoint_is_cleared(tmp_path):
    leave_half_a_file(tmp_path / "state.pt")
    Checkpoint(tmp_path / "state.pt", "key").clear()
    assert os.listdir(tmp_path) == []


def test_many_texts_arrive_whole_each_in_its_folder(tmp_path):
    texts = {tmp_path / f"{i % 3}" / f"{i}.json": f"text {i}" for i in range(40)}
    leave_half_a_file(next(iter(texts)))
    write_texts(texts)
    assert {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == texts
    write_texts({})


def test_of_many_texts_one_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "2").mkdir()
    with pytest.raises(OSError):
        write_texts({tmp_path / name: "text" for name in "123"})
    assert not [path for path in tmp_path.rglob(".*")]


def test_the_unfinished_file_of_a_living_writer_is_left_alone(tmp_path):
    path = tmp_path / "result.json"
    with writing(path) as file:
        file.write("of the first")
        write_text(path, "of the second")
        assert path.read_text() == "of the second"
    assert path.read_text() == "of the first"
    assert os.listdir(tmp_path) == ["result.json"]


def test_where_there_are_no_locks_files_are_written_and_nothing_is_taken_for_abandoned(tmp_path, monkeypatch):
    leave_half_a_file(tmp_path / "result.json")

    def no_locks(handle, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    write_text(tmp_path / "result.json", "whole")
    assert (tmp_path / "result.json").read_text() == "whole"
    assert len(os.listdir(tmp_path)) == 2


def test_a_file_that_another_writer_removed_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    made = []

    def stolen(path, flags, *mode):
        handle = os_open(path, flags, *mode)
        if flags & os.O_EXCL:
            if not made:
                os.unlink(path)
            made.append(path)
        return handle

    os_open = os.open
    monkeypatch.setattr(os, "open", stolen)
    write_text(tmp_path / "result.json", "whole")
    assert len(made) == 2 and os.listdir(tmp_path) == ["result.json"]


FULL_DISK = """
import os, sys
from pipeline.core.artifacts import write_text
from pipeline.core.errors import DiskFullError
write_text("DIR/small.txt", "kept")
try:
    write_text("DIR/large.txt", "x" * 10**7)
except DiskFullError as error:
    assert "Nothing half-written" in str(error), error
    sys.exit(0 if sorted(os.listdir("DIR")) == ["small.txt"] else 3)
sys.exit(4)
"""


def test_a_full_disk_is_told_and_leaves_nothing_half_written(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(FULL_DISK.replace("DIR", str(tmp_path / "disk")))
    (tmp_path / "disk").mkdir()
    mount = f"mount -t tmpfs -o size=256k none {tmp_path / 'disk'}"
    own_mounts = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*own_mounts, "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small disk of their own")
    done = subprocess.run(
        [*own_mounts, "sh", "-c", f"{mount} && {sys.executable} {script}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_folder_without_write_permission_is_told(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o555)
    with pytest.raises(ArtifactError, match="No permission to write"):
        write_text(tmp_path / "a.txt", "x")


@pytest.mark.skipif(not os.path.isdir("/sys/kernel"), reason="no /sys on this system")
def test_a_place_where_nobody_may_write_is_told():
    with pytest.raises(ArtifactError, match="No permission to write"):
        write_text("/sys/a.txt", "x")


def test_a_missing_or_damaged_json_file_is_told_with_the_way_out(tmp_path):
    with pytest.raises(ArtifactError, match="is missing. Run the stage"):
        read_json(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text('{"a": 1')
    with pytest.raises(ArtifactError, match="is damaged"):
        read_json(tmp_path / "bad.json")


def test_not_a_number_is_never_written():
    with pytest.raises(ValueError):
        to_json({"accuracy": float("nan")})


def test_digests_do_not_depend_on_the_order_of_keys_but_on_values(tmp_path):
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})
    write_text(tmp_path / "x", "abc")
    assert sha256(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_checkpoint_of_another_job_or_a_damaged_one_is_ignored(tmp_path):
    path = tmp_path / "c.pt"
    mine = Checkpoint(path, {"lr": 1})
    assert mine.load() is None
    mine.save({"epoch": 3})
    assert mine.load() == {"epoch": 3}
    assert Checkpoint(path, {"lr": 2}).load() is None
    path.write_bytes(path.read_bytes()[:100])
    assert mine.load() is None
    mine.clear()
    mine.clear()
    assert not path.exists()


def test_no_flipped_bit_and_no_lost_end_of_a_checkpoint_goes_unseen(tmp_path):
    path = tmp_path / "c.pt"
    mine = Checkpoint(path, {"lr": 1})
    mine.save({"weights": torch.arange(200.0), "epoch": 3, "text": "hello"})
    whole = path.read_bytes()
    for place in range(0, len(whole), 17):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        assert mine.load() is None, f"byte {place}"
        path.write_bytes(whole[:place])
        assert mine.load() is None, f"the first {place} bytes"
    path.write_bytes(whole)
    assert torch.equal(mine.load()["weights"], torch.arange(200.0))


FULL_FOR_A_CHECKPOINT = """
import resource, sys
import torch
from pipeline.core.checkpoint import Checkpoint
from pipeline.core.errors import DiskFullError
state = Checkpoint(sys.argv[1], "key")
state.save({"weights": torch.arange(10)})
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    state.save({"weights": torch.zeros(10**5), "momenta": torch.zeros(10**5)})
except DiskFullError as error:
    print("explained:", error)
print("kept:", state.load()["weights"].tolist() == list(range(10)))
"""


@pytest.mark.parametrize("limit", [0, 20_000, 500_000, 800_100])
def test_a_checkpoint_on_a_full_disk_is_explained_and_the_state_before_is_kept(limit, tmp_path):
    """The limit on file sizes stops PyTorch within its archive's head, an array, and its list of contents."""
    command = [sys.executable, "-B", "-c", FULL_FOR_A_CHECKPOINT, str(tmp_path / "c.pt"), str(limit)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "explained:" in printed and "free some space" in printed and "kept: True" in printed
    assert os.listdir(tmp_path) == ["c.pt"]


def test_a_writer_killed_half_way_leaves_the_old_file(tmp_path):
    path = tmp_path / "state.txt"
    write_text(path, "old")
    code = f"""
        import os, signal
        from pipeline.core.artifacts import writing
        with writing({str(path)!r}) as file:
            file.write("new" * 1000)
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(code)]).returncode == -9
    assert path.read_text() == "old"


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e999"])
def test_a_json_file_with_numbers_that_are_none_is_damaged(tmp_path, text):
    (tmp_path / "x.json").write_text(f'{{"a": {text}}}')
    with pytest.raises(ArtifactError, match="damaged"):
        read_json(tmp_path / "x.json")
