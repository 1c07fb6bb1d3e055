"""Command line: `python -m pipeline STAGE ...`, the same line in Snakemake, in DVC and by hand."""

import argparse
import errno
import importlib
import os
import pathlib
import select
import sys
import textwrap

from pipeline.core.errors import PipelineError, UnknownNameError
from pipeline.core.progress import say
from pipeline.core.stopping import EXIT_CODE, Stopped, listening

# threads that wait for each other sleep; where other jobs share the cores, spinning costs far more than it saves
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

STAGES = sorted(
    path.stem
    for path in (pathlib.Path(__file__).parent / "stages").glob("*.py")
    if "\ndef run(" in path.read_text(encoding="utf-8")
)


def fail(message: str) -> int:
    """Print one paragraph, lines of a list kept apart, to standard error; returns the exit code."""
    wrap = {"width": 100, "break_long_words": False, "break_on_hyphens": False, "subsequent_indent": "  "}
    lines = [textwrap.fill(" ".join(line.split()), **wrap) for line in message.splitlines() if line.strip()]
    print("\nerror: " + "\n".join(lines), file=sys.stderr)
    return 1


def usage() -> str:
    lines = ["usage: python -m pipeline STAGE [options]     (python -m pipeline STAGE --help for each)", ""]
    for stage in STAGES:
        module = importlib.import_module(f"pipeline.stages.{stage}")
        lines.append(f"  {stage.replace('_', '-'):12} {module.__doc__.splitlines()[0]}")
    return "\n".join(lines)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the processor's or the accelerator's memory ran out."""
    text = str(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "DefaultCPUAllocator: can't allocate memory" in text
        or "CUDA out of memory" in text
    )


def nobody_reads() -> bool:
    """Whether the reader of what is printed has gone, as `head` does; all further printing then goes nowhere."""
    output = sys.stdout.fileno()
    asked = select.poll()
    asked.register(output, 0)
    gone = any(events & select.POLLERR for _, events in asked.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return gone


def run(module, arguments) -> int:
    """Run a stage on files that are as they were written, and keep the digests of what it writes."""
    from pipeline.stages import folder, seals

    claim = folder.claim(folder.DVC) if os.environ.get("DVC_STAGE") else None

    def files(in_folders: bool = False) -> list[str]:
        besides = module.beside(arguments) if hasattr(module, "beside") else []
        return list(seals.project_files([*vars(arguments).values(), besides], in_folders))

    # what looks for damage must see it
    if not getattr(module, "LOOKS_FOR_DAMAGE", False):
        seals.check(files(in_folders=True))
    # a stage writes no file that is not named; those in folders that it reads may be other writers'
    before = seals.state_of(files())
    code = module.run(arguments) or 0
    seals.seal(files(), before)
    if claim is not None:
        claim.close()
    return code


def main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0
    try:
        name = argv[0].replace("-", "_")
        if name not in STAGES:
            raise UnknownNameError("stage", argv[0], [stage.replace("_", "-") for stage in STAGES])
        module = importlib.import_module(f"pipeline.stages.{name}")
        parser = argparse.ArgumentParser(
            prog=f"python -m pipeline {argv[0]}",
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(parser)
        arguments = parser.parse_args(argv[1:])
        from pipeline.stages import submitting

        with listening():
            if submitting.is_wanted(name):
                return submitting.submit(name, argv, arguments)
            code = run(module, arguments)
            sys.stdout.flush()
            return code
    except Stopped:
        say("stopped by SIGTERM: what was finished is kept, and the same command goes on from there")
        return EXIT_CODE
    except PipelineError as error:
        return fail(str(error))
    except BrokenPipeError:
        if not nobody_reads():
            raise
        return 1
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return fail(f"The disk or quota is full ({error}). Free some space and run the same command again.")
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return fail(f"No permission: {error}. Make the file or folder accessible to you and run again.")
        raise
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return fail(
            f"Out of memory ({str(error).splitlines()[0] if str(error) else 'no more memory'}). "
            "Lower train.batch_size, network.channels or search.<method>.channels, set search.<method>.low_memory, "
            "or take a larger machine. "
            "Finished epochs and rounds are kept: the same command goes on from there."
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
