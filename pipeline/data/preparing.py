"""From a raw archive to a prepared set: read every image in parallel, check, measure, describe.

The result is the same for any number of worker processes.
"""

from __future__ import annotations

import collections
import concurrent.futures
import concurrent.futures.process
import csv
import dataclasses
import hashlib
import io
import itertools
import json
import multiprocessing
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.core.artifacts import (
    PathLike,
    digest,
    resuming_array,
    scratch_folder,
    sha256,
    write_json,
    write_text,
)
from pipeline.core.checkpoint import Checkpoint, Pace
from pipeline.core.errors import DataError, PipelineError
from pipeline.core.progress import say, track
from pipeline.core.types import KINDS
from pipeline.core.wording import n_of
from pipeline.core.workers import serve
from pipeline.data.archives import Blob, Tree
from pipeline.data.base import Dataset, Record
from pipeline.data.fetching import SOURCES_FILE
from pipeline.data.images import DEPTHS, decode, depth_of, difference_hash
from pipeline.data.prepared import INDEX_COLUMNS

CHUNK = 256
FEW = 2000  # below this many images, starting processes takes longer than reading
LISTED = 20  # findings are counted in full and listed up to here
SECONDS_BETWEEN_SAVES = 60.0
MOST_IMAGE_BYTES = 2**28  # of one image file, which is read as a whole
NEAR = 3.0  # mean absolute difference of grey levels below which equal hashes count as near duplicates


@dataclass(frozen=True)
class Target:
    """What every image becomes; grey images of 16 bits are taken to have values of `depth` bits at least."""

    size: int
    channels: int
    inverted: bool
    depth: int = 0


@dataclass(frozen=True)
class Finding:
    """What reading one image gave: checksum and hash of its pixels and `depth_of` it, or why it could not be read."""

    sha256: str = ""
    hash: int = 0
    failure: str = ""
    depth: int = 0


class UnreadableImagesError(DataError):
    """Some images cannot be read; `failures` maps their rows to reasons."""

    def __init__(self, failures: dict[int, str], records: Sequence[Record], dataset: Dataset, name: str):
        lines = [f"  {records[row].source}: {why}" for row, why in itertools.islice(failures.items(), LISTED)]
        more = f"\n  and {len(failures) - LISTED} more" if len(failures) > LISTED else ""
        again = "run the same command again"
        if dataset.options.folder is None:
            again = "fetch them again (`snakemake --cores 2 --forcerun fetch -- TARGET`)"
        super().__init__(
            f"{len(failures)} of {n_of(len(records), 'image')} of {dataset.called(name)} cannot be read:\n"
            + "\n".join(lines)
            + f"{more}\nReplace them and {again}, or leave them out with `prepare: {{corrupt: drop}}` in params.yaml."
        )
        self.failures = failures


def prepare(
    dataset: Dataset,
    name: str,
    raw: PathLike,
    *,
    images: PathLike,
    index: PathLike,
    manifest: PathLike,
    n_workers: int = 1,
    checkpoint: tuple[PathLike, str] | None = None,
) -> None:
    """Write the three files of the prepared set `name` from its raw archive.

    Args:
        checkpoint: where a run that is broken off keeps what it found, and the digest of the parameters that it is
            for; None to keep nothing.

    Raises:
        DataError: images or classes are missing, damaged or too few.
        ArtifactError, DiskFullError: a file cannot be read or written.
    """
    with scratch_folder(pathlib.Path(images).parent, f"unpacked.{name}") as scratch:
        tree = Tree.opened(raw, scratch)
        origin = json.loads(tree.read(SOURCES_FILE))
        records = select(dataset.records(tree, origin["layout"]), dataset, name)
        dropped: dict[str, str] = {}

        def kept() -> Checkpoint | None:
            return checkpoint and Checkpoint(
                checkpoint[0], {"params": checkpoint[1], "origin": origin, "dropped": dropped}
            )

        try:
            measured = write_images(images, records, dataset, name, n_workers, dropped, kept())
        except UnreadableImagesError as unreadable:
            if dataset.options.prepare.corrupt == "refuse":
                raise
            dropped = {records[row].source: why for row, why in unreadable.failures.items()}
            left_out = "image is" if len(dropped) == 1 else "images are"
            say(f"{name}: {len(dropped)} unreadable {left_out} left out")
            records = select([r for i, r in enumerate(records) if i not in unreadable.failures], dataset, name)
            measured = write_images(images, records, dataset, name, n_workers, dropped, kept())
    write_text(index, index_text(records, measured.findings))
    write_json(manifest, describe(dataset, name, origin, records, measured, images, index))
    if checkpoint:
        kept().clear()
    size = dataset.image_size()
    say(f"{name}: {n_of(len(records), 'image')} of {size} x {size} pixels prepared")


