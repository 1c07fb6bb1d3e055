"""Images of every kind become square arrays of bytes."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.core.errors import DataError
from pipeline.data.images import decode, depth_of, difference_hash
from tests.data.tiny_sources import picture


def saved(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_a_colour_image_of_the_right_size_stays_as_it_is():
    pixels = picture("colour", side=12)
    assert (decode(saved(Image.fromarray(pixels)), 12, 3) == pixels).all()


def test_a_grey_image_has_three_equal_channels():
    pixels = picture("grey", side=12, channels=1)
    assert (decode(saved(Image.fromarray(pixels)), 12, 3) == pixels[:, :, None]).all()
    assert (decode(saved(Image.fromarray(pixels)), 12, 1)[:, :, 0] == pixels).all()


def test_a_palette_image_has_the_colours_of_its_palette():
    palette = Image.new("P", (12, 12), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    assert (decode(saved(palette), 12, 3) == [200, 100, 50]).all()


def test_a_cmyk_image_becomes_rgb():
    image = Image.new("CMYK", (12, 12), (0, 255, 255, 0))
    red = decode(saved(image, "TIFF"), 12, 3)
    assert (red[..., 0] > 200).all() and (red[..., 1:] < 60).all()


def test_a_16_bit_image_keeps_its_range():
    values = np.linspace(0, 65535, 144).astype(np.uint16).reshape(12, 12)
    pixels = decode(saved(Image.fromarray(values)), 12, 1)[:, :, 0]
    assert np.abs(pixels.astype(float) - values / 257).max() <= 0.5


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("peak, depth", [(0, 8), (255, 8), (256, 12), (4095, 12), (4096, 16), (65535, 16)])
def test_values_of_16_bits_are_told_by_the_bits_that_they_need_and_scaled_by_these(kind, peak, depth):
    content = saved(Image.fromarray(np.full((12, 12), peak, np.uint16)), kind)
    assert depth_of(content) == depth
    assert (decode(content, 12, 1, depth) == round(255 * peak / (2**depth - 1))).all()
    with pytest.raises(DataError, match=r"grey values outside 0\.\.15"):
        decode(saved(Image.fromarray(np.full((12, 12), peak + 16, np.int32)), "TIFF"), 12, 1, 4)


def test_a_grey_map_states_its_range_itself_and_other_images_have_no_depth():
    dark = b"P5 12 12 4095\n" + np.full((12, 12), 200, ">u2").tobytes()
    assert depth_of(dark) == 16 and (decode(dark, 12, 1) == round(255 * 200 / 4095)).all()
    assert [depth_of(one) for one in (saved(Image.new("RGB", (12, 12))), picture("array"), b"no image")] == [0, 0, 0]


def test_transparency_and_single_bits_are_converted():
    assert (decode(saved(Image.new("RGBA", (12, 12), (9, 8, 7, 100))), 12, 3) == [9, 8, 7]).all()
    assert set(np.unique(decode(saved(Image.new("1", (12, 12), 1)), 12, 1))) == {255}


def test_a_cameras_rotation_tag_is_obeyed():
    pixels = picture("exif", side=12)
    tag = Image.Exif()
    tag[0x0112] = 3
    assert (decode(saved(Image.fromarray(pixels), exif=tag), 12, 3) == pixels[::-1, ::-1]).all()


def test_a_wide_image_is_cropped_about_its_middle():
    pixels = np.zeros((12, 36, 3), dtype=np.uint8)
    pixels[:, 12:24] = 255
    assert (decode(saved(Image.fromarray(pixels)), 12, 3) == 255).all()
    # the filter of a reduction reaches one pixel across the crop's edge
    assert (decode(saved(Image.fromarray(pixels.transpose(1, 0, 2))), 6, 3)[1:-1] == 255).all()


def test_arrays_are_taken_as_pixels():
    pixels = picture("array", side=12)
    assert (decode(pixels, 12, 3) == pixels).all()
    assert decode(pixels[..., :1], 6, 3).shape == (6, 6, 3)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an image",
        saved(Image.fromarray(picture("cut", side=64)), "JPEG")[:600],
        saved(Image.fromarray(picture("cut", side=64)))[:3000],
        saved(Image.new("F", (12, 12), 0.5), "TIFF"),
        np.zeros((4, 4, 3), dtype=np.float32),
        np.zeros((4, 4, 2), dtype=np.uint8),
        np.zeros((0, 4, 3), dtype=np.uint8),
        saved(Image.fromarray(picture("odd", side=12))).replace(b"IHDR\x00\x00\x00", b"IHDR\x7f\xff\xff"),
    ],
    ids=["empty", "text", "cut JPEG", "cut PNG", "floats", "float array", "two channels", "no rows", "bomb"],
)
def test_what_cannot_be_read_is_an_error(content):
    with pytest.raises(DataError) as error:
        decode(content, 12, 3)
    assert "<" not in str(error.value)


def test_the_difference_hash_survives_a_change_of_brightness_but_not_of_content():
    smooth = np.asarray(Image.fromarray(picture("hash", side=6)).resize((32, 32))) // 2
    assert difference_hash(smooth) == difference_hash(smooth + 40)
    assert difference_hash(smooth) != difference_hash(smooth[:, ::-1].copy())


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICNS", "PCX", "TGA"])
def test_only_the_usual_kinds_of_images_are_read_and_no_program_is_started(kind, tmp_path, monkeypatch):
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch '{tmp_path}/started'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    with pytest.raises(DataError, match="known format"):
        decode(saved(Image.fromarray(picture("kind", side=16)), kind), 12, 3)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "MPO"])
def test_the_usual_kinds_of_images_are_read_whatever_their_name(kind):
    assert decode(saved(Image.fromarray(picture("kind", side=16)), kind), 12, 3).shape == (12, 12, 3)
