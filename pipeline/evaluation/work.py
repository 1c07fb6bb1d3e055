"""How much work a job is, read off its frozen parameters, and how long that takes: the cost model of forecasts.

Work is a count of what a job does most of: images that pass through a network, episodes, graphs. A pass through a cell
network is n_cells * side^2 * channels^p: pixels and cells cost in proportion, channels with an exponent p between 1
(poolings, norms, depthwise convolutions) and 2 (pointwise ones) that is measured. Seconds are

    seconds = start + coefficient[key] * work,

where `start` is what a process needs before it does anything, and the coefficient of each kind of job was measured on a
small job (`benchmarks/costs.py`). Everything here is arithmetic on plain dicts; torch is not needed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# spaces of one network, whose shape no knob changes
FIXED = ("conv4", "conv4_flat", "resnet12")
# stages that read, count and write: a start and little else
LIGHT = ("fetch", "table", "episodes", "compare", "look_up", "contrast", "rate", "report", "report_lookups")
# methods whose jobs pass images through the same networks, counted as those of another where they were not measured;
# first-order learners and those that move the head alone take less than MAML, so theirs are upper estimates
LIKE = {"ntk": "metantk", "fomaml": "maml", "anil": "maml", "randomtnas": "automaml"}
# stages whose work depends on the size of the data set
OF_IMAGES = ("prepare", "train", "test", "feature_net", "features")
PRUNING = ("metantk", "ntk", "tenas")
EVOLVING = ("tegnas_evo", "tegnas_rl")
# knobs of searches that have no others: they draw architectures, or name one
MEASURING_NOTHING = frozenset(("seeds", "n_architectures", "space"))


@dataclass(frozen=True)
class Images:
    """Size of a data set.

    Attributes:
        n_train: images of the base classes, or the training images of ordinary classification.
        n_rest: all others.
        side: of the prepared images, in pixels.
    """

    n_train: int
    n_rest: int
    side: int


@dataclass(frozen=True)
class Costs:
    """What was measured, and on what.

    Attributes:
        start: seconds that a process takes before its work.
        channels_exponent: the p of the module's formula.
        coefficients: key of a kind of job -> seconds per unit of work.
        spaces: space -> {"operations": those of each edge of the supernet, "in_groups": edges tried for removal when
            each has one operation left}.
    """

    start: float
    channels_exponent: float
    coefficients: Mapping[str, float]
    spaces: Mapping[str, Mapping[str, Any]]


def passes(network: Mapping[str, Any], side: int, exponent: float) -> float:
    """What one image costs in a network of cells, in the module's unit. `network` holds channels and maybe n_cells."""
    return network.get("n_cells", 1) * side**2 * network["channels"] ** exponent


def n_candidates(operations: Sequence[int], in_groups: int, prune_number: int) -> int:
    """Networks that pruning by rank measures in one repeat, besides the origin of each round.

    Each round tries every operation of every edge that has more than one, then each edge loses `prune_number`, the last
    ones as many as leave one.
    """
    left, total = list(operations), in_groups
    while max(left) > 1:
        total += sum(n for n in left if n > 1)
        left = [max(1, n - prune_number) if n > 1 else n for n in left]
    return total


def n_architectures(search: Mapping[str, Any]) -> int:
    """Architectures that a search hands on."""
    return search.get("n_architectures") or len(search.get("seeds", (0,)))


def task_images(n_way: int, k_shot: int, n_query: int, n_steps: int) -> int:
    """Images that pass through a network which takes `n_steps` on a support set and answers the queries."""
    return n_way * (n_steps * k_shot + n_query)


