import cv2
import numpy as np
import pandas as pd
import pytest

from wbc_lib.data import dataset, phantoms
from wbc_lib.data.dataset import LABELS
from wbc_lib.data.images import load_images
from wbc_lib.data.picture_sets import TRAIN_PHOTOS, PictureSet
from wbc_lib.errors import UnknownNameError, WeightsError
from wbc_lib.provenance import boxes as cells
from wbc_lib.provenance import overlaps, trace
from wbc_lib.training import arrays
from wbc_lib.training.experiments import EXPERIMENTS, find_experiment
from wbc_lib.training.networks import build_base
from wbc_lib.training.plan import vary


@pytest.mark.parametrize("name", ["final", "raw-imbalanced", "raw-undersampled", "raw-cropped"])
def test_nothing_of_test_is_learned_from_and_no_example_is_on_two_sides(phantom_set, name):
    material = arrays.gather(phantom_set, EXPERIMENTS[name], seed=0)
    parts = {p: set(getattr(material, p).names) for p in ("training", "validation", "test")}
    assert not parts["training"] & parts["validation"]
    assert not (parts["training"] | parts["validation"]) & parts["test"]
    if name == "final":
        assert all(n.startswith("TRAIN/") for n in parts["training"] | parts["validation"])
        assert all(n.startswith("TEST/") for n in parts["test"])
        for part in (material.training, material.test):
            assert [LABELS[name.split("/")[1]] for name in part.names] == part.labels.tolist()
    else:
        split = dataset.index_photos(phantom_set).split
        numbers = {p: [int(n[11:16]) for n in names] for p, names in parts.items()}
        assert set(split[numbers["training"] + numbers["validation"]]) == {"TRAIN"}
        assert set(split[numbers["test"]]) == {"TEST"}
    if name == "raw-undersampled":
        labels = np.concatenate([material.training.labels, material.validation.labels])
        assert len(set(np.bincount(labels)[1:])) == 1


@pytest.mark.parametrize("name", ["final", "raw-imbalanced"])
def test_the_share_is_held_back_and_the_seed_decides_which(phantom_set, name):
    first, again, other = (arrays.gather(phantom_set, EXPERIMENTS[name], seed) for seed in (0, 0, 1))
    known = len(first.training) + len(first.validation)
    assert len(first.validation) == round(0.2 * known)
    for part in ("training", "validation", "test"):
        np.testing.assert_array_equal(getattr(first, part).names, getattr(again, part).names)
        np.testing.assert_array_equal(getattr(first, part).inputs, getattr(again, part).inputs)
    assert set(first.validation.names) != set(other.validation.names)
    assert set(first.test.names) == set(other.test.names)


@pytest.fixture(scope="module")
def photo_of(phantom_set):
    return trace.read(phantom_set).set_index("image").photo


@pytest.mark.parametrize("name", ["final+by-photo", "final+painted+by-photo"])
def test_by_photo_no_field_of_view_is_on_two_sides(phantom_set, photo_of, monkeypatch, name):
    # Let two photos of different classes show one field.
    single = [photo_of[photo_of.index.str.contains(f"TRAIN/{cell}")].iloc[0] for cell in ("NEUTROPHIL", "EOSINOPHIL")]
    pair = pd.DataFrame([sorted(single)], columns=["photo", "other"])
    monkeypatch.setattr(overlaps, "read_pairs", lambda _: pair)
    for seed in range(3):
        material = arrays.gather(phantom_set, find_experiment(name), seed)
        training, validation = (set(photo_of[getattr(material, p).names]) for p in ("training", "validation"))
        assert not training & validation
        assert set(single) <= training or set(single) <= validation
        assert all(n.startswith("TEST/") for n in material.test.names)


