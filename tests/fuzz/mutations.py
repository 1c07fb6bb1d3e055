"""Cases for parsers: valid input with a few places changed, and arbitrary bytes or text."""

import bz2
import copy
import gzip
import io
import lzma
import pathlib
import pickle
import tarfile
import zipfile
from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st
from PIL import Image

ODD_TEXT = (
    "", "0", "-1", "1e999", "nan", "inf", "NaN", "null", "true", "[", "]", "(", ")", "{", "}", ",", ":", "'", '"', "\n",
    "\r", "\x00", "\u2028", "\ud800", "~", "|", "+", "*", "**", "&a ", "*a", "!!bool x", "2001-99-99", "range(2, 5)",
    "9" * 5000, "0x" + "f" * 5000, "((((((((((" * 30, "lambda: 0", "__import__('os')", "none", "skip_connect",
)  # fmt: skip
ODD_BYTES = (b"", b"\x00", b"\xff", b"\x7f\xff\xff\xff", b"\x80" + bytes(7), b"PK\x03\x04", b"\x1f\x8b", b"BZh9", b"\n")


BATCH = 5
"""Cases of one draw: drawing takes far longer than parsing does."""


@st.composite
def mutated(draw, samples: Sequence, odd: Sequence, arbitrary: st.SearchStrategy) -> list:
    """A sample after one change, after two and so on: stretches replaced, inserted, repeated, deleted or cut off."""
    content, found = draw(st.sampled_from(samples)), []
    for how, at, length, new in draw(
        st.lists(
            st.tuples(
                st.sampled_from(("replace", "replace", "insert", "repeat", "delete", "cut")),
                st.integers(0, 2**16),
                st.integers(0, 20),
                st.one_of(st.sampled_from(odd), arbitrary),
            ),
            min_size=BATCH,
            max_size=BATCH,
        )
    ):
        start = at % (len(content) + 1)
        head, part, tail = content[:start], content[start : start + length], content[start + length :]
        content = {
            "replace": head + new + content[start + len(new) :],
            "insert": head + new + part + tail,
            "repeat": head + part + part + tail,
            "delete": head + tail,
            "cut": head if length < 4 else content,
        }[how]
        found.append(content)
    return found


def batch(one: st.SearchStrategy) -> st.SearchStrategy[list]:
    return st.lists(one, min_size=BATCH, max_size=BATCH)


def of_text(*samples: str) -> st.SearchStrategy[list[str]]:
    changed = mutated(samples, ODD_TEXT, st.text(max_size=4))
    return st.one_of(changed, changed, changed, batch(st.text(max_size=60)))


def of_bytes(*samples: bytes) -> st.SearchStrategy[list[bytes]]:
    changed = mutated(samples, ODD_BYTES, st.binary(max_size=6))
    return st.one_of(changed, changed, changed, batch(st.binary(max_size=100)))


def as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def images() -> list[bytes]:
    """A small picture in every form that is read, and in some of other modes."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    found = []
    for kind in ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM"):
        for mode in ("RGB", "L") if kind in ("JPEG", "PNG", "TIFF") else ("RGB",):
            file = io.BytesIO()
            Image.fromarray(pixels).convert(mode).save(file, kind)
            found.append(file.getvalue())
    tag = Image.Exif()
    tag[0x0112] = 6
    for image, options in (
        (Image.fromarray(pixels[..., 0].astype(np.uint16) * 257), {}),
        (Image.fromarray(pixels).convert("P"), {"exif": tag}),
    ):
        file = io.BytesIO()
        image.save(file, "PNG", **options)
        found.append(file.getvalue())
    return found


def pickles() -> list[bytes]:
    values = [
        {"data": np.arange(12, dtype=np.uint8).reshape(3, 4), "labels": [1, 2, 3], "names": ["a", "b"]},
        {b"x": np.float32(1.5), "o": np.array([None, "x"], dtype=object), "t": (1, 2.5, {3, 4}), "n": 2**70},
    ]
    return [pickle.dumps(value, protocol) for value in values for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]


def archives() -> list[bytes]:
    files = {"cats/1.png": b"first", "cats/2.png": b"second" * 30, "dogs/" + "y" * 60 + "/" + "x" * 60 + ".png": b""}
    found = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=form) as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                if form == tarfile.PAX_FORMAT:
                    member.pax_headers = {"comment": "ä"}
                archive.addfile(member, io.BytesIO(content))
        # what follows the two empty blocks at the end says nothing
        found.append(file.getvalue()[:6144])
    found += [pack(found[1]) for pack in (gzip.compress, bz2.compress, lzma.compress)]
    for packing in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", packing) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        found.append(file.getvalue())
    return found


def nested(value, path: tuple = ()) -> list[tuple]:
    """The places of all values inside nested mappings and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, inner in items for place in ((*path, key), *nested(inner, (*path, key)))]


ODD_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([[], {}, [[]], {"laptop": 1}, 10**400, "~nobody/x", "a\x00b", "\ud800", [None], {5: 1}, "$(x)"]),
    st.lists(st.one_of(st.integers(), st.text(max_size=3), st.none()), max_size=3),
    st.dictionaries(st.one_of(st.text(max_size=3), st.integers(), st.none()), st.integers(), max_size=2),
)


@st.composite
def changed_mapping(draw, content: dict, places: Sequence[tuple]) -> list[dict]:
    """Nested `content` after one change, after two and so on: odd values, or odd keys, at some of its places."""
    found = []
    for place, value, as_key in draw(batch(st.tuples(st.sampled_from(places), ODD_VALUES, st.integers(0, 5)))):
        content = copy.deepcopy(content)
        inner = content
        for key in place[:-1]:
            known = inner.keys() if isinstance(inner, dict) else range(len(inner)) if isinstance(inner, list) else ()
            if key not in known:
                break
            inner = inner[key]
        else:
            if isinstance(inner, list) and place[-1] in range(len(inner)):
                inner[place[-1]] = value
            elif isinstance(inner, dict):
                odd_key = value if as_key == 0 and value.__hash__ is not None else place[-1]
                inner[odd_key] = value
        found.append(content)
    return found


def written(path: pathlib.Path, content: str | bytes) -> pathlib.Path:
    path.write_bytes(content if isinstance(content, bytes) else as_bytes(content))
    return path
