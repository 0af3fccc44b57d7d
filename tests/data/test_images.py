import os

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from wbc_lib import paths
from wbc_lib.data import dataset, images
from wbc_lib.errors import BadDataError, UnknownNameError


def test_a_small_image_is_the_mean_over_areas_of_the_large_one(phantom_set):
    names = dataset.list_images(phantom_set).image[::20]
    for name in names:
        path = phantom_set.image_path(name)
        full = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB).astype(float)
        reference = full.reshape(60, 4, 80, 4, 3).mean(axis=(1, 3))
        assert np.abs(images.read_small(path) - reference).mean() < 1.0


def test_a_second_load_is_mapped_read_only_and_the_same(phantom_set):
    first, second = images.load_images(phantom_set), images.load_images(phantom_set)
    assert isinstance(second.pixels, np.memmap)
    assert second.pixels.dtype == np.uint8 and second.pixels.shape == (len(first.index), 60, 80, 3)
    np.testing.assert_array_equal(first.pixels, second.pixels)
    with pytest.raises(ValueError, match="read-only"):
        second.pixels[0] = 0
    # A split is a slice in the order of the index.
    pixels, labels = second.of("TEST")
    rows = np.flatnonzero(second.index.split == "TEST")
    np.testing.assert_array_equal(pixels, second.pixels[rows])
    np.testing.assert_array_equal(labels, second.index.label[rows])


def test_an_interruption_and_a_damaged_image_which_is_named_leave_no_array(phantom_copy, monkeypatch, tmp_path):
    monkeypatch.setenv("WBC_CACHE", str(tmp_path / "cache"))

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        images.load_images(phantom_copy, on_progress=stop)
    victim = phantom_copy.image_path(dataset.list_images(phantom_copy).image[50])
    victim.write_bytes(b"\xff\xd8\xff no more than a beginning")
    with pytest.raises(BadDataError, match=victim.name):
        images.load_images(phantom_copy)
    assert list((paths.cache() / "arrays").iterdir()) == []