def select(records: Iterable[Record], dataset: Dataset, name: str) -> list[Record]:
    """Records ordered by split, then class, capped per class of a split.

    Raises DataError for missing or poor classes, and where the data set's kind does not allow its splits.
    """
    knobs, kind = dataset.options.prepare, KINDS[dataset.kind]
    groups: dict[tuple[str, str], list[Record]] = collections.defaultdict(list)
    for record in records:
        groups[record.split, record.class_name].append(record)
    (require_same_classes if kind.shares_classes else require_own_classes)(groups, name)
    poor = {group: len(members) for group, members in groups.items() if len(members) < knobs.min_images_per_class}
    if poor:
        described = (f"'{c}' ({f'{split} ' * kind.shares_classes}{n})" for (split, c), n in poor.items())
        raise DataError(
            f"{dataset.called(name)}: {n_of(len(poor), 'class has', 'classes have')} fewer than "
            f"{n_of(knobs.min_images_per_class, 'image')}: {', '.join(itertools.islice(described, LISTED))}. Add "
            "images, take such classes out, or lower prepare.min_images_per_class in params.yaml."
        )
    empty = set(kind.splits) - set(kind.optional) - {split for split, _ in groups}
    if empty:
        raise DataError(
            f"{name}: no class of the {' and '.join(sorted(empty))} split was found; the archive is incomplete."
        )
    order = sorted(groups, key=lambda group: (kind.splits.index(group[0]), group[1]))
    return [record for group in order for record in groups[group][: knobs.max_images_per_class]]


def require_own_classes(groups: Iterable[tuple[str, str]], name: str) -> None:
    """Raises DataError when a class is in two of the (split, class) pairs."""
    seen: set[str] = set()
    for _, class_name in groups:
        if class_name in seen:
            raise DataError(f"{name}: class '{class_name}' lies in more than one split; splits must not share classes.")
        seen.add(class_name)


def require_same_classes(groups: Iterable[tuple[str, str]], name: str) -> None:
    """Raises DataError when a class of one split is in no (split, class) pair of another."""
    classes_of: dict[str, set[str]] = collections.defaultdict(set)
    for split, class_name in groups:
        classes_of[split].add(class_name)
    everywhere = set.union(set(), *classes_of.values())
    for split, present in classes_of.items():
        missing = sorted(everywhere - present)
        if missing:
            have = "has" if len(missing) == 1 else "have"
            raise DataError(
                f"{name}: {len(missing)} of {len(everywhere)} classes {have} no image in the {split} split, e.g. "
                f"'{missing[0]}'. All splits of a classification data set have the same classes: fetch it again, or "
                "give these classes images there."
            )


def read_one(record: Record, target: Target) -> tuple[np.ndarray, int]:
    """The pixels of a record, uint8 (size size channels), and its depth. Raises DataError when it cannot be read."""
    content = record.image
    if isinstance(content, Blob):
        largest = max(content.size, content.n_bytes)
        if largest > MOST_IMAGE_BYTES:
            raise DataError(f"it has {largest:,} bytes, more than the {MOST_IMAGE_BYTES:,} that an image may have")
        content = content.read()
    depth = depth_of(content)
    pixels = decode(content, target.size, target.channels, max(depth, target.depth))
    pixels = np.rot90(pixels, record.quarter_turns)
    return 255 - pixels if target.inverted else pixels, depth


