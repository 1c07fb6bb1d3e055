"""Find the files a data set is made from, check them, and put them into one raw archive.

A file is looked for in the local mirror, then in an installed package that ships it, then where another program keeps
it, then at its official address. The published checksum makes a file official; a mirror's own SHA256SUMS vouches for
anything else it holds, and the raw archive then says that it is a mirror's variant.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import pathlib
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.core.artifacts import PathLike, alone, to_json, writing
from pipeline.core.config import is_text
from pipeline.core.errors import ConfigError, DataError, DiskFullError, DownloadError
from pipeline.core.progress import say, track

SOURCES_FILE = "SOURCES.json"
SUMS_FILE = "SHA256SUMS"


@dataclass(frozen=True)
class Found:
    """A source that is at hand.

    Attributes:
        path: its file, or the folder with its content.
        name: its name in the raw archive (of the file, or of the folder).
        origin: "mirror", "package", "cache", "user", or the address it was downloaded from.
        official: whether it is what the data set's authors published, as far as that can be checked.
        sha256: of the file, or of the sorted list of the folder's files and checksums.
    """

    source: Any
    path: pathlib.Path
    name: str
    origin: str
    official: bool
    sha256: str


def fetch(dataset, name: str, out: PathLike, *, mirror: PathLike | None = None) -> None:
    """Write the raw archive of a data set: a plain tar of its sources, with SOURCES.json first.

    Args:
        dataset: a `Dataset`.
        name: its name in the workflow; downloads wait in `.downloads/{name}` beside `out` until the archive is whole,
            and another process that fetches it there waits, too.
        mirror: folder to look in first.

    Raises:
        DownloadError: a source is nowhere to be had; the message says what is wanted and where to put it.
        DataError: a source is damaged or cannot be read.
        ArtifactError, DiskFullError: the archive cannot be written.
    """
    folder = pathlib.Path(out).parent
    waiting = folder / ".downloads" / name
    with alone(folder / f".{name}.lock"):
        layout, found = find(dataset, name, mirror, waiting)
        write_raw(out, layout.name, found)
        shutil.rmtree(waiting, ignore_errors=True)
    variants = [one.name for one in found if not one.official and one.origin != "user"]
    say(f"{name}: {', '.join(one.name for one in found)} -> {out}")
    for one in found:
        if one.origin == "user" and one.path.is_dir() and (hidden := hidden_names(one.path)):
            examples = ", ".join(map(repr, hidden[:3]))
            say(f"{name}: {len(hidden)} hidden files and folders of {one.path} are left out, e.g. {examples}")
    if variants:
        say(f"{name}: not the official {', '.join(variants)} but a mirror's variant; results will say so")


def find(dataset, name: str, mirror: PathLike | None, waiting: pathlib.Path) -> tuple[Any, list[Found]]:
    """A layout of `dataset.layouts` that is complete, and all its sources; downloads go to the folder `waiting`.

    Raises DownloadError and DataError like `fetch`.
    """
    try:
        return locate(dataset, name, Mirror(mirror) if mirror else None, waiting)
    except PermissionError as error:
        raise DataError(f"No permission to read {error.filename}. Make it readable for this account.") from None


class Mirror:
    """A local folder of archives, laid out like the sources, with a SHA256SUMS file that vouches for them."""

    def __init__(self, folder: PathLike):
        self.folder = expanded(folder, "The local mirror")
        if not self.folder.is_dir():
            raise DataError(
                f"The local mirror {self.folder} is not a folder. Correct data.mirror in params.yaml, "
                "`--config mirror=PATH` or FEWSHOT_NAS_MIRROR, or take the setting away to use the official addresses."
            )
        self._sums = self._read_sums()

    def _read_sums(self) -> dict[str, str]:
        path = self.folder / SUMS_FILE
        if not path.exists():
            return {}
        sums = {}
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="backslashreplace").splitlines(), 1):
            if not line.strip():
                continue
            value, *name = line.split(maxsplit=1)
            if not name or len(value) != 64 or set(value.lower()) - set("0123456789abcdef"):
                raise DataError(
                    f"Line {number} of {path} is {line!r}; needed are 64 hexadecimal digits and a file's name, as "
                    "`sha256sum` writes them. Mend or delete the line."
                )
            sums[name[0].strip().lstrip("*").removeprefix("./")] = value.lower()
        return sums

    def find(self, source, name: str) -> Found | None:
        """The source as this mirror has it, or None. Raises DataError when it is there but not to be trusted."""
        names = (source.name, *source.also)
        folder = [f"{name}/{source.folder}"] if source.folder else []
        for place in [*(f"{name}/{one}" for one in names), *folder, *source.in_mirror]:
            path = self.folder / place
            if path.is_file():
                return self._checked_file(source, path, place)
            if path.is_dir() and source.folder:
                return self._checked_folder(source, path, place)
        return None

    def _checked_file(self, source, path: pathlib.Path, place: str) -> Found:
        seen = checksums(path)
        official = matches(source, seen)
        if not official:
            self._require_vouched(source, place, seen["sha256"])
        return Found(source, path, path.name, "mirror", official, seen["sha256"])

    def _checked_folder(self, source, path: pathlib.Path, place: str) -> Found:
        listing = list(folder_listing(path))
        for relative, value in () if source.own else listing:
            self._require_vouched(source, f"{place}/{relative}", value)
        return Found(source, path, source.folder, "mirror", False, listing_digest(listing))

    def _require_vouched(self, source, place: str, seen: str) -> None:
        vouched = self._sums.get(place)
        if vouched is None:
            raise DataError(
                f"{self.folder / place} is neither the official {source.name} ({published(source)}) nor listed in "
                f"{self.folder / SUMS_FILE}. If you trust it, add the line\n  {seen}  {place}"
            )
        if vouched != seen:
            raise DataError(
                f"{self.folder / place} has SHA-256 {seen}, but {SUMS_FILE} says {vouched}: it was damaged or changed. "
                "Copy it again."
            )


def locate(dataset, name: str, mirror: Mirror | None, waiting: pathlib.Path) -> tuple[Any, list[Found]]:
    """A layout of the data set and all its sources. Raises DownloadError when no layout is complete."""
    at_hand = {layout.name: [_at_hand(source, name, mirror) for source in layout.sources] for layout in dataset.layouts}
    for layout in dataset.layouts:
        if all(at_hand[layout.name]):
            return layout, at_hand[layout.name]
    for layout in dataset.layouts:
        pairs = list(zip(layout.sources, at_hand[layout.name], strict=True))
        if all(one is not None or source.url for source, one in pairs):
            from pipeline.data.downloading import download

            try:
                return layout, [one or download(source, waiting) for source, one in pairs]
            except DownloadError as error:
                raise DownloadError(f"{error}\n{how_to_provide(dataset, name, at_hand, mirror)}") from None
    raise DownloadError(how_to_provide(dataset, name, at_hand, mirror))


def _at_hand(source, name: str, mirror: Mirror | None) -> Found | None:
    if source.path is not None:
        return _own_file(source, mirror)
    found = mirror.find(source, name) if mirror else None
    if found is None and source.package is not None:
        found = _packaged(source)
    return found or _cached(source)


def _own_file(source, mirror: Mirror | None) -> Found:
    """The user's own folder or archive, which nobody has to vouch for."""
    if not source.path:
        raise ConfigError("A folder under data.folders needs a path, e.g. {path: /pictures/birds}.")
    path = own_path(source.path, mirror and mirror.folder, "A folder under data.folders")
    if path.is_dir():
        listing = list(folder_listing(path))
        if not listing:
            raise DataError(f"The folder {path} is empty. It must hold one sub-folder of images per class.")
        return Found(source, path, source.folder, "user", False, listing_digest(listing))
    if path.is_file():
        return Found(source, path, path.name, "user", False, checksums(path)["sha256"])
    raise DataError(f"{path} does not exist. Correct `path` of this folder under data.folders in params.yaml.")