def test_a_damaged_array_in_the_cache_is_made_again(phantom_set, monkeypatch, tmp_path):
    expected = np.array(images.load_images(phantom_set).pixels)
    monkeypatch.setenv("WBC_CACHE", str(tmp_path / "cache"))
    progress = []
    images.load_images(phantom_set, on_progress=lambda done, total: progress.append((done, total)))
    assert progress[-1] == (len(expected), len(expected)) and progress == sorted(progress)
    (cached,) = (paths.cache() / "arrays").iterdir()
    os.truncate(cached, cached.stat().st_size // 2)
    np.testing.assert_array_equal(images.load_images(phantom_set).pixels, expected)


def test_channels_are_red_green_blue(tmp_path):
    red = np.zeros((240, 320, 3), np.uint8)
    red[..., 2] = 255  # OpenCV writes blue, green, red
    cv2.imwrite(str(tmp_path / "red.jpeg"), red)
    for image in (
        images.read_image(tmp_path / "red.jpeg"),
        images.read_image(tmp_path / "red.jpeg", reduce=True),
        images.read_small(tmp_path / "red.jpeg"),
    ):
        np.testing.assert_allclose(image.mean(axis=(0, 1)), [255, 0, 0], atol=2)


def test_a_grey_image_is_read_and_one_for_print_or_of_another_size_is_not(tmp_path):
    Image.new("L", dataset.IMAGE_SIZE, 77).save(tmp_path / "grey.jpeg")
    Image.new("CMYK", dataset.IMAGE_SIZE).save(tmp_path / "print.jpeg")
    assert np.abs(images.read_small(tmp_path / "grey.jpeg").astype(int) - 77).max() <= 1
    with pytest.raises(BadDataError, match=r"print\.jpeg: is 320x240 with 4 channels instead of 3"):
        images.read_small(tmp_path / "print.jpeg")
    Image.new("RGB", (80, 60)).save(tmp_path / "small.jpeg")
    with pytest.raises(BadDataError, match=r"small\.jpeg is not 320x240"):
        images.read_small(tmp_path / "small.jpeg")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("reduce", [False, True])
def test_an_image_is_turned_as_its_exif_data_say(phantom_set, tmp_path, orientation, reduce):
    exif = Image.Exif()
    exif[0x112] = orientation
    picture = Image.open(phantom_set.image_path(dataset.list_images(phantom_set).image[0]))
    picture.save(tmp_path / "a.jpeg", exif=exif, quality=95)
    upright = ImageOps.exif_transpose(Image.open(tmp_path / "a.jpeg"))
    expected = np.asarray(upright.reduce(2) if reduce else upright).astype(int)
    found = images.read_image(tmp_path / "a.jpeg", reduce=reduce)
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 1


def test_damage_inside_is_refused_and_what_lies_behind_the_end_is_not(phantom_set, tmp_path, capfd):
    content = phantom_set.image_path(dataset.list_images(phantom_set).image[0]).read_bytes()
    middle = len(content) // 2
    path = tmp_path / "a.jpeg"
    for damaged in (content[:middle] + bytes(300) + content[middle + 300 :], content[:middle] + b"\xff\xd9"):
        path.write_bytes(damaged)
        with pytest.raises(BadDataError, match=r"a\.jpeg: is damaged inside"):
            images.read_small(path)
    path.write_bytes(content[:-2])
    with pytest.raises(BadDataError, match="ends too early"):
        images.read_small(path)
    path.write_bytes(content)
    expected = images.read_small(path)
    for rest in (b"\xff\xda", bytes(5000), content[:middle]):
        path.write_bytes(content + rest)
        np.testing.assert_array_equal(images.read_small(path), expected)
    assert capfd.readouterr().err == ""


@given(st.integers(0, 2**32 - 1))
def test_pixels_are_scaled_as_the_name_says(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (3, 6, 8, 3), dtype=np.uint8)
    scaled = images.normalise(pixels, images.choose_scale("standardised", pixels)).astype(float)
    np.testing.assert_allclose(scaled.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=(0, 1, 2)), 1, atol=1e-5)
    for name, low in (("[-1, 1]", -1), ("[0, 1]", 0)):
        scaled = images.normalise(pixels, images.choose_scale(name, pixels))
        np.testing.assert_allclose(scaled, low + (1 - low) * (pixels / 255), atol=1e-6)


def test_an_unknown_normalisation_is_named():
    with pytest.raises(UnknownNameError, match=r"'z'.*standardised"):
        images.choose_scale("z", np.zeros((1, 1, 1, 3), np.uint8))


def test_there_and_back_again():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (20, 30, 3)).astype(np.uint8)
    assert np.abs(images.from_lab(images.to_lab(picture)).astype(int) - picture).max() <= 1
    assert images.from_lab(np.full((1, 1, 3), (150, 0, 0), np.float32)).max() == 255


def test_a_matched_picture_has_the_mean_and_the_spread_that_it_was_given():
    rng = np.random.default_rng(0)
    picture = np.clip(rng.normal((150, 120, 160), 12, (60, 60, 3)), 0, 255).astype(np.uint8)
    lab = images.to_lab(picture).reshape(-1, 3)
    wanted = ((70, 10, -8), (6, 4, 5))
    matched = images.to_lab(images.match_lab(picture, lab.mean(axis=0), lab.std(axis=0), *wanted)).reshape(-1, 3)
    assert matched.mean(axis=0) == pytest.approx(wanted[0], abs=0.3)
    assert matched.std(axis=0) == pytest.approx(wanted[1], abs=0.3)
    plain = np.full((5, 5, 3), 90, np.uint8)  # one colour stays one
    matched = images.match_lab(plain, images.to_lab(plain)[0, 0], (0, 0, 0), (50, 0, 0), (5, 5, 5))
    assert len(np.unique(matched.reshape(-1, 3), axis=0)) == 1
