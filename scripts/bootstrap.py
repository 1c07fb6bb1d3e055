"""Make the project's virtual environment and install the pinned packages into it.

Standard library only, so that it runs on a bare Python. Safe to call again at any time: it returns at once
when the environment already matches, and an interrupted call is finished by the next one.

Environment variables:
  FEWSHOT_NAS_TORCH  auto (default), cpu, cu126, cu128, ...: which PyTorch build to install. `auto` takes the CPU
                     build where no NVIDIA driver is found. A folder of wheels that pip is configured with
                     (find-links) and that holds a torch wheel goes before this choice.
  FEWSHOT_NAS_VENV   where the environment goes (default .venv in the project).
"""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV = pathlib.Path(os.environ.get("FEWSHOT_NAS_VENV", ROOT / ".venv"))
BIN = VENV / "bin"
PYTHON = BIN / "python"
TORCH = os.environ.get("FEWSHOT_NAS_TORCH", "auto")


def run(*command, **options):
    print("+", *command, flush=True)
    subprocess.run([str(part) for part in command], check=True, **options)


def wheel_folders():
    """Folders of local wheels that the user's pip is configured with."""
    configured = os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS")
    if configured is None:
        answer = subprocess.run(
            [str(PYTHON), "-m", "pip", "config", "get", "global.find-links"], capture_output=True, text=True
        )
        configured = answer.stdout if answer.returncode == 0 else ""
    return configured.replace(",", " ").split()


def fingerprint():
    """What the environment depends on; an equal stamp means there is nothing to do."""
    parts = [(ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    parts += [TORCH.encode(), sys.version.encode(), str(ROOT).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def install_with_uv(what):
    folders = wheel_folders()
    has_torch_wheel = any(list(pathlib.Path(folder).glob("torch-2*.whl")) for folder in folders)
    environment = dict(os.environ)
    if folders:
        environment["UV_FIND_LINKS"] = ",".join(folders)
    backend = [] if has_torch_wheel or sys.platform == "darwin" else ["--torch-backend", TORCH]
    run(BIN / "uv", "pip", "install", "--python", PYTHON, *backend, *what, env=environment)


def main():
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        sys.exit(
            f"Python {sys.version.split()[0]} runs this script, but 3.11, 3.12 or 3.13 is needed. "
            "Install one of them and call `make PYTHON=python3.11 ...`."
        )
    stamp = VENV / ".installed"
    if stamp.exists() and stamp.read_text() == fingerprint():
        return
    stamp.unlink(missing_ok=True)
    if not PYTHON.exists():
        shutil.rmtree(VENV, ignore_errors=True)
        run(sys.executable, "-m", "venv", VENV)
    pip = [PYTHON, "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    what = ["-c", ROOT / "constraints.txt", "-e", f"{ROOT}[slurm,dev]"]
    got_uv = subprocess.run([str(part) for part in [*pip, "uv>=0.8"]]).returncode == 0
    if got_uv:
        install_with_uv(what)
    else:
        print("uv is not to be had; pip installs instead (slower, and on Linux it takes the CUDA build of PyTorch).")
        run(*pip, *what)
    stamp.write_text(fingerprint())


if __name__ == "__main__":
    main()
