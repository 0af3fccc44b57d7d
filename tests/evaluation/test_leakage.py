import numpy as np
import pandas as pd
import pytest

from tests.evaluation.test_photo_scores import FIRST, NAMES, PHOTO, SECOND
from wbc_lib.evaluation import leakage

PHOTO_OF = pd.Series(PHOTO, NAMES)


class Drawn:
    """A run of given recall by class, with as many photos of each class and ten images of each photo."""

    def __init__(self, validation, test, photos=(10, 10, 10, 10)):
        self.recall = {"validation": validation, "test": test}
        self.n = photos

    def labels(self, part):
        return np.repeat([1, 2, 3, 4], [10 * n for n in self.n])

    def names(self, part):
        return np.array([f"{part}-{i}" for i in range(10 * sum(self.n))])

    def predicted(self, part):
        predicted = self.labels(part)
        for label, recall in enumerate(self.recall[part], start=1):
            own = np.flatnonzero(self.labels(part) == label)
            predicted[own[round(recall * len(own)) :]] = label % 4 + 1
        return predicted

    def accuracy(self, part):
        return (self.predicted(part) == self.labels(part)).mean()


def tell(at_random, by_photo):
    photo_of = pd.concat([pd.Series(np.arange(len(r.labels(p))) // 10, r.names(p)) for r in (at_random, by_photo)
                          for p in ("validation", "test")])  # fmt: skip
    photo_of = photo_of[~photo_of.index.duplicated()]
    return leakage.tell_protocols({"final": [at_random], "final+by-photo": [by_photo]}, photo_of)


def test_images_and_photos_are_weighed_each_in_their_way():
    table = leakage.recall_by_class([FIRST], "test", PHOTO_OF)
    # Photo 7: 3 of 3 right; photo 9: 0 of 2; photo 8, a monocyte: 1 of 4.
    assert list(table.index) == ["Neutrophil", "Monocyte", "All"]
    assert table.photos.tolist() == [2, 1, 3]
    assert table.by_image.tolist() == pytest.approx([3 / 5, 1 / 4, 4 / 9])
    assert table.by_photo.tolist() == pytest.approx([1 / 2, 1 / 4, 5 / 12])
    assert table.share.tolist() == pytest.approx([5 / 9, 4 / 9, 1])
    second = leakage.recall_by_class([SECOND], "test", PHOTO_OF)
    both = leakage.recall_by_class([FIRST, SECOND], "test", PHOTO_OF)
    pd.testing.assert_frame_equal(both, (table + second) / 2)


def test_a_few_photos_are_named_where_they_pull_validation_below_test():
    pulled = Drawn([0.8, 0.8, 0.0, 0.8], [0.95] * 4)
    told = tell(Drawn([0.97] * 4, [0.95] * 4), pulled)
    assert "monocytes make up 25% of the validation images, but these are copies of 10 photos, and 0% of them" in told
    assert "do not agree either (60.0% and 95.0%)" in told


def test_validation_that_comes_closer_to_test_is_said_to():
    told = tell(Drawn([0.95] * 4, [0.8] * 4), Drawn([0.82] * 4, [0.8] * 4))
    assert told.endswith("comes closer to what the same networks reach on TEST, 80.0%.")
    assert "95.0% of the validation images are recognised; held back by photo, 82.0%" in told
    assert "13 points by images and 13 by photos" in told


@pytest.mark.parametrize(("covered", "new", "is_photo"), [(0.65, 0.25, True), (0.65, 0.6, False), (0.3, 0.25, False)])
def test_the_background_is_judged_by_what_is_left_without_the_cell(covered, new, is_photo):
    runs = {
        "final": [Drawn([1] * 4, [1] * 4)],
        "final+painted": [Drawn([covered] * 4, [0.25] * 4)],
        "final+painted+by-photo": [Drawn([new] * 4, [0.25] * 4)],
    }
    told = leakage.tell_background(runs)
    assert (
        f"{covered:.1%} of the validation images" in told and f"{new:.1%} by photo ({100 * (new - 0.25):+.1f})" in told
    )
    assert ("is the photo, not the class" in told) == is_photo
