"""Images as tensors: resizing, augmentation, normalisation. Tensors and a generator in, tensors out.

Images are uint8 of shape (n h w c), c 1 or 3, until `to_float` makes them float32 of shape (n 3 h w).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.core.vision import torchvision
from pipeline.data.prepared import PreparedSet

GREY_WEIGHTS = (0.2989, 0.587, 0.114)  # luma of ITU-R BT.601, as torchvision has it


def gather(prepared: PreparedSet, rows: np.ndarray) -> Tensor:
    """The images of these rows as uint8 of shape (n h w c), in the order of `rows` flattened."""
    return torch.from_numpy(np.asarray(prepared.images[np.asarray(rows).reshape(-1)]))


def to_float(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Normalised float32 images.

    Args:
        images: uint8 or float in 0..255, shape (n h w c); one channel is repeated to three.
        mean, std: per RGB channel in 0..1.

    Returns:
        (value / 255 - mean) / std, shape (n 3 h w), contiguous.
    """
    mean = torch.as_tensor(mean, dtype=torch.float32, device=images.device).view(3, 1, 1)
    std = torch.as_tensor(std, dtype=torch.float32, device=images.device).view(3, 1, 1)
    channels_first = images.permute(0, 3, 1, 2).contiguous().to(torch.float32)
    return channels_first.expand(-1, 3, -1, -1).mul(1 / (255 * std)).sub(mean / std).contiguous()


def resize(images: Tensor, size: int) -> Tensor:
    """Bilinear with antialiasing to (n size size c), uint8."""
    if images.shape[1] == size and images.shape[2] == size:
        return images
    vision = torchvision().transforms.v2.functional
    resized = vision.resize(images.permute(0, 3, 1, 2), [size, size], antialias=True)
    return resized.permute(0, 2, 3, 1).contiguous()


