"""Generated files in the structure of the official ones of NAS-Bench-201 and NATS-Bench; no number in them is real.

Accuracies are made up from the architecture's number, the training length, the data set, the part and the seed, so that
a test knows what a reader must find.
"""

import bz2
import io
import pathlib
import pickle
import tarfile
from collections import OrderedDict

import numpy as np
import torch

TEXTS = ["|a~0|", "|b~0|", "|c~0|"]
SETS = {
    "cifar10-valid": ("x-valid", "ori-test"),
    "cifar10": ("ori-test",),
    "cifar100": ("x-valid", "x-test", "ori-test"),
    "ImageNet16-120": ("x-valid", "x-test", "ori-test"),
}
SEEDS = {200: {0: (777,), 1: (888, 777), 2: (999, 777, 888)}, 12: {0: (777,), 1: (777,), 2: (777,)}}


def accuracy(index: int, n_epochs: int, trained_on: str, evaluated: str, seed: int) -> float:
    """Per cent, another for each question."""
    name = f"{index} {n_epochs} {trained_on} {evaluated} {seed}"
    return float(np.random.default_rng(list(name.encode())).uniform(10, 95))


def trial(index: int, n_epochs: int, trained_on: str, seed: int) -> dict:
    """What a ResultsCount of the official packages keeps."""
    evaluated = {
        f"{part}@{epoch}": accuracy(index, n_epochs, trained_on, part, seed) if epoch == n_epochs - 1 else 1.0
        for part in SETS[trained_on]
        for epoch in range(n_epochs)
    }
    return {
        "name": trained_on,
        "net_state_dict": None,
        "train_acc1es": OrderedDict((epoch, 50.0) for epoch in range(n_epochs)),
        "train_acc5es": None,
        "train_losses": OrderedDict((epoch, 0.5) for epoch in range(n_epochs)),
        "train_times": None,
        "arch_config": {"channel": 16, "num_cells": 5, "arch_str": TEXTS[index], "class_num": 10},
        "params": np.float64(0.073306),
        "flop": 7.78,
        "seed": str(seed),
        "epochs": n_epochs,
        "latency": [0.01],
        "eval_names": list(SETS[trained_on]),
        "eval_acc1es": evaluated,
        "eval_times": {},
        "eval_losses": {key: 1.0 for key in evaluated},
    }


def results(index: int, n_epochs: int, sets=tuple(SETS)) -> dict:
    """What an ArchResults of the official packages keeps."""
    seeds = SEEDS[n_epochs][index]
    return {
        "arch_index": index,
        "arch_str": TEXTS[index],
        "all_results": {(name, seed): trial(index, n_epochs, name, seed) for name in sets for seed in seeds},
        "dataset_seed": {name: sorted(seeds) for name in sets},
        "clear_net_done": True,
    }


def nats() -> dict:
    """The value of NATS-tss-v1_0-3ffb9.pickle.pbz2."""
    infos = {i: OrderedDict({"12": results(i, 12), "200": results(i, 200)}) for i in range(len(TEXTS))}
    return {"meta_archs": TEXTS, "total_archs": 3, "arch2infos": infos, "evaluated_indexes": {0, 1, 2}}


def nb201(sets_of_less=tuple(SETS)) -> dict:
    """The value of NAS-Bench-201-v1_1-096897.pth; in v1.0 the short trainings are on cifar10-valid alone."""
    infos = {i: {"full": results(i, 200), "less": results(i, 12, sets_of_less)} for i in range(len(TEXTS))}
    return {"meta_archs": TEXTS, "arch2infos": OrderedDict(infos), "evaluated_indexes": [0, 1, 2]}


def write_nats(path: pathlib.Path) -> None:
    path.write_bytes(bz2.compress(pickle.dumps(nats(), protocol=4)))


def write_archive(path: pathlib.Path, content: dict | None = None) -> None:
    content = content or nats()
    meta = {**content, "arch2infos": None, "evaluated_indexes": set()}
    files = {"meta": meta} | {f"{i:06d}": one for i, one in content["arch2infos"].items()}
    with tarfile.open(path, "w") as archive:
        for name, value in files.items():
            packed = bz2.compress(pickle.dumps(value, protocol=4))
            member = tarfile.TarInfo(f"NATS-tss-v1_0-3ffb9-simple/{name}.pickle.pbz2")
            member.size = len(packed)
            archive.addfile(member, io.BytesIO(packed))


def write_v1_1(path: pathlib.Path) -> None:
    """As torch wrote it in 2020."""
    torch.save(nb201(), path, _use_new_zipfile_serialization=False)


def write_v1_0(path: pathlib.Path) -> None:
    torch.save(nb201(("cifar10-valid",)), path, _use_new_zipfile_serialization=False)


WRITERS = {
    "NATS-tss-v1_0-3ffb9-simple.tar": write_archive,
    "NATS-tss-v1_0-3ffb9.pickle.pbz2": write_nats,
    "NAS-Bench-201-v1_1-096897.pth": write_v1_1,
    "NAS-Bench-201-v1_0-e61699.pth": write_v1_0,
}
