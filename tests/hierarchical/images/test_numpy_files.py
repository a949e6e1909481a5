"""Images in .npy and .npz files under the names and in the layouts of other data sets; IDX files against memory."""

import gzip
import struct

import numpy as np
import pytest

from hierarchical import Images, load_images, split_images
from hierarchical.images.from_arrays import scaled_pixels

N = 120
PIXELS = np.random.default_rng(0).integers(256, size=(N, 6, 8, 3), dtype=np.uint8)
LABELS = np.arange(N) % 4


@pytest.mark.parametrize(("pixels", "labels"), [("images", "labels"), ("x_train", "y_train"), ("data", "target")])
@pytest.mark.parametrize("column", [False, True])
def test_the_names_of_other_data_sets_are_read(pixels, labels, column, tmp_path):
    others = {"x_test": PIXELS[:9], "y_test": LABELS[:9]}
    given = LABELS[:, None] if column else LABELS
    np.savez_compressed(tmp_path / "set.npz", **{pixels: PIXELS, labels: given}, **others)
    images = load_images(tmp_path / "set.npz")
    np.testing.assert_allclose(images.pixels, PIXELS / 255, atol=1e-7)
    np.testing.assert_array_equal(images.labels, LABELS)
    assert images.classes == ("0", "1", "2", "3")


def test_a_file_of_one_array_is_a_set_without_classes(tmp_path):
    np.save(tmp_path / "set.npy", PIXELS)
    images = load_images(tmp_path / "set.npy")
    np.testing.assert_allclose(images.pixels, PIXELS / 255, atol=1e-7)
    assert images.labels is None


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_may_come_first(channels, tmp_path):
    np.save(tmp_path / "last.npy", PIXELS[..., :channels])
    np.save(tmp_path / "first.npy", np.moveaxis(PIXELS[..., :channels], -1, 1))
    first, last = load_images(tmp_path / "first.npy"), load_images(tmp_path / "last.npy")
    np.testing.assert_array_equal(first.pixels, last.pixels)
    assert first.sha256 == last.sha256


def test_ambiguous_channels_are_read_as_the_caller_says(tmp_path):
    strips = np.random.default_rng(1).integers(256, size=(N, 3, 8, 1), dtype=np.uint8)
    np.save(tmp_path / "strips.npy", strips)
    first = load_images(tmp_path / "strips.npy", channels_first=True)
    last = load_images(tmp_path / "strips.npy", channels_first=False)
    assert first.pixels.shape == (N, 8, 1, 3) and last.pixels.shape == (N, 3, 8, 1)
    np.testing.assert_array_equal(np.moveaxis(first.pixels, -1, 1), last.pixels)
    np.save(tmp_path / "plain.npy", PIXELS)
    with pytest.raises(ValueError, match=r"have shape \(120, 6, 8, 3\): expected"):
        load_images(tmp_path / "plain.npy", channels_first=True)


def test_classes_may_be_text_or_bytes(tmp_path):
    for labels in (np.where(LABELS == 0, "cat", "dog"), np.where(LABELS == 0, b"cat", b"dog")):
        np.savez(tmp_path / "set.npz", images=PIXELS, labels=labels)
        assert load_images(tmp_path / "set.npz").classes == ("cat", "dog")


def test_bytes_are_scaled_to_the_nearest_float32_and_other_numbers_by_their_maximum():
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    np.testing.assert_array_equal(scaled_pixels(every, "x")[0, ..., 0], (every[0] / 255.0).astype(np.float32))
    for dtype in (np.int64, np.uint16, np.float32, np.float64, bool):
        scaled = scaled_pixels(np.arange(8).reshape(2, 2, 2).astype(dtype), "x")
        assert scaled.dtype == np.float32 and scaled.min() == 0 and scaled.max() == 1


def test_empty_and_foreign_archives_are_named(tmp_path):
    np.savez(tmp_path / "nothing.npz")
    with pytest.raises(ValueError, match=r"nothing\.npz' has no arrays: give the images the name images"):
        load_images(tmp_path / "nothing.npz")
    (tmp_path / "empty.npz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty\.npz' is not a whole \.npz file"):
        load_images(tmp_path / "empty.npz")
    np.savez(tmp_path / "few.npz", images=PIXELS, labels=LABELS, target=LABELS)
    with pytest.raises(ValueError, match="has labels and target: keep the array that is meant"):
        load_images(tmp_path / "few.npz")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_idx_file_is_compared_with_memory_before_it_is_read(pack, tmp_path):
    name = "huge.gz" if pack is gzip.compress else "huge"
    (tmp_path / name).write_bytes(pack(b"\0\0\x08\x03" + struct.pack(">3I", 2**31, 2**12, 2**12)))
    with pytest.raises(ValueError, match=rf"reading '.*{name}' needs 448 PiB of memory"):
        load_images(tmp_path / name)


def test_an_idx_file_longer_than_its_header_says_is_refused(tmp_path):
    (tmp_path / "long").write_bytes(b"\0\0\x08\x03" + struct.pack(">3I", N, 2, 2) + bytes(4 * N + 5))
    with pytest.raises(ValueError, match=r"the header of '.*long' gives \(120, 2, 2\) numbers, more follow: fetch"):
        load_images(tmp_path / "long")


def test_a_split_without_a_part_is_refused():
    images = Images("few", np.zeros((4, 2, 2, 1), np.float32), None, "drawn")
    with pytest.raises(ValueError, match=r"held_out = 0\.1 of 4 images: both parts need one image at least"):
        split_images(images, 0)
