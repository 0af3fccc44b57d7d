import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.drawn import draw_reduced, photograph_again
from wbc_lib.data import dataset, images
from wbc_lib.data.phantoms import draw_affine, draw_photo
from wbc_lib.provenance import registration
from wbc_lib.provenance.registration import find_source, index_sources

WIDTH, HEIGHT = dataset.IMAGE_SIZE
CORNERS = np.array([[0, 0, 1], [WIDTH - 1, 0, 1], [0, HEIGHT - 1, 1], [WIDTH - 1, HEIGHT - 1, 1]]).T


def as_source(number, grey):
    return registration.Source(number, grey, (registration.detect(grey), registration.detect(grey, mirrored=True)))


@pytest.fixture(scope="module")
def photos():
    return index_sources([as_source(i, draw_reduced(cell, i)) for i, cell in enumerate(dataset.CLASSES * 2)])


# --- which photo an image was made from


def test_pixels_tell_apart_two_photos_of_one_field():
    first = draw_photo(("NEUTROPHIL",), np.random.default_rng(5)).image
    pair = [images.to_grey(images.shrink(p, (HEIGHT, WIDTH))) for p in (first, photograph_again(first, (14, -6), 6))]
    others = [as_source(number, draw_reduced("NEUTROPHIL", number)) for number in (10, 11, 12)]
    both = index_sources([as_source(0, pair[0]), as_source(1, pair[1]), *others])
    rng = np.random.default_rng(7)
    for true in [0, 1] * 4:
        match = find_source(images.warp(pair[true], draw_affine(rng)), both)
        assert (match.photo, match.runner_up) == (true, 1 - true)
        assert match.confidence > 0.3
    # Of two photos of a field the one with more inliers is not the right one, if the pixels say otherwise.
    right, wrong = (
        registration.Match(0, np.eye(2, 3), inliers, 100, 1.0, residual) for inliers, residual in ((60, 1.2), (70, 2.4))
    )
    assert registration._choose([wrong, right]) is right
    assert registration._confidence(right, wrong) == pytest.approx(0.5)


def test_images_of_no_photo_are_not_assigned_with_confidence(photos):
    rng = np.random.default_rng(0)
    for seed, cell in enumerate(dataset.CLASSES * 2):
        stranger = images.warp(draw_reduced(cell, 1000 + seed), draw_affine(rng))
        assert find_source(stranger, photos).confidence == 0
    noise = rng.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    smooth = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 0, 255, cv2.NORM_MINMAX)
    assert find_source(noise, photos).confidence == find_source(smooth, photos).confidence == 0
    assert find_source(np.zeros((HEIGHT, WIDTH), np.uint8), photos) is registration.NO_MATCH
    assert find_source(noise, index_sources([])) is registration.NO_MATCH


@pytest.mark.parametrize("turn, scale", [(40, 1), (0, 1.1)])
def test_moves_that_the_recipe_cannot_make_are_not_believed(photos, turn, scale):
    source = photos.sources[0]
    moved = images.warp(source.grey, cv2.getRotationMatrix2D(((WIDTH - 1) / 2, (HEIGHT - 1) / 2), turn, scale))
    match = find_source(moved, photos)
    assert match.photo == source.photo and match.confidence == 0


# --- maps


def composed(rotation, shift, shear, scale, flips):
    # As the image generator puts it together, in (row, column): where each pixel is taken from, then the flips.
    turn, slant = np.radians(rotation), np.radians(shear)
    rotate = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    move = np.array([[1, 0, shift[1] * HEIGHT], [0, 1, shift[0] * WIDTH], [0, 0, 1]])
    lean = np.array([[1, -np.sin(slant), 0], [0, np.cos(slant), 0], [0, 0, 1]])
    zoom = np.diag([1 / scale[1], 1 / scale[0], 1])
    swap = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])
    taken = swap @ rotate @ move @ lean @ zoom @ swap
    centre = np.array([[1, 0, -(WIDTH - 1) / 2], [0, 1, -(HEIGHT - 1) / 2], [0, 0, 1]])
    mirror = np.diag([-1.0 if flips[0] else 1, -1 if flips[1] else 1, 1])
    return (np.linalg.inv(centre) @ mirror @ np.linalg.inv(taken) @ centre)[:2]


PAIR = st.tuples(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3))
SCALE = st.tuples(st.floats(0.9, 1.1), st.floats(0.9, 1.1))


@given(st.floats(-60, 60), PAIR, st.floats(-15, 15), SCALE, st.tuples(st.booleans(), st.booleans()))
def test_decomposition_inverts_composition(rotation, shift, shear, scale, flips):
    moved = registration.decompose(composed(rotation, shift, shear, scale, flips))
    assert moved.rotation == pytest.approx(-rotation, abs=1e-6)  # from (row, column) to (x, y)
    assert moved.shift == pytest.approx(shift, abs=1e-6)
    assert moved.shear == pytest.approx(shear, abs=1e-6)
    assert moved.scale == pytest.approx(scale, abs=1e-6)
    assert moved.flips == flips


@given(st.integers(0, 2**32))
def test_the_recipe_is_within_its_limits(seed):
    affine = draw_affine(np.random.default_rng(seed))
    assert registration.is_within(affine, registration.RECIPE_LIMITS)
    assert not registration.is_within(affine * 1.1, registration.RECIPE_LIMITS)
    flips = registration.decompose(affine).flips
    assert (flips[0] != flips[1]) == (np.linalg.det(affine[:, :2]) < 0)


@pytest.mark.parametrize("flat", [np.zeros((2, 3)), np.ones((2, 3)), np.full((2, 3), np.nan)])
def test_flat_maps_are_refused(flat):
    with pytest.raises(ValueError, match="flattens"):
        registration.decompose(flat)
    assert not registration.is_within(flat, registration.RECIPE_LIMITS)


def test_gain_and_residual_are_measured_where_the_photo_reaches():
    source = draw_reduced("EOSINOPHIL", 2) // 2
    affine = composed(10, (0.1, -0.1), 5, (1, 1), (True, False))
    image = images.warp(source, affine)
    assert registration.compare(source, image, affine) == pytest.approx((1, 0))
    brighter = cv2.convertScaleAbs(image, alpha=1.5)
    brighter[~registration.footprint(affine)] = 255
    gain, residual = registration.compare(source, brighter, affine)
    assert gain == pytest.approx(1.5, abs=0.01) and residual < 1
    away = np.array([[1.0, 0, 2 * WIDTH], [0, 1, 0]])
    assert np.isnan(registration.compare(source, image, away)).all()


def test_mirrored_features_are_those_of_the_mirror_image():
    grey = draw_reduced("MONOCYTE", 3)
    flipped = grey[:, ::-1].copy()
    fit = registration.register(registration.detect(grey, mirrored=True), registration.detect(flipped))
    assert fit.inliers > 50
    assert fit.affine @ CORNERS == pytest.approx(np.array([[-1, 0, WIDTH - 1], [0, 1, 0]]) @ CORNERS, abs=0.5)
