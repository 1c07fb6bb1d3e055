"""Small stand-ins for every data set's files, in every accepted layout, as a mirror would hold them."""

import csv
import gzip
import hashlib
import io
import itertools
import pathlib
import pickle
import struct
import tarfile
import zipfile

import numpy as np
from PIL import Image
from scipy.io import savemat

from pipeline.core.types import SPLITS
from pipeline.data import get, imagenet32, mnist, pets, svhn
from pipeline.data.aircraft import ARCHIVE
from pipeline.data.base import Options, read_split
from pipeline.data.cifar import CIFAR10, CIFAR100, Archive
from pipeline.data.fetching import fetch
from pipeline.data.imagenet import FOLDER_OF
from pipeline.data.imagenet16 import STAND_IN, TEST, TRAIN
from pipeline.data.miniimagenet import CACHE_OF, LIST_OF, RFS_OF
from pipeline.data.prepared import PreparedSet
from pipeline.data.preparing import prepare
from pipeline.data.settings import FetchConfig, PrepareConfig
from pipeline.data.tieredimagenet import WORD_OF

PER_CLASS = 2
SIDE = 10
SMALL = PrepareConfig(max_image_size=8, min_images_per_class=2)


def picture(*name, side=SIDE, channels=3) -> np.ndarray:
    """An image that belongs to its name alone."""
    seed = int.from_bytes(hashlib.sha256(repr(name).encode()).digest()[:8], "big")
    shape = (side, side, channels) if channels > 1 else (side, side)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def write(path: pathlib.Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_tar(path: pathlib.Path, files: dict[str, bytes], mode: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_zip(path: pathlib.Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def vouch(mirror: pathlib.Path) -> None:
    """Write the mirror's SHA256SUMS over all it holds."""
    files = sorted(path for path in mirror.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(f.read_bytes()).hexdigest()}  ./{f.relative_to(mirror)}\n" for f in files]
    (mirror / "SHA256SUMS").write_text("".join(lines))


def rows_by_split(name: str):
    """split -> [(class, number of the image in it)] of the published class list."""
    rows = {split: [] for split in SPLITS}
    for class_name, split in read_split(name).items():
        rows[split] += [(class_name, number) for number in range(PER_CLASS)]
    return rows


def stacked(rows) -> np.ndarray:
    return np.stack([picture(*row) for row in rows])


def numbers(rows) -> list[int]:
    order = {class_name: i for i, class_name in enumerate(dict.fromkeys(c for c, _ in rows))}
    return [order[class_name] for class_name, _ in rows]


def mini_csv(mirror: pathlib.Path) -> None:
    images = {}
    for split, rows in rows_by_split("miniimagenet").items():
        text = io.StringIO()
        table = csv.writer(text)
        table.writerow(["filename", "label"])
        for class_name, number in rows:
            table.writerow([f"{class_name}{number:08d}.jpg", class_name])
            images[f"images/{class_name}{number:08d}.jpg"] = encoded(picture(class_name, number), "JPEG")
        write(mirror / "miniimagenet" / LIST_OF[split].name, text.getvalue().encode())
    write_tar(mirror / "miniimagenet/images.tar", images)


def class_folder_files(name: str, top: str) -> dict[str, bytes]:
    return {
        f"{top}/{split}/{class_name}/{number}.png": encoded(picture(class_name, number))
        for split, rows in rows_by_split(name).items()
        for class_name, number in rows
    }


def mini_classes(mirror: pathlib.Path) -> None:
    write_tar(mirror / "miniimagenet/mini-imagenet.tar.gz", class_folder_files("miniimagenet", "mini-imagenet"), "w:gz")


def mini_rfs(mirror: pathlib.Path) -> None:
    for split, rows in rows_by_split("miniimagenet").items():
        content = {"data": stacked(rows), "labels": numbers(rows)}
        write(mirror / "miniimagenet" / RFS_OF[split].name, pickle.dumps(content, protocol=2))


def mini_cache(mirror: pathlib.Path) -> None:
    for split, rows in rows_by_split("miniimagenet").items():
        of_class = {c: [i for i, row in enumerate(rows) if row[0] == c] for c, _ in rows}
        content = {"image_data": stacked(rows), "class_dict": of_class}
        write(mirror / "miniimagenet" / CACHE_OF[split].name, pickle.dumps(content, protocol=2))


def tiered_arrays(mirror: pathlib.Path) -> None:
    for split, rows in rows_by_split("tieredimagenet").items():
        file = io.BytesIO()
        np.savez_compressed(file, images=stacked(rows))
        write(mirror / f"tieredimagenet/{WORD_OF[split]}_images.npz", file.getvalue())
        labels = pickle.dumps({"labels": numbers(rows)}, protocol=2)
        write(mirror / f"tieredimagenet/{WORD_OF[split]}_labels.pkl", labels)


def tiered_png_files() -> dict[str, bytes]:
    files = {}
    for split, rows in rows_by_split("tieredimagenet").items():
        images = [np.frombuffer(encoded(picture(*row)), dtype=np.uint8) for row in rows]
        files[f"{WORD_OF[split]}_images_png.pkl"] = pickle.dumps(images, protocol=2)
        files[f"{WORD_OF[split]}_labels.pkl"] = pickle.dumps({"label_specific": np.array(numbers(rows))}, protocol=2)
    return files


def tiered_authors(mirror: pathlib.Path) -> None:
    files = {f"tiered-imagenet/{name}": content for name, content in tiered_png_files().items()}
    write_tar(mirror / "tieredimagenet/tiered-imagenet.tar", files)


def tiered_pngs(mirror: pathlib.Path) -> None:
    for name, content in tiered_png_files().items():
        write(mirror / f"tieredimagenet/tiered-imagenet-{name}", content)


def tiered_classes(mirror: pathlib.Path) -> None:
    write_zip(mirror / "tieredimagenet/tieredimagenet.zip", class_folder_files("tieredimagenet", "tieredimagenet"))


def cifar_rows(archive: Archive, n_classes: int, per_class: int) -> dict[str, list[tuple]]:
    """file -> [(label, names of the picture)], `per_class` images of each class in each part, dealt to its files."""
    rows = {}
    for part, files in archive.files.items():
        of_part = [(label, part, number, label) for number in range(per_class) for label in range(n_classes)]
        rows |= {file: of_part[i :: len(files)] for i, file in enumerate(files)}
    return rows


def write_cifar(mirror: pathlib.Path, archive: Archive, names: list[str], rows: dict[str, list[tuple]]) -> None:
    """The official Python archive, made of pictures."""
    contents = {archive.meta: {archive.names: names}}
    for file, of_file in rows.items():
        pixels = [picture(*name, side=32).transpose(2, 0, 1).reshape(-1) for _, *name in of_file]
        labels = [label for label, *_ in of_file]
        contents[file] = {"data": np.stack(pixels), archive.labels: labels, "filenames": list(map(str, of_file))}
    files = {f"{archive.source.folder}/{file}": pickle.dumps(content, protocol=2) for file, content in contents.items()}
    write_tar(mirror / archive.source.name, files, "w:gz")


CIFAR10_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def cifar(mirror: pathlib.Path, per_class: int = 1) -> None:
    write_cifar(mirror, CIFAR100, sorted(read_split("cifarfs")), cifar_rows(CIFAR100, 100, per_class))


def cifar100(mirror: pathlib.Path) -> None:
    cifar(mirror, PER_CLASS)


def cifar10(mirror: pathlib.Path, per_class: int = PER_CLASS) -> None:
    write_cifar(mirror, CIFAR10, CIFAR10_NAMES, cifar_rows(CIFAR10, 10, per_class))


def imagenet16(mirror: pathlib.Path) -> None:
    """The official pickles, and in each an image of a class beyond the first 120."""
    for part, sources in (("train", TRAIN), ("val", (TEST,))):
        rows = [(label, number) for number in range(PER_CLASS) for label in range(1, 121)]
        for i, source in enumerate(sources):
            own = [*rows[i :: len(sources)], (121 + i, 0)]
            data = np.stack([picture(part, *row, side=16).transpose(2, 0, 1).reshape(-1) for row in own])
            content = {"data": data, "labels": [label for label, _ in own], "mean": data.mean(axis=0)}
            write(mirror / "imagenet16" / source.name, pickle.dumps(content, protocol=2))


def imagenet16_stand_in(mirror: pathlib.Path) -> None:
    rows = [(label, number) for label in range(120) for number in range(2 * PER_CLASS)]
    file = io.BytesIO()
    np.savez_compressed(
        file,
        images=np.stack([picture("stand-in", *row, side=16) for row in rows]),
        labels=np.array([label for label, _ in rows], dtype=np.int16),
        split=np.array([number >= PER_CLASS for _, number in rows], dtype=np.uint8),
        wnids=np.array([f"n{label:08d}" for label in range(120)]),
    )
    write(mirror / STAND_IN.name, file.getvalue())


def imagenet(mirror: pathlib.Path, n_classes: int = 1000) -> None:
    for source in FOLDER_OF.values():
        for label in range(n_classes):
            for number in range(PER_CLASS):
                content = encoded(picture(source.name, label, number), "JPEG")
                write(mirror / f"imagenet/{source.name}/n{label:08d}/{number}.JPEG", content)


def omniglot(mirror: pathlib.Path) -> None:
    parts = {"images_background": {}, "images_evaluation": {}}
    for i, character in enumerate(read_split("omniglot")):
        part = ("images_background", "images_evaluation")[i % 2]
        for number in range(PER_CLASS):
            drawing = Image.fromarray(picture(character, number, side=14, channels=1)).convert("1")
            file = io.BytesIO()
            drawing.save(file, "PNG")
            parts[part][f"{part}/{character}/{i:04d}_{number + 1:02d}.png"] = file.getvalue()
    for part, files in parts.items():
        write_zip(mirror / f"omniglot/{part}.zip", files)


def idx(values: np.ndarray) -> bytes:
    """A gzipped idx file of bytes."""
    head = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
    return gzip.compress(head + values.astype(np.uint8).tobytes())


def mnist_files(mirror: pathlib.Path, per_class: int = PER_CLASS) -> None:
    for split, (images, labels) in mnist.FILES_OF.items():
        rows = [(digit, split, number) for number in range(per_class) for digit in range(10)]
        pixels = np.stack([picture("mnist", *row, side=28, channels=1) for row in rows])
        write(mirror / "mnist" / images.name, idx(pixels))
        write(mirror / "mnist" / labels.name, idx(np.array([digit for digit, *_ in rows])))


def svhn_file(rows) -> bytes:
    """A MATLAB file of X and y of the (label, number) in `rows`."""
    file = io.BytesIO()
    images = np.stack([picture("svhn", *row, side=32) for row in rows], axis=-1)
    savemat(file, {"X": images, "y": np.array([[label] for label, *_ in rows], dtype=np.uint8)}, do_compression=True)
    return file.getvalue()


def svhn_files(mirror: pathlib.Path) -> None:
    for split, source in svhn.FILE_OF.items():
        rows = [(label, split, number) for number in range(PER_CLASS) for label in range(1, 11)]
        write(mirror / "svhn" / source.name, svhn_file(rows))


MANUFACTURERS = [f"Maker {number}" for number in range(29)] + ["Boeing"]


def aircraft_files(per_class: int = PER_CLASS) -> dict[str, bytes]:
    """The files of the archive, by their names inside its folder; images and lists of variants lie there too."""
    files = {"data/manufacturers.txt": "\n".join(MANUFACTURERS).encode() + b"\n", "README.md": b"# FGVC-Aircraft\n"}
    numbers = itertools.count(34309)
    for word in ("trainval", "test"):
        lines = []
        for maker in MANUFACTURERS:
            for _ in range(per_class):
                image = f"{next(numbers):07d}"
                lines.append(f"{image} {maker}\n")
                files[f"data/images/{image}.jpg"] = encoded(picture("aircraft", image), "JPEG")
        files[f"data/images_manufacturer_{word}.txt"] = "".join(lines).encode()
        files[f"data/images_variant_{word}.txt"] = b"0034309 707-320\n"
    return files


def aircraft(mirror: pathlib.Path) -> None:
    files = {f"{ARCHIVE.folder}/{name}": content for name, content in aircraft_files().items()}
    write_tar(mirror / "aircraft" / ARCHIVE.name, files, "w:gz")


PER_BREED = 5 * PER_CLASS
BREEDS = [f"Breed_{number:02d}" for number in range(36)] + ["Abyssinian"]


def pets_archives(mirror: pathlib.Path, per_class: int = PER_BREED) -> None:
    """Images named after their breeds, and lists that give every other image to training."""
    images, lists = {}, {"list.txt": b"#Image CLASS-ID SPECIES BREED ID\n"}
    for word, first in (("trainval", 0), ("test", 1)):
        names = [(breed, number) for breed in BREEDS for number in range(first, per_class, 2)]
        lists[f"{word}.txt"] = "".join(f"{breed}_{number + 1} 1 1 1\n" for breed, number in names).encode()
    for breed, number in itertools.product(BREEDS, range(per_class)):
        images[f"images/{breed}_{number + 1}.jpg"] = encoded(picture("pets", breed, number), "JPEG")
    images["images/Abyssinian_101.mat"] = b"some images have a second form"
    write_tar(mirror / "pets" / pets.IMAGES.name, images, "w:gz")
    lists = {f"annotations/{name}": content for name, content in lists.items()}
    write_tar(mirror / "pets" / pets.LISTS.name, lists, "w:gz")


def pets_folders(mirror: pathlib.Path, per_class: int = PER_BREED) -> None:
    files = {
        f"pets/{breed}/{number:03d}.jpg": encoded(picture("pets", breed, number), "JPEG")
        for breed, number in itertools.product(BREEDS, range(per_class))
    }
    write_tar(mirror / pets.FOLDERS.name, files)


def imagenet32_files() -> dict[str, bytes]:
    """The ten pickles: of every class one image in the first five, the others in the last five."""
    rows = [(label, number) for number in range(PER_CLASS) for label in range(1, 1001)]
    files, per_file = {}, len(rows) // len(imagenet32.BATCHES)
    for i, name in enumerate(imagenet32.BATCHES):
        own = rows[i * per_file : (i + 1) * per_file]
        data = np.stack([picture("imagenet32", *row, side=32).transpose(2, 0, 1).reshape(-1) for row in own])
        content = {"data": data, "labels": [label for label, _ in own], "mean": data.mean(axis=0)}
        files[name] = pickle.dumps(content, protocol=2)
    return files


def imagenet32_pickles(mirror: pathlib.Path) -> None:
    for name, content in imagenet32_files().items():
        write(mirror / "imagenet32" / name, content)


def imagenet32_archive(mirror: pathlib.Path) -> None:
    archive = imagenet32.ARCHIVE
    files = {f"{archive.folder}/{name}": content for name, content in imagenet32_files().items()}
    write_zip(mirror / "imagenet32" / archive.name, files)


def imagenet32_stand_in(mirror: pathlib.Path) -> None:
    rows = [(label, number) for label in range(200) for number in range(PER_CLASS)]
    file = io.BytesIO()
    np.savez_compressed(
        file,
        images=np.stack([picture("stand-in", *row, side=32) for row in rows]),
        labels=np.array([label for label, _ in rows], dtype=np.int16),
        wnids=np.array([f"n{label:08d}" for label in range(200)]),
        class_names=np.array([f"animal {label}" for label in range(200)]),
    )
    write(mirror / imagenet32.STAND_IN.name, file.getvalue())


def folder_files(n_classes: int = 12, per_class: int = 6, channels: int = 3, side: int = SIDE) -> dict[str, bytes]:
    """Files of a user's folder: class0/0.png, ..."""
    return {
        f"class{c:02d}/{i}.png": encoded(picture("user", c, i, side=side, channels=channels))
        for c in range(n_classes)
        for i in range(per_class)
    }


BUILDERS = {
    ("miniimagenet", "csv and images"): mini_csv,
    ("miniimagenet", "class folders"): mini_classes,
    ("miniimagenet", "RFS pickles"): mini_rfs,
    ("miniimagenet", "cached pickles"): mini_cache,
    ("tieredimagenet", "arrays"): tiered_arrays,
    ("tieredimagenet", "authors' archive"): tiered_authors,
    ("tieredimagenet", "PNG pickles"): tiered_pngs,
    ("tieredimagenet", "class folders"): tiered_classes,
    ("cifarfs", "python"): cifar,
    ("fc100", "python"): cifar,
    ("omniglot", "zip archives"): omniglot,
    ("cifar10", "python"): cifar10,
    ("cifar100", "python"): cifar100,
    ("imagenet16", "pickles"): imagenet16,
    ("imagenet16", "stand-in"): imagenet16_stand_in,
    ("imagenet", "class folders"): imagenet,
    ("mnist", "idx files"): mnist_files,
    ("svhn", "MATLAB files"): svhn_files,
    ("aircraft", "archive"): aircraft,
    ("pets", "archives"): pets_archives,
    ("pets", "class folders"): pets_folders,
    ("imagenet32", "archive"): imagenet32_archive,
    ("imagenet32", "pickles"): imagenet32_pickles,
    ("imagenet32", "stand-in"): imagenet32_stand_in,
}


def make_mirror(folder: pathlib.Path, *builders) -> pathlib.Path:
    """A mirror folder, vouched for."""
    folder.mkdir(parents=True, exist_ok=True)
    for builder in builders:
        builder(folder)
    vouch(folder)
    return folder


def outputs(folder: pathlib.Path, name: str) -> dict[str, pathlib.Path]:
    return {
        "images": folder / f"{name}.images.npy",
        "index": folder / f"{name}.index.csv",
        "manifest": folder / f"{name}.manifest.json",
    }


def made(folder, name, *, mirror=None, knobs=SMALL, spec=None, n_workers=1) -> PreparedSet:
    """Fetch, prepare and open a data set (with `spec`, a user's folder) in a working folder."""
    dataset = get("image_folder" if spec is not None else name)(Options(prepare=knobs, folder=spec))
    raw = folder / f"{name}.tar"
    fetch(dataset, name, raw, mirror=mirror)
    files = outputs(folder, name)
    prepare(dataset, name, raw, **files, n_workers=n_workers)
    return PreparedSet.open(**files, verify=True)


def made_folder(folder: pathlib.Path, files: dict[str, bytes] | None = None, **knobs) -> PreparedSet:
    """A prepared set of a user's folder with these files."""
    pictures = folder / "pictures"
    for name, content in (files or folder_files()).items():
        write(pictures / name, content)
    settings = {"max_image_size": 8, "min_images_per_class": 2} | knobs
    return made(folder, "mine", knobs=PrepareConfig(**settings), spec=FetchConfig(path=str(pictures), title="Mine"))
