"""Stages run as the command line runs them, each in a fork of a process that has imported everything already.

Importing torch takes longer than the stages that are killed here. A fork is a process of its own, with its own
handlers, workers and end, and runs `pipeline.__main__.main` on the very arguments of `python -m pipeline`.
"""

import contextlib
import importlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECONDS_BETWEEN_SAVES = 0.05


class Run:
    """A stage that is running.

    Attributes:
        pid: of its process, which leads a process group of its own.
        log: file of what it prints.
    """

    def __init__(self, server: "Server", pid: int, log: pathlib.Path):
        self.pid, self.log, self._server, self._code = pid, log, server, None
        server.running = self

    @property
    def alive(self) -> bool:
        try:
            return pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except FileNotFoundError:
            return False

    def kill(self, how: signal.Signals, group: bool = False) -> None:
        """To the process, or to all of its group at once; nothing where it has ended."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, how)

    def wait(self) -> int:
        """Its exit code, a signal's number negated."""
        if self._code is None:
            self._code = int(self._server.answer())
            self._server.running = None
        return self._code


class Server:
    """A context in which stages can be started, one at a time."""

    def __enter__(self) -> "Server":
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.server"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self.running: Run | None = None
        assert self.answer() == "ready"
        return self

    def __exit__(self, *_) -> None:
        if self.running:
            self.running.kill(signal.SIGKILL, group=True)
        self._process.stdin.close()
        self._process.wait(60)

    def start(self, folder: pathlib.Path, argv: list[str]) -> Run:
        """Begin a stage in a working folder."""
        log = folder.parent / "stage.log"
        log.write_text("")
        self._process.stdin.write(json.dumps({"folder": str(folder), "argv": argv, "log": str(log)}) + "\n")
        self._process.stdin.flush()
        return Run(self, int(self.answer()), log)

    def finish(self, folder: pathlib.Path, argv: list[str]) -> float:
        """Run a stage to its good end; returns the seconds that it took."""
        run, started = self.start(folder, argv), time.monotonic()
        assert run.wait() == 0, f"{' '.join(argv)} ended with {run.wait()}:\n{run.log.read_text()[-4000:]}"
        return time.monotonic() - started

    def answer(self) -> str:
        line = self._process.stdout.readline().strip()
        assert line, "the server of stages has ended"
        return line


def serve() -> None:
    from pipeline import data, methods, proxies, spaces
    from pipeline.__main__ import STAGES

    for stage in STAGES:
        importlib.import_module(f"pipeline.stages.{stage}")
    for room in (data, methods, proxies, spaces):
        for name in room.names():
            room.get(name)
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            run(**json.loads(line))
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def run(folder: str, argv: list[str], log: str) -> None:
    """Be the process of a stage; does not return."""
    from pipeline.__main__ import main
    from pipeline.core import checkpoint
    from pipeline.data import preparing
    from pipeline.evaluation import episodic

    os.setsid()
    os.chdir(folder)
    for number, path, how in ((0, os.devnull, os.O_RDONLY), (1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)):
        opened = os.open(path, how, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    os.dup2(1, 2)
    # so that runs of seconds leave checkpoints as runs of hours do
    checkpoint.SAVE_EVERY_SECONDS = preparing.SECONDS_BETWEEN_SAVES = SECONDS_BETWEEN_SAVES
    episodic.meta_learn.__kwdefaults__["seconds_between"] = SECONDS_BETWEEN_SAVES
    code = 1
    try:
        code = main(argv)
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
