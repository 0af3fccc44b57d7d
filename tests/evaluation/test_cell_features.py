import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score

from tests.drawn import VIOLET, draw_field
from wbc_lib import paths
from wbc_lib.data.dataset import CLASSES, LABELS
from wbc_lib.data.splits import read_splits
from wbc_lib.errors import BadDataError
from wbc_lib.evaluation import cell_features


def test_a_round_nucleus_is_measured_as_drawn():
    found = cell_features.measure(draw_field(90, [(320, 240)]))
    assert found["area"] == pytest.approx(np.pi * 0.6**2, rel=0.06)
    assert found["solidity"] > 0.97
    assert found["pieces"] == found["lobes at 0.12"] == 1
    assert found["thickness"] == pytest.approx(0.6, abs=0.04)
    assert np.isfinite(found).all()
    patterns = found[[name for name in found.index if name.startswith("nucleus pattern") and name.endswith("0.02")]]
    assert patterns.sum() == pytest.approx(1)


def test_lobes_are_counted():
    found = cell_features.measure(draw_field(90, [(320, 240)], lobes=3))
    assert found["lobes at 0.06"] == 3
    assert found["elongation"] > 2


def test_turning_a_photo_changes_nothing_that_matters():
    picture = draw_field(90, [(320, 240)], lobes=2)
    turned = cell_features.measure(np.ascontiguousarray(np.rot90(picture)))
    # The background's colour is told from a grid of pixels, in whole levels of 255.
    np.testing.assert_allclose(cell_features.measure(picture), turned, atol=0.7, rtol=0.05)


def test_a_picture_without_a_white_cell_is_refused():
    with pytest.raises(BadDataError, match="no white cell"):
        cell_features.measure(np.full((480, 640, 3), VIOLET, np.uint8))


def test_no_photo_is_answered_by_trees_that_have_seen_it(monkeypatch):
    monkeypatch.setattr(cell_features, "_TREES", 20)
    rng = np.random.default_rng(0)
    photos = np.arange(60)
    labels = pd.Series(rng.integers(1, 5, 60), photos)
    # Each photo can be learned by heart, and nothing else.
    features = pd.DataFrame(rng.normal(0, 1, (60, 3)), photos)
    folds = pd.Series(photos % 3 + 1, photos)
    answers = cell_features.answer_out_of_fold(features, labels, folds, 0)
    np.testing.assert_allclose(answers.sum(axis=1), 1)
    assert (answers.to_numpy().argmax(axis=1) + 1 == labels).mean() < 0.6
    told = cell_features.answer_out_of_fold(features.assign(label=10 * labels), labels, folds, 0)
    assert (told.to_numpy().argmax(axis=1) + 1 == labels).mean() > 0.9
    pd.testing.assert_frame_equal(answers, cell_features.answer_out_of_fold(features, labels, folds, 0))


def test_recorded_answers_are_read_as_predictions(tmp_path, monkeypatch):
    monkeypatch.setenv("WBC_RESULTS", str(tmp_path))
    table = pd.DataFrame({"repeat": [0], "photo": [3], **dict(zip(CLASSES, ([0.1], [0.2], [0.3], [0.4]), strict=True))})
    cell_features.write_recorded(table)
    (predictions,) = cell_features.read_recorded(pd.Series([2], [3]))
    np.testing.assert_allclose(predictions.probabilities, [[0, 0.1, 0.2, 0.3, 0.4]], atol=1e-9)
    assert (predictions.labels.tolist(), predictions.photos.tolist()) == ([2], [3])


def test_the_recorded_answers_are_about_every_photo_and_as_good_as_was_measured():
    answers = pd.read_csv(paths.ROOT / "results" / "ceiling" / "features.csv.gz")
    photos = read_splits().query("split != 'TEST_SIMPLE'").drop_duplicates("photo").set_index("photo")
    for _, repeat in answers.groupby("repeat"):
        assert set(repeat.photo) == set(photos.index)
        labels = photos["class"].map(LABELS)[repeat.photo]
        right = accuracy_score(labels, repeat[list(CLASSES)].to_numpy().argmax(axis=1) + 1)
        assert 0.86 < right < 0.885
    assert answers.repeat.nunique() == 3
