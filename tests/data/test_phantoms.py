import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import cross_val_score

from wbc_lib import paths
from wbc_lib.data import dataset, images, phantoms
from wbc_lib.errors import BadDataError

CELLS = st.lists(st.sampled_from(sorted(phantoms.KINDS)), max_size=2).map(tuple)
TINY = {"seed": 3, "scale": 0.01, "copies": 12}
WIDTH, HEIGHT = dataset.IMAGE_SIZE
SEED = st.integers(0, 2**32)


def files(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def reduced_photo(data, photo):
    return cv2.resize(cv2.imread(str(data.photo_path(photo))), dataset.IMAGE_SIZE, interpolation=cv2.INTER_AREA)


def test_every_image_shows_its_photo_where_the_truth_says(tiny_set):
    truth = phantoms.read_truth(tiny_set)
    assert set(truth.image) == set(dataset.list_images(tiny_set).image)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    for row, affine in zip(truth.to_dict("records"), images.affine_maps(truth), strict=True):
        image = cv2.imread(str(tiny_set.image_path(row["image"]))).astype(float)
        # Take each pixel from where the truth says it was: not the way the images are made.
        back = np.linalg.inv([*affine, [0, 0, 1]])
        from_x, from_y = (back[i, 0] * x + back[i, 1] * y + back[i, 2] for i in (0, 1))
        source = reduced_photo(tiny_set, row["photo"]).astype(np.float32)
        expected = cv2.remap(source, from_x.astype(np.float32), from_y.astype(np.float32), cv2.INTER_LINEAR)
        inside = (from_x > 1) & (from_x < WIDTH - 2) & (from_y > 1) & (from_y < HEIGHT - 2)
        outside = (from_x < -8) | (from_x > WIDTH + 7) | (from_y < -8) | (from_y > HEIGHT + 7)
        assert np.abs(image - expected)[inside].mean() < 2
        assert outside.sum() == 0 or image[outside].mean() < 2  # black, but for the JPEG's ripples
        assert row["mirrored"] == (np.linalg.det(affine[:, :2]) < 0)


def test_folder_is_recognised_and_says_what_was_planned(tiny_set):
    assert dataset.open_folder(tiny_set.root).is_phantom
    index = dataset.index_photos(tiny_set)
    label_seed = np.random.SeedSequence(TINY["seed"]).spawn(3)[0]
    plan = phantoms.plan_labels(TINY["scale"], np.random.default_rng(label_seed))
    pd.testing.assert_frame_equal(index[plan.columns], plan, check_index_type=False)
    boxed = index[index.has_boxes]
    cells = boxed.labels.map(lambda labels: len([c for c in labels.split(",") if c]))
    assert (boxed.n_wbc == cells).all()
    assert set(boxed.index) == set(dataset.read_boxes(tiny_set).query("cell == 'RBC'").photo)
    counts = dataset.list_images(tiny_set).groupby(["split", "cell"]).size()
    assert (counts["TRAIN"] == 12).all() and (counts["TEST"] == 3).all()
    # As untidy as the published labels: of photos that are not there, blank, and photos without boxes.
    assert ((index.kind == "single") & ~index.has_photo).any()
    assert ((index.kind == "unlabelled") & index.has_photo).any()
    assert (index.has_photo & ~index.has_boxes).any()


@settings(max_examples=25)
@given(SEED, st.floats(0.001, 1.5), st.integers(1, 300))
def test_every_class_is_in_both_splits_and_copies_are_dealt_evenly_at_any_scale(seed, scale, copies):
    rng = np.random.default_rng(seed)
    plan = phantoms.plan_labels(scale, rng)
    for cell in dataset.CLASSES:
        of_class = plan[(plan.labels == cell) & plan.has_photo]
        assert (of_class.split == "TEST").sum() >= 1
        assert (of_class.split == "TRAIN").sum() >= 2
    planned = phantoms.plan_images(plan, copies, rng)
    assert planned.image.is_unique
    parts = planned.image.str.extract(r"^(\w+)/(\w+)/_(\d+)_(\d+)\.jpeg$")
    assert not parts.isna().any(axis=None)
    for _, of_class in planned[parts[0] == "TRAIN"].groupby(parts[1]):
        assert len(of_class) == copies
        assert np.ptp(of_class.groupby("photo").size()) <= 1


def test_same_seed_same_bytes(tiny_set, tmp_path):
    calls = []
    again = phantoms.write_phantoms(tmp_path / "again", **TINY, on_progress=lambda *call: calls.append(call))
    assert files(again.root) == files(tiny_set.root)
    done, total = zip(*calls, strict=True)
    assert list(done) == sorted(done) and done[-1] == total[-1] and len(set(total)) == 1
    pictures = [p for p in again.root.rglob("*") if p.suffix in {".jpg", ".jpeg"}]
    assert done[-1] == len(pictures)


def test_set_that_is_there_is_not_drawn_again(tiny_set):
    def never(done, total):
        raise AssertionError("drawn again")

    assert phantoms.cached(**TINY, on_progress=never).root == tiny_set.root
    assert tiny_set.root.is_relative_to(paths.cache())
    with pytest.raises(ValueError, match="need"):
        phantoms.cached(scale=float("nan"))
    with pytest.raises(BadDataError, match="drawn otherwise"):
        phantoms.write_phantoms(tiny_set.root, seed=4, scale=0.01, copies=12)


def test_folder_of_something_else_is_refused_and_untouched(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").write_bytes(b"precious")
    with pytest.raises(BadDataError, match="not a phantom data set"):
        phantoms.write_phantoms(tmp_path / "photos", **TINY)
    assert files(tmp_path) == {"photos/mine.jpg": b"precious"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_interrupted_call_leaves_nothing(tmp_path, error):
    def stop(done, total):
        raise error

    with pytest.raises(error):
        phantoms.write_phantoms(tmp_path / "set", **TINY, on_progress=stop)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", [None, "", "image,photo\na,1\n", "\x00\n"])
def test_truth_that_cannot_be_read_is_named(tmp_path, text):
    if text is not None:
        (tmp_path / "truth.csv").write_text(text)
    data = dataset.DataSet(tmp_path, tmp_path, tmp_path)
    with pytest.raises(BadDataError, match=r"truth\.csv"):
        phantoms.read_truth(data)


# --- what is drawn


def describe(cell, seed):
    # Of the labelled cell: size, mean colour, and how dark and how even it is.
    photo = phantoms.draw_photo((cell,), np.random.default_rng(seed))
    (box,) = [box for box in photo.boxes if box.cell == "WBC"]
    inside = photo.image[box.ymin : box.ymax, box.xmin : box.xmax].reshape(-1, 3)
    width, height = box.xmax - box.xmin, box.ymax - box.ymin
    return [width, height, *inside.mean(axis=0), *inside.std(axis=0), (inside[:, 0] < 150).mean()]


def test_classes_can_be_told_apart_by_the_labelled_cell_alone():
    cells = [cell for cell in dataset.CLASSES for _ in range(6)]
    looks = np.array([describe(cell, seed) for seed, cell in enumerate(cells)])
    right = cross_val_score(LinearDiscriminantAnalysis(), looks, cells, cv=3).mean()
    assert right > 0.7  # by chance 0.25


@settings(max_examples=12)
@given(CELLS, SEED)
def test_photo_has_a_box_for_each_white_cell_and_all_lie_in_it(cells, seed):
    photo = phantoms.draw_photo(cells, np.random.default_rng(seed))
    assert photo.image.shape == (480, 640, 3) and photo.image.dtype == np.uint8
    assert len([box for box in photo.boxes if box.cell == "WBC"]) == len(cells)
    for box in photo.boxes:
        assert 0 <= box.xmin < box.xmax <= 640 and 0 <= box.ymin < box.ymax <= 480