def read_into(array: np.ndarray, start: int, records: Sequence[Record], target: Target) -> list[Finding]:
    """Fill rows `start`... of `array`; a finding for each record."""
    findings = []
    for row, record in enumerate(records, start):
        try:
            pixels, depth = read_one(record, target)
        except DataError as error:
            findings.append(Finding(failure=str(error)))
            continue
        array[row] = pixels = np.ascontiguousarray(pixels)
        findings.append(Finding(hashlib.sha256(pixels.tobytes()).hexdigest(), difference_hash(pixels), depth=depth))
    return findings


def _read_chunk(path: str, start: int, records: Sequence[Record], target: Target) -> list[Finding]:
    """`read_into` the array file at `path`, in a process of its own."""
    return read_into(np.load(path, mmap_mode="r+"), start, records, target)


@dataclass(frozen=True)
class Measured:
    """What writing the images taught: a finding per row, checks, and mean and std of the search split (RGB, 0..1)."""

    findings: list[Finding]
    checks: dict[str, Any]
    mean: list[float]
    std: list[float]


def write_images(
    path: PathLike,
    records: Sequence[Record],
    dataset: Dataset,
    name: str,
    n_workers: int,
    dropped: dict[str, str],
    checkpoint: Checkpoint | None = None,
) -> Measured:
    """Write all images and look at them as a whole, from where an interrupted run stopped.

    Raises UnreadableImagesError, or DataError for findings that are refused; then no file is left behind.
    """
    target = Target(dataset.image_size(), dataset.channels, dataset.inverted)
    shape = (len(records), target.size, target.size, target.channels)
    with resuming_array(path, shape, np.uint8) as array:
        findings = still_true(array, (checkpoint and checkpoint.load()) or [])
        n_chunks, n_done = -(-len(records) // CHUNK), len(findings) // CHUNK
        chunks = [(start, records[start : start + CHUNK]) for start in range(len(findings), len(records), CHUNK)]
        pace = Pace(SECONDS_BETWEEN_SAVES)
        reading = _read_chunks(array, chunks, target, n_workers)
        for of_chunk in track(reading, f"reading {name}", total=n_chunks, done=n_done):
            findings.extend(of_chunk)
            if checkpoint and pace.due:
                checkpoint.save([dataclasses.astuple(finding) for finding in findings])
                pace.restart()
        failures = {row: finding.failure for row, finding in enumerate(findings) if finding.failure}
        if failures:
            raise UnreadableImagesError(failures, records, dataset, name)
        scale_alike(array, findings, records, target, name)
        checks = check(records, findings, array, dropped)
        refuse_duplicates(checks, dataset, name)
        tell_repeated(checks, dataset, name)
        search_split = KINDS[dataset.kind].search_split
        mean, std = mean_and_std(array[: sum(record.split == search_split for record in records)])
    return Measured(findings, checks, mean, std)


def scale_alike(
    array: np.ndarray, findings: list[Finding], records: Sequence[Record], target: Target, name: str
) -> None:
    """Read grey images of 16 bits again, in place, of fewer bits than others of the set, which came out lighter."""
    deepest = max((finding.depth for finding in findings), default=0)
    deeper = dataclasses.replace(target, depth=deepest)
    lighter = [row for row, finding in enumerate(findings) if 0 < finding.depth < deepest]
    for row in track(lighter, f"reading {name} again for its range"):
        (findings[row],) = read_into(array, row, records[row : row + 1], deeper)
    if 0 < deepest < DEPTHS[-1]:
        say(f"{name}: grey images of 16 bits hold values of {deepest} bits only; {2**deepest - 1} becomes white")


def still_true(array: np.ndarray, saved: Sequence[Sequence[Any]]) -> list[Finding]:
    """Of what an interrupted run found, in whole chunks, as much as the array still bears out.

    The array's pages may not all have reached the disk before a power cut; the checksums tell.
    """
    findings = [Finding(*one) for one in saved]
    for row, finding in enumerate(findings):
        if not finding.failure and hashlib.sha256(array[row].tobytes()).hexdigest() != finding.sha256:
            return findings[: row - row % CHUNK]
    return findings[: len(findings) - len(findings) % CHUNK]


def _read_chunks(array: np.memmap, chunks: list, target: Target, n_workers: int) -> Iterator[list[Finding]]:
    in_memory = not chunks or not isinstance(chunks[0][1][0].image, Blob)
    if n_workers < 2 or in_memory or len(array) < FEW:
        for start, records in chunks:
            yield read_into(array, start, records, target)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        n_workers, mp_context=context, initializer=serve, initargs=(os.getpid(),)
    ) as pool:
        jobs = [pool.submit(_read_chunk, str(array.filename), start, records, target) for start, records in chunks]
        try:
            for job in jobs:
                yield job.result()
        except concurrent.futures.process.BrokenProcessPool:
            raise PipelineError(
                "A process that reads images was killed, most likely for want of memory. Lower compute.threads and run "
                "the same command again."
            ) from None
        finally:
            for job in jobs:
                job.cancel()


