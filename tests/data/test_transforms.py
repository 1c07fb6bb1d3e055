"""Transforms agree with slow loops and with torchvision, and draw only from the generator they are handed."""

import math

import pytest
import torch

from pipeline.core.vision import torchvision
from pipeline.data import transforms


def images(n=6, size=12, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, size, size, channels), dtype=torch.uint8, generator=generator)


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def test_float_images_are_normalised_per_channel():
    batch, mean, std = images(), (0.1, 0.5, 0.9), (0.2, 0.3, 0.4)
    result = transforms.to_float(batch, mean, std)
    assert result.shape == (6, 3, 12, 12) and result.dtype == torch.float32 and result.is_contiguous()
    for channel in range(3):
        expected = (batch[..., channel].double() / 255 - mean[channel]) / std[channel]
        assert torch.allclose(result[:, channel].double(), expected, atol=1e-5)


def test_grey_images_are_repeated_to_three_channels():
    result = transforms.to_float(images(channels=1), (0.5,) * 3, (0.25,) * 3)
    assert result.shape == (6, 3, 12, 12)
    assert torch.equal(result[:, 0], result[:, 1]) and torch.equal(result[:, 0], result[:, 2])


def test_resizing_is_antialiased_as_in_pillow():
    import numpy as np
    from PIL import Image

    batch = images(size=20)
    resized = transforms.resize(batch, 8)
    for image, small in zip(batch, resized, strict=True):
        expected = np.asarray(Image.fromarray(image.numpy()).resize((8, 8), Image.Resampling.BILINEAR))
        assert np.abs(small.numpy().astype(int) - expected).max() <= 1
    assert transforms.resize(batch, 20) is batch


@pytest.mark.parametrize("channels", [1, 3])
def test_crop_and_flip_agree_with_a_loop_over_images(channels):
    batch, pad = images(n=40, channels=channels), 3
    moved = transforms.random_crop_flip(batch, generator(), pad=pad, flip=True)
    draws = generator()
    tops, lefts = (torch.randint(0, 2 * pad + 1, (40,), generator=draws) for _ in range(2))
    mirrored = torch.rand(40, generator=draws) < 0.5
    functional = torchvision().transforms.v2.functional
    for i, image in enumerate(batch):
        padded = functional.pad(image.permute(2, 0, 1), [pad])
        expected = functional.crop(padded, int(tops[i]), int(lefts[i]), 12, 12)
        expected = functional.horizontal_flip(expected) if mirrored[i] else expected
        assert torch.equal(moved[i], expected.permute(1, 2, 0))
    assert mirrored.any() and not mirrored.all()


def test_without_padding_and_flip_nothing_moves():
    batch = images()
    assert torch.equal(transforms.random_crop_flip(batch, generator(), pad=0, flip=False), batch)


def test_jitter_agrees_with_torchvision_image_by_image():
    batch, strength = images(n=24), 0.4
    jittered = transforms.colour_jitter(batch, generator(), strength)
    draws = generator()
    factors = 1 + strength * (2 * torch.rand(24, 3, generator=draws) - 1)
    order = torch.rand(24, 3, generator=draws).argsort(dim=1)
    functional = torchvision().transforms.v2.functional
    steps = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation)
    for i, image in enumerate(batch):
        expected = image.permute(2, 0, 1).float() / 255
        for kind in order[i].tolist():
            expected = steps[kind](expected, float(factors[i, kind]))
        assert torch.allclose(jittered[i], 255 * expected.permute(1, 2, 0), atol=0.02)
    assert len({tuple(o) for o in order.tolist()}) == math.factorial(3)


def test_jitter_of_grey_images_is_jitter_of_their_coloured_copies():
    grey = images(n=24, channels=1)
    coloured = transforms.colour_jitter(grey.expand(-1, -1, -1, 3), generator(), 0.4)
    assert torch.allclose(transforms.colour_jitter(grey, generator(), 0.4), coloured[..., :1], atol=0.1)


def test_augmented_images_stay_in_range_and_leave_the_input_alone():
    batch = images(n=32)
    before = batch.clone()
    result = transforms.augment(batch, generator(), pad=4, jitter=0.4)
    assert result.dtype == torch.float32 and result.min() >= 0 and result.max() <= 255
    assert torch.equal(batch, before)
    assert transforms.augment(batch, generator(), pad=4).dtype == torch.uint8


def test_the_same_generator_state_gives_the_same_images_and_the_global_state_none():
    batch = images(n=32)
    state = torch.random.get_rng_state()
    first = transforms.augment(batch, generator(), pad=4, jitter=0.4)
    torch.manual_seed(999)
    assert torch.equal(first, transforms.augment(batch, generator(), pad=4, jitter=0.4))
    assert not torch.equal(first, transforms.augment(batch, generator(2), pad=4, jitter=0.4))
    torch.random.set_rng_state(state)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_patch_is_a_piece_of_its_image(channels):
    batch = images(n=5, size=6, channels=channels)
    patches = transforms.random_patches(batch, 200, generator(), size=3)
    assert patches.shape == (200, 3, 3, channels)
    places = set()
    for i, patch in enumerate(patches):
        found = [
            (top, left)
            for top in range(4)
            for left in range(4)
            if torch.equal(batch[i % 5, top : top + 3, left : left + 3], patch)
        ]
        assert found
        places.update(found)
    assert len(places) == 16


def test_gathered_images_keep_the_order_of_their_rows(folder_set):
    rows = folder_set.rows_of_split("novel")[[3, 0, 5, 0]].reshape(2, 2)
    gathered = transforms.gather(folder_set, rows)
    assert (gathered.numpy() == folder_set.images[rows.reshape(-1)]).all()
