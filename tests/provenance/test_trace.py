import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import photographed_again
from wbc_lib import paths
from wbc_lib.data import dataset, phantoms
from wbc_lib.data.phantoms import draw_photo
from wbc_lib.errors import BadDataError, DataNotFoundError
from wbc_lib.provenance import candidates, registration, trace

WIDTH, HEIGHT = dataset.IMAGE_SIZE
CORNERS = np.array([[0, 0, 1], [WIDTH - 1, 0, 1], [0, HEIGHT - 1, 1], [WIDTH - 1, HEIGHT - 1, 1]]).T
SEED = st.integers(0, 2**32)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return phantoms.write_phantoms(tmp_path_factory.mktemp("phantoms") / "set", scale=0.1, copies=40)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "set"
    return phantoms.write_phantoms(folder, seed=3, scale=0.01, copies=12)


@pytest.fixture(scope="module")
def tiny_lineup(tiny):
    index = dataset.index_photos(tiny)
    chosen = index.index[(index.kind == "single") & index.has_photo]
    return candidates.line_up([candidates.read_source(tiny, photo) for photo in chosen])


@pytest.fixture(scope="module")
def tiny_table(tiny, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WBC_CACHE", str(tmp_path_factory.mktemp("cache")))
        return trace.trace(tiny, jobs=1)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WBC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WBC_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(trace, "_CHUNK", 16)
    return tmp_path / "cache"


def affines(table):
    return table[trace.AFFINE].to_numpy().reshape(-1, 2, 3)


def assert_true(table, data):
    truth = phantoms.read_truth(data).set_index("image").loc[table.image].reset_index()
    assert list(table.photo) == list(truth.photo)
    assert list(table.mirrored) == list(truth.mirrored)
    miss = np.linalg.norm(affines(table) @ CORNERS - affines(truth) @ CORNERS, axis=1)
    assert miss.max() < 2


def grey_photo(cell, seed):
    return draw_photo((cell,), np.random.default_rng(seed)).image


def reduce(photo):
    return candidates.to_grey(cv2.resize(photo, dataset.IMAGE_SIZE, interpolation=cv2.INTER_AREA))


def as_source(number, photo):
    grey = reduce(photo)
    return candidates.Source(number, grey, (registration.detect(grey), registration.detect(grey, mirrored=True)))


# --- phantoms, whose truth is known


def test_every_phantom_is_traced_to_its_photo(data, cache):
    seen = []
    table = trace.trace(data, lambda done, total: seen.append((done, total)))
    assert list(table.image) == list(dataset.list_images(data).image)
    assert_true(table, data)
    assert table.confidence.min() > 0.8
    assert table.residual.max() < 2 and table.gain.between(0.99, 1.01).all()
    assert (table.runner_up != table.photo).all()
    assert (table.inliers >= candidates.MIN_INLIERS).all() and (table.inliers <= table.matches).all()
    assert seen[0] == (0, len(table)) and seen[-1] == (len(table), len(table))
    assert seen == sorted(seen)


def test_number_of_jobs_does_not_matter(tiny, tiny_table, cache):
    assert_true(tiny_table, tiny)
    pd.testing.assert_frame_equal(trace.trace(tiny, jobs=2), tiny_table)
    with pytest.raises(ValueError, match="at least one"):
        trace.trace(tiny, jobs=0)


@pytest.mark.parametrize("jobs", [1, 2])
def test_interrupted_work_is_taken_up_and_finished_work_read_back(tiny, tiny_table, cache, jobs, monkeypatch):
    def interrupt(done, total):
        if done >= 32:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trace.trace(tiny, interrupt, jobs=jobs)
    kept = {path: path.stat().st_mtime_ns for path in cache.rglob("chunks/*.csv")}
    assert len(kept) == 2
    seen = []

    def look(done, total):
        seen.append(done)
        assert all(path.stat().st_mtime_ns == time for path, time in kept.items())

    table = trace.trace(tiny, look, jobs=1)
    assert seen[0] == 32 and seen[-1] == len(table)
    pd.testing.assert_frame_equal(table, tiny_table)
    assert not list(cache.rglob("chunks"))
    monkeypatch.setattr(trace, "identify", None)
    pd.testing.assert_frame_equal(trace.trace(tiny, jobs=1), tiny_table)


def test_two_that_trace_at_once_do_not_disturb_each_other(tiny, tiny_table, cache):
    has_begun = threading.Event()

    def let_the_other_begin(done, total):
        if 0 < done < total:
            has_begun.wait(1)  # it does not, while this one is at work

    with ThreadPoolExecutor() as pool:
        first = pool.submit(trace.trace, tiny, let_the_other_begin, jobs=1)
        while not list(cache.rglob("chunks/*.csv")):
            time.sleep(0.01)
        second = pool.submit(trace.trace, tiny, lambda *_: has_begun.set(), jobs=1)
    pd.testing.assert_frame_equal(first.result(), tiny_table)
    pd.testing.assert_frame_equal(second.result(), tiny_table)


# --- images that come from no photo


def test_strangers_are_not_assigned_with_confidence(tiny_lineup):
    rng = np.random.default_rng(0)
    for seed, cell in enumerate(dataset.CLASSES * 3):
        stranger = phantoms.augment(reduce(grey_photo(cell, 1000 + seed)), phantoms.draw_affine(rng))
        assert candidates.identify(stranger, tiny_lineup).confidence == 0
    noise = rng.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    smooth = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 0, 255, cv2.NORM_MINMAX)
    assert candidates.identify(noise, tiny_lineup).confidence == 0
    assert candidates.identify(smooth, tiny_lineup).confidence == 0


