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


def test_jitter_with_hue_agrees_with_torchvision_image_by_image():
    batch, strength, hue = images(n=24), 0.4, 0.2
    jittered = transforms.colour_jitter(batch, generator(), strength, hue)
    draws = generator()
    factors = 1 + strength * (2 * torch.rand(24, 3, generator=draws) - 1)
    order = torch.rand(24, 4, generator=draws).argsort(dim=1)
    turns = hue * (2 * torch.rand(24, generator=draws) - 1)
    functional = torchvision().transforms.v2.functional
    steps = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation)
    for i, image in enumerate(batch):
        expected = image.permute(2, 0, 1).float() / 255
        for kind in order[i].tolist():
            if kind == 3:
                expected = functional.adjust_hue(expected, float(turns[i]))
            else:
                expected = steps[kind](expected, float(factors[i, kind]))
        assert torch.allclose(jittered[i], 255 * expected.permute(1, 2, 0), atol=0.05)
    assert len({tuple(o) for o in order.tolist()}) > 10


def test_turning_the_hue_by_a_third_exchanges_the_channels():
    batch = images(n=3).float()
    turned = transforms.turn_hue(batch, torch.full((3,), 1 / 3))
    assert torch.allclose(turned, batch[..., [2, 0, 1]], atol=1e-3)
    assert torch.allclose(transforms.turn_hue(batch, torch.tensor([0.0, 1.0, -1.0])), batch, atol=1e-3)
    grey = batch[..., :1].expand(-1, -1, -1, 3)
    assert torch.allclose(transforms.turn_hue(grey, torch.full((3,), 0.2)), grey, atol=1e-3)


def part_of(image, top, left, height, width):
    """The part of an image, enlarged to the image's size by torch's own bilinear interpolation."""
    part = image[top : top + height, left : left + width].permute(2, 0, 1)[None].float()
    return torch.nn.functional.interpolate(part, size=image.shape[:2], mode="bilinear")[0].permute(1, 2, 0)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_resized_crop_is_an_enlarged_part_of_its_image_within_the_bounds(channels):
    batch, scale = images(n=20, size=9, channels=channels), 0.3
    cropped = transforms.random_resized_crop(batch, generator(), scale=scale)
    assert cropped.dtype == torch.float32
    sizes = set()
    for image, result in zip(batch, cropped, strict=True):
        found = [
            (height, width)
            for height in range(1, 10)
            for width in range(1, 10)
            for top in range(10 - height)
            for left in range(10 - width)
            if torch.allclose(part_of(image, top, left, height, width), result, atol=0.01)
        ]
        assert len(found) == 1
        # rounding to whole pixels moves area and aspect a little
        height, width = found[0]
        assert (height + 0.5) * (width + 0.5) >= scale * 81
        assert (height + 0.5) / (width - 0.5) >= 3 / 4 and (height - 0.5) / (width + 0.5) <= 4 / 3
        sizes.add(found[0])
    assert len(sizes) > 5


def test_resized_crops_are_distributed_as_those_of_torchvision():
    size, n, scale = 64, 3000, 0.08
    # an image whose colours are its places: where a crop lay can be read off its corners
    place = torch.arange(size, dtype=torch.float32)
    batch = torch.stack([place[:, None].expand(size, size), place[None, :].expand(size, size)], dim=-1)
    cropped = transforms.random_resized_crop(batch.expand(n, -1, -1, -1), generator(), scale=scale)
    corner, extent = cropped[:, 0, 0], cropped[:, -1, -1] - cropped[:, 0, 0] + 1
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draw = torchvision().transforms.RandomResizedCrop(size, (scale, 1.0)).get_params
        theirs = torch.tensor([draw(batch.movedim(-1, 0), [scale, 1.0], [3 / 4, 4 / 3]) for _ in range(n)]).float()
    found = {
        "area": (extent.prod(dim=1), theirs[:, 2] * theirs[:, 3]),
        "aspect": (extent[:, 1] / extent[:, 0], theirs[:, 3] / theirs[:, 2]),
        "top": (corner[:, 0], theirs[:, 0]),
        "left": (corner[:, 1], theirs[:, 1]),
    }
    for name, (ours, other) in found.items():
        values = torch.cat([ours, other]).sort().values
        both = [torch.searchsorted(part.sort().values, values, right=True) / n for part in (ours, other)]
        # Kolmogorov and Smirnov: with equal distributions a gap of 0.05 has a chance of 0.1 %
        assert (both[0] - both[1]).abs().max() < 0.05, name


def test_where_no_shape_fits_the_image_is_kept_whole():
    batch = images(n=3)
    kept = transforms.random_resized_crop(batch, generator(), scale=0.99, ratio=1e9, attempts=1)
    assert torch.allclose(kept, batch.float(), atol=1e-3)


@pytest.mark.parametrize("side", [1, 4, 7, 40])
@pytest.mark.parametrize("channels", [1, 3])
def test_cutout_agrees_with_a_loop_over_images(side, channels):
    batch, fill = images(n=30, channels=channels), (0.2, 0.4, 0.6)
    cut = transforms.cutout(batch, generator(), side, fill)
    draws = generator()
    rows, columns = (torch.randint(0, 12, (30, 1), generator=draws)[:, 0].tolist() for _ in range(2))
    for i, image in enumerate(batch):
        expected = image.float()
        top, left = max(0, rows[i] - side // 2), max(0, columns[i] - side // 2)
        expected[top : rows[i] + side // 2, left : columns[i] + side // 2] = 255 * torch.tensor(fill[:channels])
        assert torch.equal(cut[i], expected)


def test_what_is_cut_out_is_zero_after_normalisation():
    mean, std = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
    batch = transforms.augment(images(size=8), generator(), pad=0, cutout_side=40, fill=mean)
    assert transforms.to_float(batch, mean, std).abs().max() < 1e-6


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
    everything = {"jitter": 0.4, "hue": 0.2, "crop_scale": 0.1, "cutout_side": 4, "fill": (0.5, 0.5, 0.5)}
    result = transforms.augment(batch, generator(), pad=4, **everything)
    assert result.shape == batch.shape and result.min() >= 0 and result.max() <= 255
    assert torch.equal(batch, before)


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
