"""One image: from an encoded file or an array of pixels to a square uint8 array."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.core.errors import DataError

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""What a file may be, whatever its name says: Pillow hands some other kinds, PostScript for one, to other programs."""

SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")
DEPTHS = (8, 12, 16)
"""Bits that the values of a file with 16 bits for each may have; a camera's 12 are usually stored so."""


def depth_of(content: bytes | np.ndarray) -> int:
    """The least of DEPTHS that holds the values of a grey image of 16 bits; 0 for other images and what is none."""
    if isinstance(content, np.ndarray):
        return 0
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.mode not in SIXTEEN_BIT:
            return 0
        # its head states the range, and the values come scaled to 16 bits
        peak = 2**16 if image.format == "PPM" else int(np.asarray(image).max())
    # whatever is wrong with the file, `decode` says it
    except Exception:
        return 0
    return next((depth for depth in DEPTHS if peak < 2**depth), DEPTHS[-1])


def decode(content: bytes | np.ndarray, size: int, channels: int, depth: int = DEPTHS[-1]) -> np.ndarray:
    """A square image, uint8 of shape (size size channels), channels 1 or 3.

    The longer side is cropped about its middle, then the square is resized with an antialiasing bilinear filter. Grey,
    palette, CMYK, 16-bit and transparent images are converted; transparency is dropped, a camera's rotation tag obeyed.

    Args:
        depth: bits of the values of a grey image of 16 bits, the largest of which becomes white.

    Raises:
        DataError: the bytes are not an image that can be read.
    """
    try:
        image = _from_pixels(content) if isinstance(content, np.ndarray) else _from_file(content, size)
        image = _eight_bit(image, depth).convert("L" if channels == 1 else "RGB")
        if image.size != (size, size):
            image = image.resize((size, size), Image.Resampling.BILINEAR, box=_middle_square(*image.size))
    except UnidentifiedImageError:
        # its own message names an object in memory
        raise DataError("no image of a known format") from None
    # a damaged file fails in any way inside Pillow, and its own errors cover few of them
    except Exception as error:
        raise DataError(f"{type(error).__name__}: {error}") from None
    return np.asarray(image).reshape(size, size, channels)


def difference_hash(image: np.ndarray) -> int:
    """64 bits that say of neighbours in a 9 x 8 miniature which is lighter; near-equal images have equal bits."""
    miniature = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).convert("L")
    small = np.asarray(miniature.resize((9, 8), Image.Resampling.BOX))
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


def _from_pixels(pixels: np.ndarray) -> Image.Image:
    if pixels.dtype != np.uint8:
        raise ValueError(f"pixels of type {pixels.dtype}; 0..255 as uint8 is needed")
    if pixels.ndim not in (2, 3) or pixels.size == 0 or pixels.shape[2:] not in ((), (1,), (3,), (4,)):
        raise ValueError(f"pixels of shape {pixels.shape}; rows and columns of 1, 3 or 4 channels are needed")
    return Image.fromarray(pixels.squeeze(-1) if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels)


def _from_file(content: bytes, size: int) -> Image.Image:
    image = Image.open(io.BytesIO(content), formats=FORMATS)
    # JPEG decoders can skip detail that a miniature would not show anyway
    image.draft(None, (4 * size, 4 * size))
    image.load()
    return ImageOps.exif_transpose(image)


def _eight_bit(image: Image.Image, depth: int) -> Image.Image:
    if image.mode in SIXTEEN_BIT:
        values, white = np.asarray(image).astype(np.int64), 2**depth - 1
        if values.min() < 0 or values.max() > white:
            raise ValueError(f"grey values outside 0..{white}")
        return Image.fromarray(((values * 255 + white // 2) // white).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range; save the image with 8 or 16 bits")
    return image


def _middle_square(width: int, height: int) -> tuple[float, float, float, float]:
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side