def test_nothing_is_found_where_there_is_nothing(tiny_lineup):
    assert candidates.identify(np.zeros((HEIGHT, WIDTH), np.uint8), tiny_lineup) is candidates.NOTHING
    empty = candidates.line_up([])
    assert candidates.identify(reduce(grey_photo("MONOCYTE", 1)), empty) is candidates.NOTHING


def test_impossible_moves_are_not_believed(tiny_lineup):
    middle = ((WIDTH - 1) / 2, (HEIGHT - 1) / 2)
    source = tiny_lineup.sources[0]
    for turn, scale in [(40, 1), (0, 1.1)]:
        moved = phantoms.augment(source.grey, cv2.getRotationMatrix2D(middle, turn, scale))
        found = candidates.identify(moved, tiny_lineup)
        assert found.photo == source.photo and found.confidence == 0


def test_unknown_images_are_in_the_table_too(tiny, tiny_table, cache, tmp_path):
    shutil.copytree(tiny.root, tmp_path / "copy")
    data = dataset.open_folder(tmp_path / "copy")
    blank, stranger, *others = tiny_table.image
    cv2.imwrite(str(data.image_path(blank)), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    cv2.imwrite(str(data.image_path(stranger)), reduce(grey_photo("LYMPHOCYTE", 77)))
    table = trace.trace(data, jobs=1)
    assert list(table.photo[:1]) == [-1] and list(table.runner_up[:1]) == [-1]
    assert list(table.confidence[:2]) == [0, 0] and table[trace.AFFINE].isna().all(axis=1).sum() == 1
    pd.testing.assert_frame_equal(table[2:], tiny_table[2:])
    trace.write_recorded(table)
    pd.testing.assert_frame_equal(trace.read_recorded(), table)
    cv2.imwrite(str(data.image_path(others[0])), np.zeros((60, 80, 3), np.uint8))
    with pytest.raises(BadDataError, match="not 320x240"):
        trace.trace(data, jobs=1)


# --- two photos of one field of view


def test_pixels_tell_apart_two_photos_of_one_field():
    first = grey_photo("NEUTROPHIL", 5)
    second = photographed_again(first, (14, -6), 6)
    others = [as_source(number, grey_photo("NEUTROPHIL", number)) for number in (10, 11, 12)]
    both = candidates.line_up([as_source(1, first), as_source(2, second), *others])
    rng = np.random.default_rng(7)
    for photo, true, twin in [(first, 1, 2), (second, 2, 1)] * 4:
        found = candidates.identify(phantoms.augment(reduce(photo), phantoms.draw_affine(rng)), both)
        assert (found.photo, found.runner_up) == (true, twin)
        assert found.confidence > 0.3
    # Of two twins the one with more inliers is not the right one, if the pixels say otherwise.
    fits = [registration.Fit(np.eye(2, 3), inliers, 100) for inliers in (60, 70)]
    right, wrong = (
        candidates._Attempt(n, fit, 1.0, residual) for n, fit, residual in zip((1, 2), fits, (1.2, 2.4), strict=True)
    )
    assert candidates._choose([wrong, right]) is right
    assert candidates._judge(right, wrong) == pytest.approx(0.5)


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


@given(
    st.floats(-60, 60),
    PAIR,
    st.floats(-15, 15),
    st.tuples(st.floats(0.9, 1.1), st.floats(0.9, 1.1)),
    st.tuples(st.booleans(), st.booleans()),
)
def test_decomposition_inverts_composition(rotation, shift, shear, scale, flips):
    found = trace.decompose(composed(rotation, shift, shear, scale, flips))
    assert found.rotation == pytest.approx(-rotation, abs=1e-6)  # from (row, column) to (x, y)
    assert found.shift == pytest.approx(shift, abs=1e-6)
    assert found.shear == pytest.approx(shear, abs=1e-6)
    assert found.scale == pytest.approx(scale, abs=1e-6)
    assert found.flips == flips and found.mirrored == (flips[0] != flips[1])


def test_positive_rotation_is_counter_clockwise():
    turned = cv2.getRotationMatrix2D(((WIDTH - 1) / 2, (HEIGHT - 1) / 2), 10, 1)  # so is OpenCV's
    found = trace.decompose(turned)
    assert found.rotation == pytest.approx(10) and found.shift == pytest.approx((0, 0))
    assert found.flips == (False, False)


@given(SEED)
def test_recipe_is_within_its_limits(seed):
    affine = phantoms.draw_affine(np.random.default_rng(seed))
    assert registration.is_within(affine, candidates.RECIPE)
    assert not registration.is_within(affine * 1.1, candidates.RECIPE)
    assert trace.decompose(affine).mirrored == (np.linalg.det(affine[:, :2]) < 0)


@pytest.mark.parametrize("flat", [np.zeros((2, 3)), np.ones((2, 3)), np.full((2, 3), np.nan)])
def test_flat_maps_are_refused(flat):
    with pytest.raises(ValueError, match="flattens"):
        trace.decompose(flat)
    assert not registration.is_within(flat, candidates.RECIPE)


def test_gain_and_residual_are_measured_where_the_photo_reaches():
    source = reduce(grey_photo("EOSINOPHIL", 2)) // 2
    affine = composed(10, (0.1, -0.1), 5, (1, 1), (True, False))
    image = trace.warp(source, affine)
    assert registration.compare(source, image, affine) == pytest.approx((1, 0))
    brighter = cv2.convertScaleAbs(image, alpha=1.5)
    brighter[~registration.footprint(affine)] = 255
    gain, residual = registration.compare(source, brighter, affine)
    assert gain == pytest.approx(1.5, abs=0.01) and residual < 1
    away = np.array([[1.0, 0, 2 * WIDTH], [0, 1, 0]])
    assert np.isnan(registration.compare(source, image, away)).all()


def test_mirrored_features_are_those_of_the_mirror_image():
    grey = reduce(grey_photo("MONOCYTE", 3))
    flipped = grey[:, ::-1].copy()
    fit = registration.register(registration.detect(grey, mirrored=True), registration.detect(flipped))
    assert fit.inliers > 50
    assert fit.affine @ CORNERS == pytest.approx(np.array([[-1, 0, WIDTH - 1], [0, 1, 0]]) @ CORNERS, abs=0.5)


# --- the recorded table


def test_recorded_table_has_the_same_bytes_every_time(tiny_table, cache):
    path = trace.write_recorded(tiny_table)
    assert path == trace.recorded_path() == paths.results() / "provenance" / "images.csv.gz"
    before = path.read_bytes()
    trace.write_recorded(trace.read_recorded())
    assert path.read_bytes() == before
    pd.testing.assert_frame_equal(trace.read_recorded(), tiny_table)


def test_missing_or_damaged_record_is_named(tiny_table, cache):
    with pytest.raises(DataNotFoundError, match="images.csv.gz is missing"):
        trace.read_recorded()
    path = trace.write_recorded(tiny_table)
    content = path.read_bytes()
    for damaged in (content[:-100], b"no gzip", content[:50] + b"xxxx" + content[54:]):
        path.write_bytes(damaged)
        with pytest.raises(BadDataError, match="images.csv.gz is damaged"):
            trace.read_recorded()
    with pytest.raises(KeyError):
        trace.write_recorded(tiny_table.drop(columns="photo"))
    cut = tiny_table.assign(photo=None)
    trace.write_recorded(cut)
    with pytest.raises(BadDataError, match="not a table of provenance"):
        trace.read_recorded()
