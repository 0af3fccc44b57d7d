import cv2
import numpy as np
import pytest

from tests.drawn import draw_field
from tests.train_tiny import SMALL
from wbc_lib.errors import NoAnswerError, UnknownNameError
from wbc_lib.evaluation import scores
from wbc_lib.prediction import picture
from wbc_lib.prediction.picture import Prediction
from wbc_lib.training import experiments
from wbc_lib.training.experiments import PROFILES
from wbc_lib.training.runs import Store


def test_the_white_cells_of_a_picture_are_found_at_a_scale_that_is_measured_or_given():
    drawn = draw_field(60, [(200, 150), (460, 330)], seed=51)
    measured, given = picture.look(drawn), picture.look(drawn, 60)
    for cells in (measured, given):
        assert sorted((c.cell.x, c.cell.y) for c in cells) == [
            pytest.approx(at, abs=3) for at in ((200, 150), (460, 330))
        ]
        assert all(c.nucleus == pytest.approx(1.2, rel=0.1) for c in cells)
    assert measured[0].red_cell == pytest.approx(60, rel=0.06)
    for pixels, red_cell, reason in (
        (np.dstack([drawn[..., 0]] * 3), 60, "no colour"),
        (np.full_like(drawn, (90, 140, 80)), 0, "--red-cell PIXELS"),
        (drawn, 300, "no white cell"),
    ):
        with pytest.raises(NoAnswerError, match=reason):
            picture.look(pixels, red_cell)


def test_the_threshold_decides_the_largest_share_of_validation_that_keeps_the_accuracy(small_run, monkeypatch):
    asked = []
    for name in ("labels", "logits"):
        real = getattr(type(small_run), name)
        monkeypatch.setattr(type(small_run), name, lambda self, part, real=real: asked.append(part) or real(self, part))
    thresholds = {accuracy: picture.choose_threshold(small_run, accuracy) for accuracy in (0.5, 0.7, 0.9, 0.99)}
    assert set(asked) == {"validation"}  # it knows nothing of TEST
    confidence = small_run.probabilities("validation").max(axis=1)
    right = small_run.predicted("validation") == small_run.labels("validation")
    for accuracy, threshold in thresholds.items():
        assert threshold == pytest.approx(scores.confidence_threshold(confidence, right, accuracy))


def test_where_there_are_folds_the_threshold_is_chosen_on_the_photos_that_they_had_not_seen(small_run):
    two = [small_run, small_run]
    confidence, right = (
        np.tile(v, 2)
        for v in (small_run.probabilities("test").max(axis=1), small_run.predicted("test") == small_run.labels("test"))
    )
    expected = scores.confidence_threshold(confidence, right, 0.6)
    assert picture.choose_threshold(small_run, 0.6, two) == pytest.approx(expected)
    assert picture.find_folds(small_run, Store(small_run.folder.parent)) == []


def test_what_is_not_sure_enough_abstains_and_what_belongs_to_no_class_always_does():
    def answer(probabilities, threshold):
        return Prediction(np.zeros((60, 80, 3), np.uint8), np.array(probabilities), threshold)

    assert not answer([0, 0.9, 0.1, 0, 0], 0.9).abstains
    assert answer([0, 0.9, 0.1, 0, 0], 0.91).abstains
    none = answer([0.9, 0.1, 0, 0, 0], 0.5)
    assert none.abstains and none.cell == ""
    assert none.describe() == "None of the four, 90.0%; would rather abstain"
    assert none.as_plain()["cell"] is None
    assert answer([0, 0, 0, 1, 0], 0.5).describe() == "Monocyte, 100.0%"


def test_the_longest_training_is_asked_and_of_seeds_the_first(small_run, monkeypatch):
    monkeypatch.setitem(experiments.EXPERIMENTS, "final", SMALL)
    monkeypatch.setattr(picture, "PROFILES", {"long": PROFILES["paper"], "smoke": PROFILES["smoke"]})
    asked = []

    class Listening(Store):
        def find(self, plan):
            asked.append((plan.epochs, plan.seed))
            return super().find(plan)

    store, sha256 = Listening(small_run.folder.parent), small_run.record["config"]["data_sha256"]
    assert picture.find_run(store, sha256).key == small_run.key
    assert asked == [(50, 0), (50, 1), (50, 2), (2, 0)]
    assert picture.find_run(store, "0" * 64) is None


def test_maps_go_to_a_file_or_to_a_folder_each_to_a_place_of_its_own(tmp_path):
    several = [tmp_path / name for name in ("x/a.png", "y/a.png", "a-map.jpg", "z/a.jpg")]
    names = [p.name for p in picture.drawing_paths(tmp_path / "maps", several)]
    assert names == ["a-map.png", "a-map-2.png", "a-map-map.png", "a-map-3.png"]
    assert picture.drawing_paths(tmp_path / "one.svg", several[:1]) == [tmp_path / "one.svg"]
    for target, complaint in {"one.png": "one file for 4", "one.jpg": "no .png or .svg", "one.pdf": "no .png"}.items():
        with pytest.raises(UnknownNameError, match=complaint):
            picture.drawing_paths(tmp_path / target, several)
    with pytest.raises(UnknownNameError, match="is the picture itself"):
        picture.drawing_paths(tmp_path / "x/../x/a.png", several[:1])


def test_the_map_is_bright_where_the_attention_is(tmp_path):
    drawn = []
    for side in (slice(40), slice(40, 80)):
        attention = np.zeros((60, 80))
        attention[:, side] = 1
        grey = Prediction(np.full((60, 80, 3), 150, np.uint8), np.eye(5)[1], 0.5, attention)
        picture.write_map(grey, tmp_path / "map.png")
        drawn.append(cv2.imread(str(tmp_path / "map.png"), cv2.IMREAD_GRAYSCALE).astype(int))
    brighter = (drawn[0] - drawn[1]).sum(axis=0)
    assert np.flatnonzero(brighter > 0).max() <= np.flatnonzero(brighter < 0).min()
