"""Find architectures for a data set by one method, on its base classes and on what the method needs besides."""

import re
from typing import Any

import pandas as pd

from pipeline import methods, spaces
from pipeline.core import artifacts, provenance
from pipeline.core.checkpoint import Checkpoint
from pipeline.core.config import build
from pipeline.core.device import choose_device, use_threads
from pipeline.core.progress import say, spoken
from pipeline.core.wording import n_of
from pipeline.data.prepared import PreparedSet
from pipeline.stages import needs
from pipeline.stages.common import Frozen, add_prepared_arguments, checkpoint_path, machine, read_params
from pipeline.strategies.runner import Context, Found, Journal

SPENT = ("wall_seconds", "device_seconds", "network_evaluations")
TRACE_COLUMNS = ("seed", "round", "step", "event", "cell", "edge", "operation", "rank", "seconds")


def genotype_record(frozen: Frozen, space, found: list[Found], journal: Journal, data_digest: str) -> dict[str, Any]:
    """Content of genotype.json; nothing in it depends on time or machine."""
    return {
        "method": frozen.method,
        "dataset": frozen.dataset,
        "budget": frozen.budget,
        "space": space.name,
        "architectures": [
            {
                "seed": one.seed,
                "genotype": space.to_text(one.genotype),
                "graph": space.graph(one.genotype),
                **({"k_shot": one.k_shot} if one.k_shot is not None else {}),
                **({"episodes": list(one.episodes)} if one.episodes is not None else {}),
            }
            for one in found
        ],
        **({"network": frozen.params["network"]} if "network" in frozen.params else {}),
        "controls": [
            {"seed": seed, "genotype": one["genotype"], "n_architectures": one["n_architectures"]}
            for seed, one in journal.controls.items()
        ],
        "stability": journal.stability,
        "params_digest": frozen.digest,
        "data_digest": data_digest,
        **({"learned": journal.account} if journal.account else {}),
        **({"decoded": journal.decoded} if journal.decoded else {}),
    }


def trace_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The trace with its columns in order: those every method has, the indicators' means between them, details last."""
    extra = list(dict.fromkeys(name for row in rows for name in row if name not in TRACE_COLUMNS))
    means = [name for name in extra if not re.search(r"_(change|repeat)_\d+$", name)]
    details = [name for name in extra if name not in means]
    columns = [*TRACE_COLUMNS[:7], *means, *TRACE_COLUMNS[7:], *details]
    table = pd.DataFrame([{**row, "step": step} for step, row in enumerate(rows)], columns=columns)
    return table.astype({name: "Int64" for name in ("seed", "round", "step", "edge", "rank")})


def cost_record(journal: Journal, device) -> dict[str, Any]:
    """Content of cost.json; what random controls cost stands apart."""
    apart = {name: sum(one[name] for one in journal.controls.values()) for name in SPENT}
    cost = {
        **{name: getattr(journal, name) - apart[name] for name in SPENT},
        "not_finite": journal.not_finite,
        "peak_memory_mib": journal.peak_memory_mib,
        "reproducible": device.type == "cpu",
        **({"controls": apart} if journal.controls else {}),
        **journal.ledger,
        **provenance.gather(device),
    }
    if device.type == "cuda":
        import torch

        cost["peak_device_memory_mib"] = torch.cuda.max_memory_allocated(device) / 2**20
    return cost


def add_arguments(parser) -> None:
    parser.add_argument("--method", required=True, help="name of a method (python -m pipeline list methods)")
    add_prepared_arguments(parser)
    needs.add_arguments(parser)
    parser.add_argument("--params", required=True, metavar="FILE", help="frozen parameters of the search")
    for name in ("genotype", "trace", "cost"):
        parser.add_argument(f"--{name}", required=True, metavar="FILE", help=f"where to write the {name}")


def run(arguments) -> None:
    frozen, here = read_params(arguments.params), machine()
    method = methods.get(arguments.method)
    section = f"search.{arguments.method}"
    config = build(method.Config, frozen.params["search"], section)
    prepared = PreparedSet.open(arguments.images, arguments.index, arguments.manifest, verify=True)
    device = choose_device(here.device)
    given = needs.opened(method, arguments, prepared, device)
    key = {
        "params": frozen.digest,
        "data": prepared.digest,
        **({"given": {name: thing.digest for name, thing in given.items()}} if given else {}),
    }
    checkpoint = Checkpoint(checkpoint_path("search", arguments.method, frozen.dataset), key)
    context = Context(
        prepared,
        seed=frozen.seed,
        n_cells=frozen.params.get("network", {}).get("n_cells"),
        device=device,
        n_workers=use_threads(here.threads_to_adapt if hasattr(method, "learner") else here.threads),
        checkpoint=checkpoint,
        given=given,
        section=section,
    )
    found = method.search(config, context)
    journal, space = context.journal, spaces.get(method.space(config))()
    journal.wall_seconds = context.elapsed()
    artifacts.write_csv(arguments.trace, trace_table(journal.rows))
    artifacts.write_json(arguments.cost, cost_record(journal, device))
    artifacts.write_json(arguments.genotype, genotype_record(frozen, space, found, journal, prepared.digest))
    checkpoint.clear()
    say(f"{n_of(len(found), 'architecture')} of {space.name} in {spoken(journal.wall_seconds)}")