def test_over_all_folds_every_photo_is_held_back_once_and_scored_as_it_was_taken(phantom_set, photo_of):
    held_back, originals = [], []
    for k in range(1, 6):
        material = arrays.gather(phantom_set, find_experiment(f"final+fold-{k}"), seed=1)
        learned, watched = (photo_of[getattr(material, p).names] for p in ("training", "validation"))
        assert not set(learned) & set(watched)
        assert len(learned) + len(watched) == (photo_of.index.str.split("/").str[0] != "TEST_SIMPLE").sum()
        assert [int(n[11:16]) for n in material.test.names] == sorted(set(watched))
        held_back += sorted(set(watched))
        originals += list(zip(material.test.names, material.test.labels, strict=True))
    assert sorted(held_back) == sorted(set(photo_of))
    table = dataset.read_labels(phantom_set)
    assert all(LABELS[table[int(name[11:16])][0]] == label for name, label in originals)
    whole = cv2.imread(str(phantom_set.photo_path(held_back[-1])))[..., ::-1]
    np.testing.assert_array_equal(material.test.inputs[-1], cv2.resize(whole, (80, 60), interpolation=cv2.INTER_AREA))


def test_painted_images_are_the_same_with_a_disc_and_those_without_a_box_are_left_out(phantom_set, photo_of):
    plain, painted = (arrays.gather(phantom_set, find_experiment(n), 0) for n in ("final", "final+painted"))
    boxed = set(cells.white_cells(phantom_set).photo)
    for part in ("training", "test"):
        before, after = getattr(plain, part), getattr(painted, part)
        assert set(photo_of[after.names]) <= boxed
        inputs = dict(zip(before.names, before.inputs, strict=True))
        changed = [
            (inputs[n] != x).any(axis=2).mean() for n, x in zip(after.names, after.inputs, strict=True) if n in inputs
        ]
        assert len(changed) > 5 and min(changed) > 0.1 and max(changed) < 0.6
    expected = [n for n in plain.test.names if photo_of[n] in boxed]
    assert list(painted.test.names) == expected


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"protocol": "by-hand"}, "by-hand"),
        ({"material": "raw", "protocol": "by-photo"}, "by-photo"),
        ({"material": "dust"}, "dust"),
    ],
)
def test_an_unknown_protocol_or_material_is_named(phantom_set, changes, name):
    with pytest.raises(UnknownNameError, match=f"'{name}'"):
        arrays.gather(phantom_set, vary(EXPERIMENTS["final"], **changes), seed=0)


