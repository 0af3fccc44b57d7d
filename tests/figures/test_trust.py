import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from tests.made_predictions import make
from wbc_lib.data.dataset import CLASSES
from wbc_lib.evaluation import calibration, conformal, counting
from wbc_lib.evaluation.intervals import Interval
from wbc_lib.figures import trust

PREDICTIONS = make()
WEIGHTS = calibration.draw_photos(PREDICTIONS, 50)


def drawn(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def values(axis, label: str) -> np.ndarray:
    return next(line for line in axis.lines if line.get_label() == label).get_xydata()


def test_errors_are_drawn_in_cells_of_a_hundred_with_a_panel_for_the_legend():
    mixes = {"a": np.full(4, 0.25), "b": counting.healthy_mix()}
    errors = counting.summarise_errors(counting.simulate([(PREDICTIONS, PREDICTIONS)], mixes, (100, 1000), 10))
    readers = counting.expected_errors(mixes, [100, 1000])
    figure = trust.draw_counting_errors(errors, readers, {counting.COUNTING: "counted"})
    panels = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title() for axis in panels] == ["a", "b"]
    expected = 100 * errors.error.xs(("b", counting.COUNTING), level=("mix", "way"))
    np.testing.assert_allclose(values(panels[1], "counted")[:, 1], expected)
    np.testing.assert_allclose(values(panels[1], "faultless reader")[:, 1], 100 * readers["b"])
    np.testing.assert_allclose(values(panels[1], "the same, 100 cells")[:, 1], 100 * readers["b"][100])
    assert drawn(figure)


def test_the_least_loss_of_each_curve_is_marked():
    curve = calibration.losses_by_photo(PREDICTIONS).sum(axis=0) / len(PREDICTIONS)
    figure = trust.draw_temperatures({"validation": curve}, Interval(1, 0.8, 1.5))
    axis = figure.axes[0]
    dots = [line.get_xydata() for line in axis.lines if line.get_marker() == "o"]
    assert len(dots) == 1
    assert dots[0][0, 0] == pytest.approx(calibration.fit_temperature(PREDICTIONS), rel=0.02)
    assert dots[0][0, 1] == curve.min()
    low, high = axis.get_ylim()
    assert low < curve.min() < high
    assert drawn(figure)


def test_reliability_has_a_panel_for_each_and_a_bar_for_each_bin():
    table = calibration.reliability(PREDICTIONS, WEIGHTS, 5)
    figure = trust.draw_reliability({"known": table, "new": table})
    assert [axis.get_title() for axis in figure.axes] == ["known", "new"]
    points = figure.axes[1].lines[1].get_xydata()
    np.testing.assert_allclose(points[:, 1], table.accuracy)
    np.testing.assert_allclose(points[:, 0], table.confidence.clip(upper=0.9999))
    assert len(figure.axes[1].collections[0].get_segments()) == 5
    assert drawn(figure)


def test_the_share_decided_runs_to_the_whole():
    table = calibration.risk_coverage(PREDICTIONS, WEIGHTS, 10)
    figure = trust.draw_risk_coverage({"TEST": table}, 0.9)
    np.testing.assert_allclose(values(figure.axes[0], "TEST"), table[["share", "accuracy"]])
    assert (values(figure.axes[0], "wanted")[:, 1] == 0.9).all()
    assert drawn(figure)


def test_every_photo_is_a_dot_in_its_class():
    some = PREDICTIONS.take(PREDICTIONS.labels != 2)
    table = conformal.mean_by_photo(some.right, some)
    figure = trust.draw_coverage_of_photos({"one": table, "other": table.iloc[:1]}, 0.9)
    dots = [[len(line.get_xdata()) for line in axis.lines if line.get_marker() == "o"] for axis in figure.axes]
    assert dots == [[6, 0, 6, 6], [1, 0, 0, 0]]
    assert drawn(figure)


def test_ways_of_counting_are_beneath_each_other_from_the_first_down():
    shares = counting.describe_reader(counting.healthy_mix())
    table = pd.concat({"reader": shares, "network": 1.1 * shares}).swaplevel()
    figure = trust.draw_differential(table, counting.REFERENCE, counting.healthy_mix())
    assert [axis.get_title() for axis in figure.axes] == [cell.capitalize() for cell in CLASSES]
    axis = figure.axes[1]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["reader", "network"]
    assert axis.get_ylim()[0] > axis.get_ylim()[1]
    dots = next(line for line in axis.lines if line.get_marker() == "o")
    np.testing.assert_allclose(dots.get_xdata(), [0.025, 0.0275])
    assert drawn(figure)
