"""A SLURM cluster of one node in a folder of its own: real daemons, two partitions, accelerators that only stand in.

Needs Linux, root and, where SLURM is not installed, Debian's packages. What is started is stopped by its process
number, and only links into the own folder are removed from /etc/slurm.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

import pytest

PACKAGES = ("slurm-wlm", "munge")
DAEMONS = ("munged", "slurmctld", "slurmd")
# srun looks here when it is started without SLURM's variables, as Snakemake's job steps are
SYSTEM = pathlib.Path("/etc/slurm")
POLICY = pathlib.Path("/usr/sbin/policy-rc.d")
# where the daemons lie, which not every PATH names
SEARCHED = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
OWNER = "owner.pid"

SLURM_CONF = """\
ClusterName=onenode
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.sock
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MinJobAge=3600
JobRequeue=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:toy:{gpus} State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=60 State=UP
PartitionName=gpu Nodes={host} MaxTime=60 State=UP
"""


class Cluster:
    """The cluster, running from `start` to `stop`.

    Args:
        folder: where its files are kept.
        cpus, memory, gpus: what its node says that it has; memory in MB.
    """

    def __init__(self, folder: pathlib.Path, cpus: int = 4, memory: int = 4000, gpus: int = 2):
        self.folder = folder
        self.cpus, self.memory, self.gpus = cpus, memory, gpus

    def start(self) -> None:
        """Bring it up; skips the test, with the reason, where that is impossible."""
        if os.geteuid() != 0:
            pytest.skip("a SLURM cluster is only brought up by root")
        install()
        for name in ("spool", "state", "run", "log", "gpu"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        (self.folder / OWNER).write_text(str(os.getpid()))
        for index in range(self.gpus):
            # twins of /dev/null: SLURM counts devices, and sets CUDA_VISIBLE_DEVICES, only for device files
            os.mknod(self.folder / f"gpu/nvidia{index}", 0o666 | 0o020000, os.makedev(1, 3))
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        host = socket.gethostname().split(".")[0]
        asked = {"host": host, "folder": self.folder, "ports": free_ports(2)}
        sizes = {"cpus": self.cpus, "memory": self.memory, "gpus": self.gpus}
        (self.folder / "slurm.conf").write_text(SLURM_CONF.format(**asked, **sizes))
        devices = f"{self.folder}/gpu/nvidia[0-{self.gpus - 1}]"
        (self.folder / "gres.conf").write_text(f"NodeName={host} Name=gpu Type=toy File={devices}\n")
        (self.folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
        self._link()
        at = f"{self.folder}/run/munge"
        self._daemon(
            "munged", "--force", f"--key-file={key}", f"--socket={at}.sock", f"--seed-file={at}.seed",
            f"--pid-file={at}d.pid", f"--log-file={self.folder}/log/munged.log",
        )  # fmt: skip
        for name in ("slurmctld", "slurmd"):
            self._daemon(name, "-c", "-f", str(self.folder / "slurm.conf"))
        deadline = time.monotonic() + 60
        while "idle" not in ask("sinfo", "-h", "-o", "%T", check=False):
            assert time.monotonic() < deadline, f"the node never came up:\n{self.logs()}"
            time.sleep(0.2)

    def _link(self) -> None:
        links = {SYSTEM / name: self.folder / name for name in ("slurm.conf", "gres.conf", "cgroup.conf")}
        for link in links:
            if link.is_symlink():
                end_if_left_behind(pathlib.Path(os.readlink(link)).parent)
            if link.exists():
                pytest.skip(f"this machine has a SLURM configuration of its own: {link}")
        SYSTEM.mkdir(exist_ok=True)
        for link, target in links.items():
            # a link that leads nowhere goes too
            link.unlink(missing_ok=True)
            link.symlink_to(target)

    def _daemon(self, *command: str) -> None:
        at = shutil.which(command[0], path=SEARCHED)
        assert at, f"the packages are installed, but {command[0]} is not in {SEARCHED}"
        done = subprocess.run((at, *command[1:]), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}\n{self.logs()}"

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in (self.folder / "log").glob("*.log"))

    def stop(self) -> None:
        """Cancel all jobs, end the daemons, remove the links; does what is left to do when called half-way."""
        if (SYSTEM / "slurm.conf").is_symlink() and shutil.which("scancel"):
            for identity in self.active():
                ask("scancel", identity, check=False)
            self.left_after(30)
        for name in reversed(DAEMONS):
            self._end(name)
        for link in SYSTEM.glob("*.conf"):
            if link.is_symlink() and pathlib.Path(os.readlink(link)).parent == self.folder:
                link.unlink()
        if SYSTEM.is_dir() and not any(SYSTEM.iterdir()):
            SYSTEM.rmdir()

    def _end(self, name: str) -> None:
        file = self.folder / f"run/{name}.pid"
        if not file.is_file() or not (number := file.read_text().strip()):
            return
        for sent in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + 15
            # only a process that still is what its file says
            while comm(number) == name and time.monotonic() < deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(number), sent)
                time.sleep(0.2)

    def active(self) -> list[str]:
        """Numbers of the jobs that wait or run."""
        return ask("squeue", "-h", "-t", "PD,R,CG", "-o", "%i", check=False).split()

    def left_after(self, seconds: float) -> list[str]:
        """Numbers of the jobs that still wait or run after so many seconds; returns at once when none does."""
        deadline = time.monotonic() + seconds
        while (left := self.active()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return left

    def jobs(self) -> list[dict[str, str]]:
        """All jobs that the cluster has seen, oldest first, as `scontrol show job` describes them."""
        lines = ask("scontrol", "-o", "show", "job").splitlines()
        described = [dict(item.partition("=")[::2] for item in line.split()) for line in lines if "JobId=" in line]
        return sorted(described, key=lambda job: int(job["JobId"]))

    def jobs_of(self, rule: str) -> list[dict[str, str]]:
        """The same of one rule's jobs, by the comments that Snakemake leaves."""
        return [job for job in self.jobs() if job["Comment"].startswith(f"rule_{rule}_wildcards_")]


def comm(number: str) -> str:
    """Name of the program of a process; nothing where it has ended."""
    try:
        return pathlib.Path("/proc", number, "comm").read_text().strip()
    except OSError:
        return ""


def end_if_left_behind(folder: pathlib.Path) -> None:
    """End the cluster in a folder whose test was killed before it could."""
    owner = folder / OWNER
    if owner.is_file() and not comm(owner.read_text()):
        Cluster(folder).stop()


def ask(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert not check or done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}"
    return done.stdout


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def install() -> None:
    """Install SLURM where it is missing; skips the test, with the reason, where that is impossible."""
    if all(shutil.which(name, path=SEARCHED) for name in DAEMONS):
        return
    if not shutil.which("apt-get"):
        pytest.skip("SLURM is not installed, and there is no apt-get to install it")
    # keeps the packages' own services from being started
    made = not POLICY.exists()
    if made:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        wanted = ("install", "-y", "-qq", "--no-install-recommends", *PACKAGES)
        for arguments in (("update", "-qq"), wanted):
            done = subprocess.run(
                ("apt-get", *arguments),
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        if done.returncode:
            pytest.skip(f"apt-get could not install {' and '.join(PACKAGES)}:\n{done.stdout[-500:]}")
    finally:
        if made:
            POLICY.unlink()