def steps_on(learning: Mapping[str, Any], k_shot: int, n_way: int, *, test: bool) -> int:
    """Steps on a support set: a learner's number, or the meta-learner LSTM's passes times batches."""
    if "passes" not in learning:
        return learning["test_steps" if test else "inner_steps"]
    one_shot = "_one_shot" * (k_shot == 1)
    return learning[f"passes{one_shot}"] * max(1, k_shot * n_way // learning[f"batch_size{one_shot}"])


def meta_images(params: Mapping[str, Any], learning: Mapping[str, Any]) -> int:
    """Images that pass through the network while a start is meta-learned for each of `k_shots`, tests included."""
    n_way, total = params["episodes"]["n_way"], 0
    n_tests = math.ceil(learning["n_iterations"] / learning["validate_every"])
    for k_shot in params["episodes"]["k_shots"]:
        for n_tasks, test in (
            (learning["n_iterations"] * learning["tasks_per_batch"], False),
            (n_tests * learning["n_validation_episodes"], True),
        ):
            n_steps = steps_on(learning, k_shot, n_way, test=test)
            total += n_tasks * task_images(n_way, k_shot, learning["n_query"], n_steps)
    return total


def search_key(method: str, search: Mapping[str, Any]) -> str:
    """Kind of a search: its cost depends on the space too, where it may choose one."""
    if method in (*PRUNING, *EVOLVING):
        return f"search:{method}:{search['space']}"
    return f"search:{method}"


def search_work(method: str, search: Mapping[str, Any], supernet: Mapping[str, Any] | None, costs: Costs) -> float:
    """Work of a search; 0 where nothing is measured, as with networks drawn or made by hand, nan of unknown ones."""
    if method in PRUNING:
        space = costs.spaces.get(search["space"])
        if space is None:
            return math.nan
        tried = n_candidates(space["operations"], space["in_groups"], search["prune_number"])
        n_images = search.get("n_images") or (
            search["tasks_per_batch"] * search["n_way"] * (search["k_shot"] + search["n_query"])
        )
        per_image = search["image_size"] ** 2 * (search["channels"] or 1) ** costs.channels_exponent
        return len(search["seeds"]) * search["repeat"] * tried * n_images * per_image
    if method in EVOLVING:
        tried = search["n_steps"] if "n_steps" in search else search["population_size"] + search["n_cycles"]
        per_network = search["repeat"] * search["n_images"] * search["image_size"] ** 2
        return len(search["seeds"]) * tried * per_network * (2 if search["control"] else 1)
    if "n_resamplings" in search:
        n_drawn = search["n_candidates"] * (2 if search["control"] else 1)
        return len(search["seeds"]) * n_drawn * search["n_resamplings"]
    if "n_tasks" in search and supernet is not None:
        knobs, episodes = supernet["supernet"], supernet["episodes"]
        images = sum(task_images(episodes["n_way"], k_shot, 0, knobs["test_steps"]) for k_shot in episodes["k_shots"])
        return search["n_tasks"] * images * passes(knobs, knobs["image_size"], costs.channels_exponent)
    return 0.0 if MEASURING_NOTHING.issuperset(search) else math.nan


def work(
    stage: str,
    method: str | None,
    space: str | None,
    params: Mapping[str, Any],
    beside: Mapping[str, Mapping[str, Any]],
    images: Images | None,
    costs: Costs,
) -> tuple[str, float]:
    """The kind of a job, a key of the coefficients, and its amount.

    Args:
        space: that the method's networks are of; None for jobs of no method.
        params: the job's frozen parameters.
        beside: those of other jobs of the same method and data set by stage (search, supernet), and of its episodes
            and database.
        images: size of the data set; None where it is unknown, and for jobs that have none.

    Light jobs have the amount 0, jobs of unknown kinds or on unknown images nan.
    """
    p = costs.channels_exponent
    search = beside.get("search", {}).get("search", {})
    if stage in LIGHT:
        return stage, 0.0
    if stage in OF_IMAGES and images is None:
        return stage, math.nan
    if stage == "prepare":
        return stage, float(images.n_train + images.n_rest)
    if stage == "search":
        return search_key(method, params["search"]), search_work(
            method, params["search"], beside.get("supernet"), costs
        )
    if stage in ("train", "test"):
        per_image = images.side**2 if space in FIXED else passes(params["network"], images.side, p)
        n_images = params["train"]["epochs"] * images.n_train if stage == "train" else images.n_rest
        return f"{stage}:{space}", n_architectures(search) * n_images * per_image
    if stage == "evaluate":
        n_shots, n_episodes = len(beside["episodes"]["k_shots"]), beside["episodes"]["n_episodes"]
        tested = n_episodes + params["evaluate"]["n_untrained_episodes"]
        copies = max(1, params["evaluate"]["n_augmented_support"])
        return f"{stage}:{space}", n_architectures(search) * n_shots * tested * copies
    if stage in ("supernet", "meta_learn"):
        learning = params[stage]
        per_image = passes(learning, learning["image_size"], p)
        starts = 1 if stage == "supernet" else n_architectures(search)
        return f"{stage}:{method}", starts * meta_images(params, learning) * per_image
    if stage == "adapt":
        learning, episodes = params["meta_learn"], beside["episodes"]
        n_episodes = episodes["n_episodes"] + params["adapt"]["n_untrained_episodes"]
        n_images = sum(
            task_images(
                episodes["n_way"],
                k_shot,
                episodes["n_query"],
                steps_on(learning, k_shot, episodes["n_way"], test=True),
            )
            for k_shot in episodes["k_shots"]
        )
        per_image = passes(learning, learning["image_size"], p)
        return f"{stage}:{method}", n_architectures(search) * n_episodes * n_images * per_image
    if stage in ("feature_net", "features"):
        knobs = params["features"]
        n_images = images.n_train + images.n_rest
        if stage == "feature_net":
            n_images = knobs["epochs"] * images.n_train if knobs["weights"] == "own" else 0
        return stage, float(n_images)
    if stage == "database":
        return f"{stage}:{params['database']['oracle']}", database_work(params, p)
    if stage in ("meta_train_generator", "meta_train_predictor"):
        short, knobs, database = stage.removeprefix("meta_train_"), params["meta_train"], beside["database"]
        pairs = database["n_base_tasks"] * database["cells_per_task"] * knobs.get("best_fraction", 1.0)
        return stage, knobs[f"{short}_epochs"] * pairs * database["n_classes"] * knobs["n_images"]
    return stage, math.nan


def database_work(params: Mapping[str, Any], exponent: float) -> float:
    """Images that pass through networks while all tasks' architectures are trained; nan for oracles that do not."""
    database, oracle = params["database"], params["oracle"]
    if database["oracle"] != "train":
        return math.nan
    n_tasks = sum(database[f"n_{split}_tasks"] for split in ("base", "validation", "novel"))
    n_images = database["n_classes"] * (oracle["n_images"] or 600) * (1 - oracle["held_out"])
    per_image = passes(oracle, oracle["image_size"], exponent)
    return n_tasks * database["cells_per_task"] * oracle["epochs"] * n_images * per_image


def coefficient(key: str, costs: Costs) -> float | None:
    """Seconds per unit of work of a kind, or of the kind of which `LIKE` says that it is as long."""
    parts = [LIKE.get(part, part) for part in key.split(":")]
    return costs.coefficients.get(key, costs.coefficients.get(":".join(parts)))


def seconds(key: str, amount: float, costs: Costs) -> float | None:
    """How long a job takes; None where its kind was not measured."""
    if amount == 0:
        return costs.start
    per_unit = coefficient(key, costs)
    return None if per_unit is None or math.isnan(amount) else costs.start + per_unit * amount
