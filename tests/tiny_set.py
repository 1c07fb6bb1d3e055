"""A prepared set of a few small images, written as the three files that stages read."""

import csv
import io
import pathlib

import numpy as np

from pipeline.core.artifacts import digest, sha256, write_json, write_text
from pipeline.core.types import SPLITS
from pipeline.data.prepared import INDEX_COLUMNS, PreparedSet

N_CLASSES = {"base": 6, "validation": 5, "novel": 5}


def write(folder: pathlib.Path, *, n_images: int = 6, size: int = 8, seed: int = 0) -> dict[str, pathlib.Path]:
    """Write images, index and manifest; classes differ in brightness, so that there is something to learn.

    Returns the paths by argument name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"tiny.{name}.{end}" for name, end in (("images", "npy"), ("index", "csv"))}
    paths["manifest"] = folder / "tiny.manifest.json"
    rng = np.random.default_rng(seed)
    names = {split: [f"{split}{i}" for i in range(n)] for split, n in N_CLASSES.items()}
    rows = [(name, split) for split in SPLITS for name in names[split] for _ in range(n_images)]
    images = rng.integers(0, 200, (len(rows), size, size, 3)) + np.arange(len(rows))[:, None, None, None] // n_images
    np.save(paths["images"], images.astype(np.uint8))
    text = io.StringIO()
    writer = csv.DictWriter(text, INDEX_COLUMNS, lineterminator="\n", restval=0)
    writer.writeheader()
    writer.writerows({"image": i, "class": name, "split": split} for i, (name, split) in enumerate(rows))
    write_text(paths["index"], text.getvalue())
    facts = {
        "dataset": "tiny",
        "title": "Tiny",
        "official": True,
        "image_size": size,
        "channels": 3,
        "n_images": len(rows),
        "classes": names,
        "mean": [0.4] * 3,
        "std": [0.23] * 3,
        "images_sha256": sha256(paths["images"]),
        "index_sha256": sha256(paths["index"]),
    }
    write_json(paths["manifest"], {**facts, "digest": digest(facts)})
    return paths


def prepared(folder: pathlib.Path, **knobs) -> PreparedSet:
    """The same, opened."""
    return PreparedSet.open(**write(folder, **knobs))


def damage(path: pathlib.Path) -> None:
    """Change one bit of the last byte of a file, which is as large as before."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