def mean_and_std(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per RGB channel in 0..1, from exact integer sums over uint8 (n h w c).

    Of a channel that is the same in all pixels the deviation is called 1, as it is divided by. Raises DataError where
    that holds for all channels.
    """
    total = np.zeros(images.shape[-1], dtype=np.int64)
    squares = np.zeros(images.shape[-1], dtype=np.int64)
    for start in range(0, len(images), CHUNK):
        values = images[start : start + CHUNK].astype(np.int64)
        total += values.sum(axis=(0, 1, 2))
        squares += (values**2).sum(axis=(0, 1, 2))
    count = images.size // images.shape[-1]
    mean = total / count
    std = np.sqrt(squares / count - mean**2)
    if not std.any():
        raise DataError(
            "All images to learn from (base or train split) are blank: their pixels do not vary. Give images that show "
            "something."
        )
    std[std == 0] = 255
    repeat = 3 // images.shape[-1]
    return [*(mean / 255).tolist()] * repeat, [*(std / 255).tolist()] * repeat


def check(
    records: Sequence[Record], findings: Sequence[Finding], array: np.ndarray, dropped: dict[str, str]
) -> dict[str, Any]:
    """Findings for the manifest: equal images, nearly equal ones in different splits, images left out."""
    exact = list(_across_splits(records, [finding.sha256 for finding in findings]))
    alike = _across_splits(records, [finding.hash for finding in findings])
    near = [pair for pair in alike if findings[pair[0]].sha256 != findings[pair[1]].sha256 and _close(array, *pair)]
    repeated = list(_within_splits(records, [finding.sha256 for finding in findings]))
    between = [(a, b) for a, b in repeated if records[a].class_name != records[b].class_name]
    within = [(a, b) for a, b in repeated if records[a].class_name == records[b].class_name]

    def listed(pairs):
        return {"count": len(pairs), "examples": [[records[a].source, records[b].source] for a, b in pairs[:LISTED]]}

    return {
        "duplicates_across_splits": listed(exact),
        "near_duplicates_across_splits": listed(near),
        "duplicates_between_classes_of_a_split": listed(between),
        "duplicates_within_classes": listed(within),
        "dropped": [{"source": source, "reason": reason} for source, reason in sorted(dropped.items())],
    }


def _across_splits(records: Sequence[Record], keys: Sequence[Any]) -> Iterator[tuple[int, int]]:
    """Pairs of rows with equal keys and different splits: the first row of a key with its rows in other splits."""
    first: dict[Any, int] = {}
    for row, key in enumerate(keys):
        other = first.setdefault(key, row)
        if records[other].split != records[row].split:
            yield other, row


def _within_splits(records: Sequence[Record], keys: Sequence[Any]) -> Iterator[tuple[int, int]]:
    """Pairs of rows with equal keys in one split: the first row of a key there with the others."""
    first: dict[Any, int] = {}
    for row, (record, key) in enumerate(zip(records, keys, strict=True)):
        other = first.setdefault((record.split, key), row)
        if other != row:
            yield other, row


def _close(array: np.ndarray, a: int, b: int) -> bool:
    return bool(np.abs(array[a].astype(np.int16) - array[b]).mean() < NEAR)


def refuse_duplicates(checks: dict[str, Any], dataset: Dataset, name: str) -> None:
    """Raises DataError when the data set must not have equal images in different splits and has."""
    found = checks["duplicates_across_splits"]
    if found["count"] == 0:
        return
    message = f"{dataset.called(name)}: {_lying(found, 'in two splits')}"
    if dataset.duplicates == "refuse":
        raise DataError(
            f"{message}\nA test on images that were trained on proves nothing. Delete one of each pair and run the "
            "same command again, or accept them with "
            f"`data: {{folders: {{{name}: {{duplicates: report}}}}}}` in params.yaml."
        )
    say(message)


def tell_repeated(checks: dict[str, Any], dataset: Dataset, name: str) -> None:
    """Say which equal images lie in one split of a user's own folder, whose pictures only the user can mend."""
    if dataset.options.folder is None:
        return
    if (found := checks["duplicates_between_classes_of_a_split"])["count"]:
        say(
            f"{dataset.called(name)}: {_lying(found, 'in two classes of one split')}\nNo network can tell of which of "
            "the two they are. Take each out of the class that it is not of."
        )
    if (found := checks["duplicates_within_classes"])["count"]:
        say(
            f"{dataset.called(name)}: {_lying(found, 'twice in one class')}\nThey count twice, and a test may show the "
            "same image to learn from and to recognise. Delete one of each pair unless that is meant."
        )


def _lying(found: dict[str, Any], where: str) -> str:
    """How many images lie there, and the first pairs."""
    pairs = "".join(f"\n  {a} = {b}" for a, b in found["examples"])
    more = f"\n  and {found['count'] - LISTED} more" if found["count"] > LISTED else ""
    return f"{found['count']} {'image lies' if found['count'] == 1 else 'images lie'} {where}:{pairs}{more}"


def index_text(records: Sequence[Record], findings: Sequence[Finding]) -> str:
    """The index as CSV text."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(INDEX_COLUMNS)
    for row, (record, finding) in enumerate(zip(records, findings, strict=True)):
        table.writerow([row, record.class_name, record.split, record.source, finding.sha256, record.fold])
    return text.getvalue()


def describe(
    dataset: Dataset,
    name: str,
    origin: dict[str, Any],
    records: Sequence[Record],
    measured: Measured,
    images: PathLike,
    index: PathLike,
) -> dict[str, Any]:
    """The manifest."""
    layout = next(layout for layout in dataset.layouts if layout.name == origin["layout"])
    kind, held = KINDS[dataset.kind], {record.split for record in records}
    splits = [split for split in kind.splits if split in held]
    classes = {split: list(dict.fromkeys(r.class_name for r in records if r.split == split)) for split in splits}
    n_classes = {"n_classes": len(classes[kind.search_split])} if kind.shares_classes else {}
    content = {"images_sha256": sha256(images), "index_sha256": sha256(index), "classes": classes}
    return {
        "schema_version": 1,
        "dataset": name,
        "kind": dataset.kind,
        "title": layout.title or dataset.title or name,
        "licence": dataset.licence,
        "official": all(source["official"] for source in origin["sources"]),
        "layout": origin["layout"],
        "sources": origin["sources"],
        "image_size": dataset.image_size(),
        "channels": dataset.channels,
        **n_classes,
        "n_images": len(records),
        "mean": measured.mean,
        "std": measured.std,
        "checks": measured.checks,
        "digest": digest(content),
        **content,
    }
