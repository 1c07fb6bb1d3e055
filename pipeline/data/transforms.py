"""Images as tensors: resizing, augmentation, normalisation. Tensors and a generator in, tensors out.

Images are uint8 of shape (n h w c), c 1 or 3, until `to_float` makes them float32 of shape (n 3 h w).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

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
    functional = torchvision().transforms.v2.functional
    resized = functional.resize(images.permute(0, 3, 1, 2), [size, size], antialias=True)
    return resized.permute(0, 2, 3, 1).contiguous()


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


def grey(images: Tensor) -> Tensor:
    """Luma of float RGB images (n h w 3) -> (n h w 1)."""
    return images @ images.new_tensor(GREY_WEIGHTS)[:, None]


def colour_jitter(images: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    """Brightness, contrast and saturation of each image changed by factors from U(1 - strength, 1 + strength).

    All three are x <- f x + (1 - f) t with another target t: black, the image's mean luma, each pixel's luma. Each
    image has factors and an order of its own; values are clamped to 0..255 after each. One-channel images have no
    saturation.

    Args:
        images: uint8 (n h w c).

    Returns:
        float32 of the same shape, in 0..255.
    """
    n, c = images.shape[0], images.shape[3]
    factors = 1 + strength * (2 * torch.rand(n, 3, generator=generator) - 1).to(images.device)
    order = torch.rand(n, 3, generator=generator).argsort(dim=1).to(images.device)
    values = images.to(torch.float32)
    for step in range(3):
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
    return values


def augment(images: Tensor, generator: torch.Generator, *, pad: int, jitter: float = 0.0, flip: bool = True) -> Tensor:
    """Training augmentation, drawn for each image by itself: random crop, colour jitter, mirror image.

    Args:
        images: uint8 (n h w c).
        pad: padding before the crop (8 for images of 84 pixels, 4 for 32).
        jitter: strength of brightness, contrast and saturation (0.4 as in RFS); 0 for none.

    Returns:
        (n h w c): uint8 without jitter, float32 in 0..255 with it; `to_float` takes both.
    """
    moved = random_crop_flip(images, generator, pad=pad, flip=flip)
    return colour_jitter(moved, generator, jitter) if jitter > 0 else moved


def random_patches(images: Tensor, n: int, generator: torch.Generator, size: int = 3) -> Tensor:
    """Square patches from random places, the i-th from image i modulo the number of images: (n size size c)."""
    count, h, w, _ = images.shape
    image = torch.arange(n) % count
    tops = torch.randint(0, h - size + 1, (n,), generator=generator)
    lefts = torch.randint(0, w - size + 1, (n,), generator=generator)
    lines = tops[:, None] + torch.arange(size)
    columns = lefts[:, None] + torch.arange(size)
    return images[image[:, None, None], lines[:, :, None], columns[:, None, :]]