def own_path(given: str, mirror: pathlib.Path | None, what: str) -> pathlib.Path:
    """Where a folder or archive of the user's own lies: from the project's folder, else in the mirror.

    Raises ConfigError, naming the place, for an account that is not there.
    """
    path = expanded(given, what)
    return path if mirror is None or path.is_absolute() or path.exists() else mirror / path


def expanded(path: PathLike, what: str) -> pathlib.Path:
    """A path with `~` and `~name` resolved. Raises ConfigError, naming the place, when there is no such account."""
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{what} is {str(path)!r}: {error} Write the path out.") from None


def _packaged(source) -> Found | None:
    package, inside = source.package
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    path = pathlib.Path(spec.origin).parent / inside
    if not path.is_file():
        return None
    seen = checksums(path)
    if not matches(source, seen):
        raise DataError(
            f"{path} has SHA-256 {seen['sha256']} instead of {source.sha256}: this release of {package} ships another "
            f"file. Install the pinned release: `make setup`."
        )
    return Found(source, path, source.name, "package", True, seen["sha256"])


def _cached(source) -> Found | None:
    """The source as another program on this machine keeps it; a file that is another is passed over."""
    for place in map(pathlib.Path, source.cached):
        if place.is_file():
            seen = checksums(place)
            if matches(source, seen):
                return Found(source, place, source.name, "cache", True, seen["sha256"])
            say(f"{place} is not {source.name} as published ({published(source)}); it is passed over")
    return None


