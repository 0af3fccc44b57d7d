import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from wbc_lib import figures
from wbc_lib.evaluation.intervals import Interval

HISTORY = pd.DataFrame(
    {
        "epoch": range(1, 6),
        "accuracy": np.linspace(0.3, 0.9, 5),
        "val_accuracy": np.linspace(0.2, 0.8, 5),
        "loss": np.linspace(1.5, 0.2, 5),
        "val_loss": np.linspace(1.6, 0.4, 5),
    }
)
MATRIX = np.array([[5, 1, 0, 0, 0], [0, 6, 0, 0, 0], [1, 1, 4, 0, 0], [0, 0, 0, 6, 0]])


def texts(figure: Figure) -> set[str]:
    return {t.get_text() for axis in figure.axes for t in axis.texts}


def test_an_experiment_without_runs_is_marked_and_has_no_dots():
    columns = ["training", "validation", "test", "paper_training", "paper_validation", "paper_test"]
    table = pd.DataFrame([[0.9, 0.8, 0.7, 0.95, 0.9, np.nan], [np.nan] * 6], ["A", "B"], columns)
    figure = figures.draw_summary(table)
    assert "not run here" in texts(figure)
    measured = [line.get_xdata() for line in figure.axes[0].lines if "measured" in str(line.get_label())]
    assert all(np.isnan(x[1]) and not np.isnan(x[0]) for x in measured)


def test_estimates_have_a_bar_where_there_is_an_interval_and_the_papers_figure_in_its_row():
    rows = {"validation": Interval(0.9, np.nan, np.nan), "TEST": Interval(0.86, 0.58, 0.98)}
    axis = figures.draw_estimates(rows, dict.fromkeys(rows, "black"), {"TEST": 0.84}).axes[0]
    assert axis.collections[1].get_segments()[0].tolist() == [[0.58, 1], [0.98, 1]]
    paper = next(line for line in axis.lines if "paper" in str(line.get_label()))
    assert (list(paper.get_xdata()), list(paper.get_ydata())) == ([0.84], [1])
    assert {"90%", "86%"} <= texts(axis.figure)


@pytest.mark.parametrize("extra, columns", [(0, 4), (2, 5)])
def test_the_class_that_is_none_appears_only_when_predicted(extra, columns):
    matrix = MATRIX.copy()
    matrix[0, 4] = extra
    figure = figures.draw_confusion({"ours": matrix})
    assert len(figure.axes[0].get_xticks()) == columns
    assert "4\n67%" in texts(figure)  # of the true class


def test_curves_of_several_seeds_have_a_band_from_lowest_to_highest():
    other = HISTORY.assign(accuracy=HISTORY.accuracy - 0.1)
    axis = figures.draw_curves([HISTORY, other], paper_training=0.97).axes[0]
    line = next(x for x in axis.lines if x.get_label() == "training")
    np.testing.assert_allclose(line.get_ydata(), HISTORY.accuracy - 0.05)
    band = axis.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(0.2) and band.max() == pytest.approx(0.9)
    assert "paper's peak, training" in [x.get_label() for x in axis.lines]


def test_test_accuracies_are_marked_at_the_end_of_their_own_curves():
    figure = figures.draw_multiples({"a": [HISTORY, HISTORY], "b": [HISTORY]}, {"a": [0.5, 0.6], "b": [0.7]}, columns=1)
    marks = [line for axis in figure.axes for line in axis.lines if line.get_label() == "TEST"]
    assert [m.get_ydata().tolist() for m in marks] == [[0.5, 0.6], [0.7]]
    assert all(set(m.get_xdata()) == {5} for m in marks)