class ResizedImages:
    """Images of a prepared set at another size, resized when they are read.

    Attributes:
        shape: (n, size, size, c).
    """

    def __init__(self, images: np.ndarray, size: int):
        self._images, self._size = images, size
        self.shape = (len(images), size, size, images.shape[-1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """uint8 of shape (len(rows), size, size, c)."""
        return resize(torch.from_numpy(np.asarray(self._images[rows])), self._size).numpy()


def resized(prepared: PreparedSet, size: int) -> PreparedSet:
    """The set with its images at `size` pixels a side; `prepared` itself when they are that already."""
    if prepared.image_size == size:
        return prepared
    return dataclasses.replace(prepared, images=ResizedImages(prepared.images, size))


def random_crop_flip(images: Tensor, generator: torch.Generator, *, pad: int, flip: bool) -> Tensor:
    """Each image padded with black, cropped at a place of its own to its old size, and mirrored with chance 1/2.

    Args:
        images: (n h w c).
        pad: pixels of black on every side; 0 leaves the images where they are.
        flip: whether to mirror at all.
    """
    n, h, w, c = images.shape
    tops, lefts = (torch.randint(0, 2 * pad + 1, (n,), generator=generator) for _ in range(2))
    mirrored = torch.rand(n, generator=generator) < 0.5 if flip else torch.zeros(n, dtype=torch.bool)
    columns = torch.arange(w).expand(n, w)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns) + lefts[:, None]
    lines = torch.arange(h) + tops[:, None]
    padded = images.new_zeros(n, h + 2 * pad, w + 2 * pad, c)
    padded[:, pad : pad + h, pad : pad + w] = images
    image = torch.arange(n).view(n, 1, 1)
    index = (image * (h + 2 * pad) + lines[:, :, None]) * (w + 2 * pad) + columns[:, None, :]
    return padded.view(-1, c).index_select(0, index.view(-1).to(images.device)).view(n, h, w, c)


def random_resized_crop(
    images: Tensor, generator: torch.Generator, *, scale: float, ratio: float = 4 / 3, attempts: int = 10
) -> Tensor:
    """Each image's random part, enlarged bilinearly to the size of the image (Szegedy et al., CVPR 2015).

    The part has an area uniform in (scale, 1) of the image's and an aspect ratio log-uniform in (1 / ratio, ratio); a
    shape that does not fit is drawn again. An image for which all attempts fail is kept whole.

    Args:
        images: (n h w c).
        scale: smallest area, as a fraction of the image.

    Returns:
        float32 of the same shape, in the range of the images.
    """
    n, h, w, _ = images.shape
    area = h * w * (scale + (1 - scale) * torch.rand(n, attempts, generator=generator))
    aspect = torch.exp(math.log(ratio) * (2 * torch.rand(n, attempts, generator=generator) - 1))
    heights, widths = (area / aspect).sqrt().round(), (area * aspect).sqrt().round()
    fits = (heights >= 1) & (heights <= h) & (widths >= 1) & (widths <= w)
    first = fits.to(torch.int64).argmax(dim=1, keepdim=True)
    drawn = fits.any(dim=1)
    height = torch.where(drawn, heights.gather(1, first)[:, 0], torch.tensor(float(h)))
    width = torch.where(drawn, widths.gather(1, first)[:, 0], torch.tensor(float(w)))
    top = (torch.rand(n, generator=generator) * (h - height + 1)).floor()
    left = (torch.rand(n, generator=generator) * (w - width + 1)).floor()
    y, x = _inside(top, height, h), _inside(left, width, w)
    grid = torch.stack([x[:, None, :].expand(n, h, w), y[:, :, None].expand(n, h, w)], dim=-1)
    values = images.to(torch.float32).permute(0, 3, 1, 2)
    taken = functional.grid_sample(values, grid.to(images.device), padding_mode="border", align_corners=False)
    return taken.permute(0, 2, 3, 1).contiguous()


def _inside(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Where the `size` pixels of enlarged parts read, in grid_sample's coordinates -1 .. 1: (n size)."""
    place = start[:, None] + (torch.arange(size) + 0.5) * length[:, None] / size - 0.5
    # a part is enlarged as if nothing lay around it
    place = torch.minimum(torch.maximum(place, start[:, None]), (start + length - 1)[:, None])
    return (2 * place + 1) / size - 1


def cutout(images: Tensor, generator: torch.Generator, side: int, fill: Sequence[float]) -> Tensor:
    """A square of each image painted over (DeVries and Taylor, 2017); its centre is any pixel, so it may stick out.

    Args:
        images: (n h w c) in 0..255.
        side: of the square, in pixels; rows and columns centre - side // 2 up to, not with, centre + side // 2.
        fill: colour in 0..1, at least c numbers; the mean colour becomes 0 in `to_float`.

    Returns:
        float32 of the same shape.
    """
    n, h, w, c = images.shape
    half, inside = side // 2, []
    for size in (h, w):
        away = torch.arange(size) - torch.randint(0, size, (n, 1), generator=generator)
        inside.append((away >= -half) & (away < half))
    square = inside[0][:, :, None] & inside[1][:, None, :]
    colour = 255 * torch.as_tensor(fill[:c], dtype=torch.float32, device=images.device)
    return torch.where(square[..., None].to(images.device), colour, images.to(torch.float32))


def grey(images: Tensor) -> Tensor:
    """Luma of float RGB images (n h w 3) -> (n h w 1)."""
    return images @ images.new_tensor(GREY_WEIGHTS)[:, None]


def colour_jitter(images: Tensor, generator: torch.Generator, strength: float, hue: float = 0.0) -> Tensor:
    """Brightness, contrast and saturation of each image changed by factors from U(1 - strength, 1 + strength).

    All three are x <- f x + (1 - f) t with another target t: black, the image's mean luma, each pixel's luma. With
    `hue`, a fourth step turns every pixel's hue by the same angle. Each image has factors and an order of its own;
    values are clamped to 0..255 after each. One-channel images have no saturation and no hue.

    Args:
        images: (n h w c) in 0..255.
        hue: the hue turns by U(-hue, hue), as a fraction of the full circle.

    Returns:
        float32 of the same shape, in 0..255.
    """
    n, c = images.shape[0], images.shape[3]
    n_kinds = 4 if hue > 0 else 3
    factors = 1 + strength * (2 * torch.rand(n, 3, generator=generator) - 1).to(images.device)
    host_order = torch.rand(n, n_kinds, generator=generator).argsort(dim=1)
    turns = hue * (2 * torch.rand(n, generator=generator) - 1) if hue > 0 else torch.zeros(n)
    order = host_order.to(images.device)
    # the hue has a factor of 1: what follows leaves its images alone
    factors = torch.cat([factors, torch.ones_like(factors[:, :1])], dim=1)
    values = images.to(torch.float32)
    for step in range(n_kinds):
        kind = order[:, step]
        factor = factors.gather(1, kind[:, None])
        if c == 1:
            factor = torch.where(kind[:, None] == 2, torch.ones_like(factor), factor)
        luma = grey(values) if c == 3 else values
        mean_luma = luma.mean(dim=(1, 2, 3), keepdim=True)
        pixel, level = ((kind == which).to(torch.float32).view(n, 1, 1, 1) for which in (2, 1))
        factor = factor.view(n, 1, 1, 1)
        target = torch.addcmul(level * mean_luma, pixel, luma)
        values = torch.addcmul(values * factor, 1 - factor, target).clamp_(0, 255)
        turned = (host_order[:, step] == 3).nonzero()[:, 0]
        if c == 3 and len(turned):
            chosen = turned.to(images.device)
            values[chosen] = turn_hue(values[chosen], turns[turned].to(images.device))
    return values


def turn_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Each image's hue turned by its fraction of the full circle; largest and smallest channel of a pixel stay.

    Args:
        images: float RGB (n h w 3).
        turns: shape (n,).
    """
    high, low = images.amax(dim=3), images.amin(dim=3)
    span = high - low
    red, green, blue = images.unbind(3)
    safe = torch.where(span > 0, span, torch.ones_like(span))
    # sixths of the circle, from the channel that is largest
    sixths = torch.where(
        high == red,
        (green - blue) / safe,
        torch.where(high == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    sixths = sixths + 6 * turns.view(-1, 1, 1)
    offsets = sixths.new_tensor((5.0, 3.0, 1.0))
    distance = torch.remainder(sixths[..., None] + offsets, 6)
    return high[..., None] - span[..., None] * torch.minimum(distance, 4 - distance).clamp(0, 1)


def augment(
    images: Tensor,
    generator: torch.Generator,
    *,
    pad: int,
    jitter: float = 0.0,
    flip: bool = True,
    hue: float = 0.0,
    crop_scale: float = 1.0,
    cutout_side: int = 0,
    fill: Sequence[float] = (0.0, 0.0, 0.0),
) -> Tensor:
    """Training augmentation, drawn for each image by itself: random crop, mirror image, colour jitter, cutout.

    Args:
        images: uint8 (n h w c).
        pad: padding before the crop (8 for images of 84 pixels, 4 for 32); not used with `crop_scale`.
        jitter: strength of brightness, contrast and saturation (0.4 as in RFS); 0 for none.
        hue: strength of the hue's jitter; 0 for none.
        crop_scale: below 1, an enlarged part of at least this area takes the place of the padded crop.
        cutout_side: side of the square that is painted over; 0 for none.
        fill: the square's colour in 0..1, the mean colour of the data set.

    Returns:
        (n h w c): uint8 where nothing makes fractions, else float32 in 0..255; `to_float` takes both.
    """
    if crop_scale < 1:
        images, pad = random_resized_crop(images, generator, scale=crop_scale), 0
    moved = random_crop_flip(images, generator, pad=pad, flip=flip)
    if jitter > 0 or hue > 0:
        moved = colour_jitter(moved, generator, jitter, hue)
    return cutout(moved, generator, cutout_side, fill) if cutout_side > 0 else moved


def random_patches(images: Tensor, n: int, generator: torch.Generator, size: int = 3) -> Tensor:
    """Square patches from random places, the i-th from image i modulo the number of images: (n size size c)."""
    count, h, w, _ = images.shape
    image = torch.arange(n) % count
    tops = torch.randint(0, h - size + 1, (n,), generator=generator)
    lefts = torch.randint(0, w - size + 1, (n,), generator=generator)
    lines = tops[:, None] + torch.arange(size)
    columns = lefts[:, None] + torch.arange(size)
    return images[image[:, None, None], lines[:, :, None], columns[:, None, :]]
