"""Folders of image files: what is seen of transparent ones, links, parts of data sets, and hostile files."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from hierarchical import load_images
from hierarchical.files import memory

SIDE = 8


def fill(folder, image: Image.Image, number: int = 100, **options):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(number):
        image.save(folder / f"{i:03}.png", **options)


def half_red() -> Image.Image:
    """Opaque red on the left; on the right colours that nobody sees."""
    array = np.zeros((SIDE, SIDE, 4), np.uint8)
    array[:, :4] = (255, 0, 0, 255)
    array[:, 4:] = (7, 99, 201, 0)
    return Image.fromarray(array)


def transparent_gray() -> Image.Image:
    array = np.full((SIDE, SIDE, 2), (200, 255), np.uint8)
    array[:, 4:] = (77, 0)
    return Image.fromarray(array)


def transparent_palette() -> Image.Image:
    image = Image.fromarray(np.repeat(np.arange(2, dtype=np.uint8), 32).reshape(SIDE, SIDE).T, "P")
    image.putpalette([200, 200, 200, 9, 99, 199])
    return image


@pytest.mark.parametrize("background", [0.0, 0.2, 1.0])
def test_the_background_is_seen_through_transparent_pixels(background, tmp_path):
    gray = round(255 * background) / 255
    fill(tmp_path, half_red())
    pixels = load_images(tmp_path, SIDE, background=background).pixels
    np.testing.assert_allclose(pixels[0, :, :4], np.broadcast_to([1, 0, 0], (SIDE, 4, 3)))
    np.testing.assert_allclose(pixels[0, :, 4:], np.full((SIDE, 4, 3), gray), rtol=1e-6)


def test_half_transparent_pixels_are_the_mean_of_colour_and_background(tmp_path):
    fill(tmp_path, Image.fromarray(np.full((SIDE, SIDE, 4), 128, np.uint8)))
    pixels = load_images(tmp_path, SIDE, background=1.0).pixels
    alpha = 128 / 255
    np.testing.assert_allclose(pixels, alpha * 128 / 255 + 1 - alpha, atol=1 / 255)


@pytest.mark.parametrize(
    ("image", "options"),
    [(half_red(), {}), (transparent_gray(), {}), (transparent_palette(), {"transparency": 1})],
    ids=["RGBA", "LA", "palette"],
)
def test_transparency_of_every_kind_is_refused_without_a_background(image, options, tmp_path):
    fill(tmp_path, image, 1, **options)
    with pytest.raises(ValueError, match=r"000\.png' has transparent pixels: pass background = 0 \(black\) \.\. 1"):
        load_images(tmp_path, SIDE)


@pytest.mark.parametrize(
    ("image", "options"),
    [(transparent_gray(), {}), (transparent_palette(), {"transparency": 1})],
    ids=["gray", "palette"],
)
def test_gray_on_gray_stays_gray(image, options, tmp_path):
    fill(tmp_path, image, **options)
    pixels = load_images(tmp_path, SIDE, background=1.0).pixels
    assert pixels.shape[-1] == 1
    np.testing.assert_allclose(pixels[0, :, :, 0], np.repeat([[200 / 255, 1]], 4, 1).repeat(SIDE, 0), rtol=1e-6)


def test_an_opaque_alpha_channel_changes_nothing(tmp_path):
    rng = np.random.default_rng(0)
    array = rng.integers(256, size=(SIDE, SIDE, 3), dtype=np.uint8)
    fill(tmp_path / "rgb", Image.fromarray(array))
    fill(tmp_path / "rgba", Image.fromarray(np.concatenate([array, np.full((SIDE, SIDE, 1), 255, np.uint8)], -1)))
    images = load_images(tmp_path, SIDE)
    np.testing.assert_array_equal(images.pixels[:100], images.pixels[100:])
    assert images.classes == ("rgb", "rgba")


def test_links_to_folders_are_classes(tmp_path):
    fill(tmp_path / "elsewhere" / "a", Image.new("L", (SIDE, SIDE), 51), 60)
    fill(tmp_path / "elsewhere" / "b", Image.new("L", (SIDE, SIDE), 255), 60)
    (tmp_path / "set").mkdir()
    for name, target in (("cats", "a"), ("dogs", "b")):
        (tmp_path / "set" / name).symlink_to(tmp_path / "elsewhere" / target)
    images = load_images(tmp_path / "set", SIDE)
    assert images.classes == ("cats", "dogs")
    np.testing.assert_allclose(images.pixels[:, 0, 0, 0], np.repeat([0.2, 1], 60))
    (tmp_path / "elsewhere" / "a" / "up").symlink_to(tmp_path / "set")
    with pytest.raises(ValueError, match=r"up' links to a folder that it lies in: remove the link"):
        load_images(tmp_path / "set", SIDE)


@pytest.mark.parametrize("names", [("train", "test"), ("Train", "VAL", "test"), ("training",)])
def test_parts_of_a_data_set_are_not_classes(names, tmp_path):
    for name in names:
        fill(tmp_path / name / "cats", Image.new("L", (SIDE, SIDE)), 1)
    with pytest.raises(ValueError, match=r"parts of a data set and not classes: give one of them, as '.*(?i:train).*'"):
        load_images(tmp_path, SIDE)


def test_a_class_may_be_called_train(tmp_path):
    for name in ("bicycle", "train"):
        fill(tmp_path / name, Image.new("L", (SIDE, SIDE)), 50)
    assert load_images(tmp_path, SIDE).classes == ("bicycle", "train")


def png(width: int, height: int, data: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_named(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png(100_000, 100_000))
    with pytest.raises(ValueError, match=r"bomb\.png' has more than \d+ pixels: remove it or scale it down"):
        load_images(tmp_path, SIDE)


def test_a_damaged_image_with_a_hostile_name_is_named_without_its_controls(tmp_path):
    (tmp_path / "a\x1b[2J.png").write_bytes(png(SIDE, SIDE, b"\0" * 20))
    with pytest.raises(ValueError, match=r"a\\x1b\[2J\.png' cannot be read as an image \(.*\): remove it") as caught:
        load_images(tmp_path, SIDE)
    assert str(caught.value).isprintable()


def test_names_of_classes_are_printable(tmp_path):
    for name in ("a\x1b[2J", "b\n"):
        fill(tmp_path / name, Image.new("L", (SIDE, SIDE)), 50)
    assert load_images(tmp_path, SIDE).classes == (r"a\x1b[2J", r"b\n")


def test_images_that_do_not_fit_are_refused_before_they_are_read(tmp_path, monkeypatch):
    fill(tmp_path, Image.new("L", (SIDE, SIDE)), 2)
    monkeypatch.setattr(memory, "available_memory", lambda: 2**20)
    with pytest.raises(ValueError, match=r"reading 2 images of 1024 x 1024 pixels needs 48 MiB of memory, 1 MiB"):
        load_images(tmp_path, 1024)


def test_arguments_out_of_range_are_named(tmp_path):
    with pytest.raises(ValueError, match="side = 0: give at least 1 pixel"):
        load_images(tmp_path, 0)
    for background in (-0.1, 255.0, float("nan")):
        with pytest.raises(ValueError, match=r"background = .*: give a gray level from 0 \(black\) to 1 \(white\)"):
            load_images(tmp_path, SIDE, background=background)
