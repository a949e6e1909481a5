"""Images: every source gives the same pixels, anything else is refused, and the split loses nothing."""

import gzip
import struct

import numpy as np
import pytest
from PIL import Image

from hierarchical import Images, load_images, select_classes, split_images

N, SIDE = 120, 8


@pytest.fixture(scope="module")
def gray():
    """Bytes, (n, side, side), and a label for each."""
    rng = np.random.default_rng(0)
    return rng.integers(256, size=(N, SIDE, SIDE), dtype=np.uint8), np.arange(N) % 3


def write_idx(file, array):
    header = b"\x00\x00\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape)
    file.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


@pytest.fixture(scope="module")
def files(gray, tmp_path_factory):
    """The same images in every form that is read."""
    pixels, labels = gray
    root = tmp_path_factory.mktemp("images")
    np.savez(root / "set.npz", images=pixels, labels=labels + 5)
    write_idx(root / "a-images-idx3-ubyte.gz", pixels)
    write_idx(root / "a-labels-idx1-ubyte.gz", labels)
    for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        folder = root / "folder" / f"class {label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i:03}.png")
    return root


@pytest.mark.parametrize("name", ["set.npz", "a-images-idx3-ubyte.gz", "folder"])
def test_every_form_gives_the_same_pixels_and_classes(name, files, gray):
    images = load_images(files / name, SIDE)
    pixels, labels = gray
    order = np.argsort(labels, kind="stable") if name == "folder" else np.arange(N)  # folders are read by name
    np.testing.assert_allclose(images.pixels[..., 0], pixels[order] / 255, atol=1e-7)
    np.testing.assert_array_equal(images.labels, labels[order])
    assert images.pixels.shape == (N, SIDE, SIDE, 1) and images.num_classes == 3


def test_color_stays_and_other_sizes_are_cut_to_the_middle(tmp_path):
    for i in range(100):
        wide = np.zeros((10, 30, 3), np.uint8)
        wide[:, 10:20] = (255, 0, 51)  # all that is left of the middle third
        Image.fromarray(wide).save(tmp_path / f"{i}.png")
    images = load_images(tmp_path, 10)
    np.testing.assert_allclose(images.pixels[0], np.broadcast_to([1, 0, 0.2], (10, 10, 3)), atol=1e-6)
    assert images.labels is None and images.num_classes == 0


def test_the_packaged_digits_are_those_of_the_package():
    images = load_images("digits")
    assert images.pixels.shape == (1797, 8, 8, 1) and images.pixels.max() == 1 and images.num_classes == 10


def test_a_split_keeps_every_image_once(gray):
    pixels, labels = gray
    images = Images("x", (pixels / 255).astype(np.float32)[..., None], labels.astype(np.int32), "", tuple("abc"))
    train, held_out = split_images(images, 3)
    assert len(held_out.pixels) == 12
    both = np.concatenate([train.pixels, held_out.pixels]).reshape(N, -1)
    np.testing.assert_array_equal(np.sort(both, 0), np.sort(images.pixels.reshape(N, -1), 0))
    again = split_images(images, 3)[1]
    np.testing.assert_array_equal(again.pixels, held_out.pixels)
    first = {tuple(image.ravel()): label for image, label in zip(images.pixels, labels, strict=True)}
    assert all(first[tuple(i.ravel())] == label for i, label in zip(held_out.pixels, held_out.labels, strict=True))


def test_what_is_not_images_says_what_is_expected(files, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no file 'nowhere': give a folder of images, an \.npz, \.npy or IDX file, or"
    ):
        load_images("nowhere")
    with pytest.raises(ValueError, match=r"holds no images: give a folder with files \.bmp"):
        load_images(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match=r"broken\.png' cannot be read as an image .*: remove it or mend it"):
        load_images(tmp_path)
    (tmp_path / "text.bin").write_text("no images")
    with pytest.raises(ValueError, match=r"text\.bin' is neither a folder, nor \.npz, nor \.npy, nor an IDX file"):
        load_images(tmp_path / "text.bin")
    np.savez(tmp_path / "few.npz", images=np.zeros((5, 8, 8)))
    with pytest.raises(ValueError, match=r"few\.npz' has 5 images: give at least 100"):
        load_images(tmp_path / "few.npz")
    np.savez(tmp_path / "other.npz", pictures=np.zeros((5, 8, 8)))
    with pytest.raises(ValueError, match="has pictures: give the images the name images"):
        load_images(tmp_path / "other.npz")
    with pytest.raises(ValueError, match=r"labels-idx1-ubyte\.gz' have shape \(120,\): expected"):
        load_images(files / "a-labels-idx1-ubyte.gz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": np.zeros(50, int)}, r"has 120 images and labels of shape \(50,\): give one label for each image"),
        ({"labels": np.zeros((N, 2))}, r"labels of shape \(120, 2\): give one label for each image"),
        ({"labels": np.full(N, np.nan)}, "labels of .* are float64: give finite numbers, or text"),
        ({"labels": np.full(N, 1j)}, "labels of .* are complex128: give finite numbers, or text"),
        ({"images": np.full((N, 8, 8), np.nan)}, "have pixels that are NaN or infinite: give finite numbers"),
        ({"images": np.full((N, 8, 8), -1)}, "have pixels down to -1: give numbers from 0 on"),
        ({"images": np.full((N, 8, 8), 1j)}, "have complex128 pixels: give real numbers"),
        ({"images": np.zeros((N, 8, 8, 4))}, r"have shape \(120, 8, 8, 4\): expected .* with 1 or 3 channels"),
        ({"images": np.zeros((N, 0, 8))}, r"have shape \(120, 0, 8\): expected"),
        ({"images": np.zeros((N, 64))}, r"have shape \(120, 64\): expected"),
        ({"images": np.zeros((N, 3, 8, 1))}, r"may both be channels: pass channels_first = True or False"),
        ({"data": np.zeros((N, 8, 8))}, "has images and data: keep the array that is meant"),
        ({"images": np.full((N, 8, 8), None)}, "holds Python objects"),
    ],
)
def test_arrays_that_are_not_images_are_refused(arrays, message, tmp_path):
    np.savez(tmp_path / "set.npz", **({"images": np.zeros((N, 8, 8))} | arrays))
    with pytest.raises(ValueError, match=message):
        load_images(tmp_path / "set.npz")