def checksums(path: pathlib.Path) -> dict[str, str]:
    """MD5 and SHA-256 of a file."""
    md5, sha = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            md5.update(block)
            sha.update(block)
    return {"md5": md5.hexdigest(), "sha256": sha.hexdigest()}


def matches(source, seen: dict[str, str]) -> bool:
    """Whether a published checksum, or the end of one, exists and agrees."""
    if source.hash_end:
        return any(value.endswith(source.hash_end) for value in seen.values())
    wanted = {kind: getattr(source, kind) for kind in ("md5", "sha256") if getattr(source, kind)}
    return bool(wanted) and all(seen[kind] == value for kind, value in wanted.items())


def published(source) -> str:
    """The published checksum in words."""
    if source.sha256:
        return f"SHA-256 {source.sha256}"
    if source.hash_end:
        return f"MD5 or SHA-256 ending in {source.hash_end}"
    return f"MD5 {source.md5}" if source.md5 else "no checksum is published"


def folder_files(folder: pathlib.Path) -> Iterator[tuple[str, pathlib.Path]]:
    """(name relative to the folder, path) of all files below it that are not hidden, sorted by name.

    Links are followed. Raises DataError for what cannot be read, and for a link to a folder that it lies in.
    """
    found = []
    for parent, folders, names in os.walk(folder, onerror=_refused, followlinks=True):
        folders[:] = [one for one in folders if not one.startswith(".")]
        for name in folders:
            _require_end(folder, pathlib.Path(parent, name))
        for name in names:
            if not name.startswith("."):
                path = pathlib.Path(parent, name)
                _require_file(path)
                found.append((path.relative_to(folder).as_posix(), path))
    return iter(sorted(found))


def hidden_names(folder: pathlib.Path) -> list[str]:
    """The hidden files and folders that `folder_files` leaves out, relative to the folder, sorted."""
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        hidden = (pathlib.Path(parent, one) for one in (*folders, *names) if one.startswith("."))
        found.extend(path.relative_to(folder).as_posix() for path in hidden)
        folders[:] = [one for one in folders if not one.startswith(".")]
    return sorted(found)


def _require_end(top: pathlib.Path, path: pathlib.Path) -> None:
    """Raises DataError for a link that leads from the folder `top` back to where it lies, and so on without end."""
    if path.is_symlink():
        target = path.resolve()
        # a parent by name may lie elsewhere, behind another link
        for parent in (top, *(one for one in path.parents if top in one.parents)):
            if parent.resolve().is_relative_to(target):
                raise DataError(f"{path} is a link to {target}, a folder that it lies in itself. Take it out.")