@pytest.mark.parametrize(
    "white, shown",
    [
        # Widened by 16 on the left and the right, and by 12 above and below.
        ([(5, 5, 15, 15), (200, 100, 360, 220), (0, 0, 640, 0)], (184, 88, 376, 232)),
        # At the rim there is no more to be shown.
        ([(0, 380, 100, 480)], (0, 370, 110, 480)),
        # A box of one line is no cell: the photo stays whole.
        ([(0, 100, 640, 101)], (0, 0, 640, 480)),
    ],
)
def test_a_crop_is_the_largest_white_cell_with_a_tenth_around_it(phantom_copy, white, shown):
    index = dataset.index_photos(phantom_copy)
    photo = index.index[(index.split == "TEST") & (index.kind == "single") & index.has_boxes][0]
    # The value of a pixel tells its column in red and its row in green.
    ramp = np.zeros((480, 640, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = (np.arange(640) // 4)[None], (np.arange(480) // 4)[:, None]
    cv2.imwrite(str(phantom_copy.photo_path(photo)), ramp[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])
    boxes = [phantoms.Box("WBC", *corners) for corners in white] + [phantoms.Box("RBC", 0, 0, 640, 480)]
    phantom_copy.annotation_path(photo).write_text(phantoms.boxes_xml(tuple(boxes)))
    test = arrays.gather(phantom_copy, EXPERIMENTS["raw-cropped"], seed=0).test
    (crop,) = test.inputs[test.names == phantom_copy.photo_path(photo).name]
    left, top, right, bottom = shown
    columns, rows = ((np.arange(n) + 0.5) / n for n in (80, 60))
    np.testing.assert_allclose(crop[..., 0].mean(axis=0), (left + columns * (right - left)) / 4, atol=1.5)
    np.testing.assert_allclose(crop[..., 1].mean(axis=1), (top + rows * (bottom - top)) / 4, atol=1.5)


ON_BASE = vary(EXPERIMENTS["vgg16-random"], input_shape=(32, 32))


def test_features_are_those_of_the_base_and_computed_once(phantom_set):
    calls = []
    features = arrays.load_features(phantom_set, ON_BASE, lambda done, total: calls.append((done, total)))
    pixels = load_images(phantom_set, (32, 32)).pixels
    base = build_base("vgg16", "random", (32, 32))  # its weights are the same every time
    # The first, the last and some in between; 64 at a time were computed together.
    for rows in (slice(0, 5), slice(62, 66), slice(-3, None)):
        expected = np.asarray(base(pixels[rows].astype(np.float32)))
        np.testing.assert_allclose(features[rows], expected, rtol=1e-3, atol=1e-3)
    assert calls[-1] == (len(pixels), len(pixels))
    n_calls = len(calls)
    again = arrays.load_features(phantom_set, ON_BASE, lambda *step: calls.append(step))
    np.testing.assert_array_equal(again, features)
    assert len(calls) == n_calls
    with pytest.raises(ValueError, match="read-only"):
        features[0] = 0


def test_examples_on_a_base_are_its_features_with_the_labels_of_their_images(phantom_set):
    features, index = arrays.load_features(phantom_set, ON_BASE), load_images(phantom_set, (32, 32)).index
    rows = {name: row for row, name in enumerate(index.image)}
    material = arrays.gather(phantom_set, ON_BASE, seed=0)
    for part in (material.training, material.validation, material.test):
        chosen = [rows[name] for name in part.names]
        np.testing.assert_array_equal(part.inputs, features[chosen])
        np.testing.assert_array_equal(part.labels, index.label.to_numpy()[chosen])


@pytest.fixture
def barcelona(monkeypatch, phantom_set):
    """Photos of the phantoms in place of the pictures of Barcelona, and some basophils."""
    real = arrays.open_set
    photos = real(TRAIN_PHOTOS, phantom_set)
    renamed = photos.table.assign(picture="pbc/" + photos.table.picture)
    renamed.loc[::3, "cell"] = ""

    def opening(name, data=None, elsewhere=None):
        if name != "pbc":
            return real(name, data, elsewhere)
        return PictureSet("pbc", renamed, lambda p: photos.read(p.removeprefix("pbc/")), "phantoms")

    monkeypatch.setattr(arrays, "open_set", opening)
    monkeypatch.setattr(arrays.external, "find", lambda: None)
    return renamed


def test_windows_are_learned_from_by_photo_and_those_of_barcelona_are_in_every_part(
    phantom_set, barcelona, monkeypatch
):
    table = trace.read(phantom_set).set_index("image").photo
    whole, fold = (arrays.gather(phantom_set, find_experiment(n), 0) for n in ("stronger", "stronger+fold-2"))
    assert set(whole.test.names) == set(whole.validation.names) == {n for n in table.index if n.startswith("TEST/")}
    assert not any(name.startswith("TEST/") for name in whole.training.names)
    number = np.array([table.get(n, -1) if "/" in n else dataset.photo_number(n) for n in fold.training.names])
    held_out = {dataset.photo_number(n) for n in fold.test.names}
    assert not held_out & set(number) and held_out == set(table[fold.validation.names])
    assert {tuple(p.inputs.shape[1:3]) for p in (fold.training, fold.test)} == {(144, 144), (96, 96)}
    for material in (whole, fold, arrays.gather(phantom_set, find_experiment("pbc"), 0)):
        of_barcelona = np.char.startswith(material.training.names, "pbc/")
        assert of_barcelona.sum() == len(barcelona)
        assert (material.training.labels[of_barcelona] == barcelona.cell.map(LABELS).fillna(0)).all()
    monkeypatch.undo()
    with pytest.raises(WeightsError, match="WBC_EXTERNAL"):
        arrays.gather(phantom_set, find_experiment("pbc"), 0)
    drawn = arrays.draw(whole.training, 40, np.random.default_rng(0))
    assert drawn.inputs.shape == (40, 96, 96, 3) and set(drawn.names) <= set(whole.training.names)