def test_one_class_is_none_and_gaps_between_labels_close(tmp_path):
    np.savez(tmp_path / "one.npz", images=np.ones((N, 8, 8)), labels=np.full(N, 7))
    assert load_images(tmp_path / "one.npz").labels is None
    np.savez(tmp_path / "gaps.npz", images=np.ones((N, 8, 8)), labels=np.where(np.arange(N) < 30, 3, 200))
    images = load_images(tmp_path / "gaps.npz")
    assert images.num_classes == 2 and images.chance == 0.25**2 + 0.75**2


def test_files_beside_classes_deep_pixels_and_broken_files_are_named(files, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / name / "x.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "stray.png")
    (tmp_path / ".hidden").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / ".hidden" / "x.png")
    with pytest.raises(ValueError, match=r"stray\.png' lies beside folders of classes: move it"):
        load_images(tmp_path)
    (tmp_path / "stray.png").unlink()
    with pytest.raises(ValueError, match="has 2 images: give at least 100"):
        load_images(tmp_path)
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "a" / "deep.png")
    with pytest.raises(ValueError, match=r"deep\.png' has I;16 pixels, more than 8 bits: convert it"):
        load_images(tmp_path)
    whole = (files / "a-images-idx3-ubyte.gz").read_bytes()
    (tmp_path / "cut.gz").write_bytes(whole[:-20])
    with pytest.raises(ValueError, match=r"cut\.gz' cannot be unpacked .*: fetch it again"):
        load_images(tmp_path / "cut.gz")
    (tmp_path / "short").write_bytes(gzip.decompress(whole)[:100])
    with pytest.raises(ValueError, match=r"short' gives \(120, 8, 8\) numbers, 84 follow: fetch it again"):
        load_images(tmp_path / "short")


def test_classes_are_chosen_by_their_own_names(files):
    rng = np.random.default_rng(3)
    labels = (np.arange(400) % 4).astype(np.int32)
    images = Images("four", rng.random((400, 2, 2, 1)).astype(np.float32), labels, "drawn", ("1", "2", "3", "cat"))
    part = select_classes(images, ("cat", "2"))
    np.testing.assert_array_equal(part.pixels, images.pixels[labels % 2 == 1])
    np.testing.assert_array_equal(part.labels, np.where(labels[labels % 2 == 1] == 3, 0, 1))
    assert part.num_classes == 2 and part.provenance.endswith("200 of them, of classes cat, 2")
    for classes in (("1", "1"), ("1", "7")):
        with pytest.raises(ValueError, match="choose different ones among 1, 2, 3, cat"):
            select_classes(images, classes)
    with pytest.raises(ValueError, match="four has 50 images of classes 1, 2"):
        select_classes(images.subset(np.arange(100, dtype=np.int32)), ("1", "2"))
    with pytest.raises(ValueError, match="four has no classes"):
        select_classes(Images("four", images.pixels, None, "drawn"), ("0", "1"))
    with pytest.raises(ValueError, match="name every class"):
        Images("four", images.pixels, labels, "drawn", ("0", "1"))
    names = {name: load_images(files / name, SIDE).classes for name in ("set.npz", "a-images-idx3-ubyte.gz", "folder")}
    assert names["set.npz"] == ("5", "6", "7") and names["folder"] == ("class 0", "class 1", "class 2")
    assert names["a-images-idx3-ubyte.gz"] == ("0", "1", "2")