def _require_file(path: pathlib.Path) -> None:
    """Raises DataError for what lies in a folder and cannot be read to its end, or has a name that is no text."""
    if not path.is_file():
        raise DataError(f"{str(path)!r} is no file but a link to nothing, a pipe or a device. Take it out.")
    if not is_text(str(path)):
        raise DataError(f"{str(path)!r}: the name is not UTF-8. Rename the file or the folder it lies in.")


def _refused(error: OSError) -> None:
    raise DataError(f"The folder {error.filename} cannot be read ({error.strerror}).") from error


def folder_listing(folder: pathlib.Path) -> Iterator[tuple[str, str]]:
    """(name, SHA-256) of the files of a folder, sorted by name."""
    for name, path in track(list(folder_files(folder)), f"checking {folder.name}"):
        yield name, checksums(path)["sha256"]


def folder_state(path: pathlib.Path) -> list[tuple[str, int, int]]:
    """(name, bytes, time of the last change in nanoseconds) of a file, or of a folder's files sorted by name.

    Their content is not read. Raises DataError like `folder_files`.
    """
    files = folder_files(path) if path.is_dir() else [(path.name, path)]
    return [(name, seen.st_size, seen.st_mtime_ns) for name, seen in ((name, one.stat()) for name, one in files)]


def listing_digest(listing: Sequence[tuple[str, str]]) -> str:
    return hashlib.sha256("".join(f"{value}  {name}\n" for name, value in listing).encode()).hexdigest()


def how_to_provide(dataset, name: str, at_hand: dict[str, list], mirror: Mirror | None) -> str:
    """What is wanted, its checksum, where to get it and where to put it."""
    root = mirror.folder if mirror else pathlib.Path("MIRROR")
    lines = [f"{dataset.title} is taken from the folder {root / name} when the files of one of these forms lie there:"]
    for number, layout in enumerate(dataset.layouts, 1):
        missing = [s for s, found in zip(layout.sources, at_hand[layout.name], strict=True) if found is None]
        lines.append(f"({number}) {layout.name}: {', '.join(map(described, missing))}.")
    if not all(source.own for layout in dataset.layouts for source in layout.sources):
        lines.append(f"A file without the published checksum must be listed in {root / SUMS_FILE}.")
    if mirror is None:
        lines.append("MIRROR is a folder of yours; name it by data.mirror in params.yaml.")
    return "\n".join(lines)


def described(source) -> str:
    """A source that is wanted, with its checksum and where to get it."""
    if source.own:
        return f"your folder {source.name} ({source.page})"
    return f"{source.name} ({published(source)}; {source.url or source.page})"


def write_raw(out: PathLike, layout: str, found: Sequence[Found]) -> None:
    """The raw archive. The same sources give the same bytes: names sorted, no times, no owners."""
    listing = [
        {
            "name": one.name,
            "sha256": one.sha256,
            "official": one.official,
            "origin": one.origin,
            "url": one.source.url or one.source.page,
            "licence": one.source.licence,
        }
        for one in found
    ]
    members = sorted(member for one in found for member in _members(one))
    _require_room(pathlib.Path(out), sum(path.stat().st_size for _, path in members))
    head = to_json({"layout": layout, "sources": listing}).encode()
    with writing(out, "wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(_plain_member(SOURCES_FILE, len(head)), io.BytesIO(head))
        for name, path in track(members, f"packing {pathlib.Path(out).name}"):
            with open(path, "rb") as content:
                archive.addfile(_plain_member(name, path.stat().st_size), content)


def _members(found: Found) -> Iterator[tuple[str, pathlib.Path]]:
    if found.path.is_dir():
        for name, path in folder_files(found.path):
            yield f"{found.name}/{name}", path
    else:
        yield found.name, found.path


def _plain_member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    return member


def _require_room(out: pathlib.Path, n_bytes: int) -> None:
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    free = shutil.disk_usage(folder).free
    if free < n_bytes + 2**20:
        raise DiskFullError(
            f"{out} needs {n_bytes / 2**20:.0f} MiB and its disk has {free / 2**20:.0f} MiB free. Nothing was written: "
            "free some space and run the same command again."
        )
