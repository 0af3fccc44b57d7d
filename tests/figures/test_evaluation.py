import numpy as np
import pandas as pd
import pytest

from tests.made_predictions import make
from wbc_lib.data.dataset import CLASSES
from wbc_lib.evaluation import calibration, counting
from wbc_lib.figures import evaluation

INTERVALS = pd.DataFrame(
    {"estimate": [0.8, 0.9], "low": [0.7, 0.85], "high": [0.9, 0.95]}, index=["accuracy", "recall, monocyte"]
)
PHOTOS = pd.DataFrame(
    {
        "cell": ["NEUTROPHIL"] * 3 + ["MONOCYTE", "LYMPHOCYTE"],
        "share": [0.1, 0.1, 0.1, 0.5, 0.2],
        "right": [1.0, 1.0, 0.4, 0.06, 1.0],
    },
    index=pd.Index([3, 5, 8, 110, 120], name="photo"),
)
PICTURE = np.full((48, 64, 3), 200, np.uint8)
PREDICTIONS = make()


def test_bars_reach_from_low_to_high_and_dots_sit_at_the_estimates():
    other = INTERVALS.head(1) - 0.1
    axis = evaluation.draw_intervals({"one": INTERVALS, "other": other}).axes[0]
    spans = [[segment[:, 0].tolist() for segment in lines.get_segments()] for lines in axis.collections]
    assert spans[0] == [[0.7, 0.9], [0.85, 0.95]]
    assert spans[1] == [pytest.approx([0.6, 0.8])]
    dots = [line.get_xdata().tolist() for line in axis.lines if line.get_marker() == "o"]
    assert dots == [[0.8, 0.9], pytest.approx([0.7])]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["Accuracy", "Recall, monocyte"]
    partly = evaluation.draw_intervals({"all": INTERVALS, "some": INTERVALS.tail(1)}).axes[0]
    (at,) = [segment[0, 1] for segment in partly.collections[1].get_segments()]
    assert round(at) == 1  # a series that lacks a score leaves its place empty


def test_differences_may_be_of_any_size_and_a_line_marks_where_there_is_none():
    axis = evaluation.draw_intervals({"by image": 100 * INTERVALS}, "points", are_differences=True).axes[0]
    assert axis.get_xlim()[1] > 95
    assert [line.get_xdata() for line in axis.lines if line.get_marker() != "o"][0] == [0, 0]


def test_every_photo_is_a_dot_in_its_classs_row_with_its_share_as_area():
    axis = evaluation.draw_strip(PHOTOS, {110, 5}).axes[0]
    assert len(axis.collections) == len(CLASSES)
    for row, (cell, dots) in enumerate(zip(CLASSES, axis.collections, strict=True)):
        own = PHOTOS[PHOTOS.cell == cell]
        assert sorted(dots.get_offsets()[:, 0]) == pytest.approx(sorted(own.right))
        assert (np.abs(dots.get_offsets()[:, 1] - row) < 0.5).all()
        assert len(np.unique(dots.get_offsets(), axis=0)) == len(own)  # equal ones lie apart
    areas = {cell: dots.get_sizes() for cell, dots in zip(CLASSES, axis.collections, strict=True)}
    assert areas["MONOCYTE"][0] == pytest.approx(5 * areas["NEUTROPHIL"][0])
    assert sorted(t.get_text() for t in axis.texts) == ["110", "5"]


def test_the_cell_beside_a_photo_is_what_its_box_holds():
    picture = PICTURE.copy()
    picture[10:20, 30:50] = 7
    figure = evaluation.draw_photos_and_cells([("a", picture, (30, 10, 50, 20)), ("b", PICTURE, None)])
    whole, close, bare, empty = figure.axes
    np.testing.assert_array_equal(close.images[0].get_array(), picture[10:20, 30:50])
    assert whole.patches[0].get_bbox().bounds == (30, 10, 20, 10)
    assert bare.images and not bare.patches and not empty.images
    assert [axis.get_title(loc="left") for axis in (whole, bare)] == ["a", "b"]


def values(axis, label: str) -> np.ndarray:
    return next(line for line in axis.lines if line.get_label() == label).get_xydata()


def test_errors_are_drawn_in_cells_of_a_hundred_with_a_panel_for_the_legend():
    mixes = {"a": np.full(4, 0.25), "b": counting.MIXES[counting.HEALTHY]}
    errors = counting.summarise_errors(counting.simulate([(PREDICTIONS, PREDICTIONS)], mixes, (100, 1000), 10))
    readers = counting.expected_errors(mixes, [100, 1000])
    figure = evaluation.draw_counting_errors(errors, readers, {counting.COUNTING: "counted"})
    panels = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title() for axis in panels] == ["a", "b"]
    expected = 100 * errors.error.xs(("b", counting.COUNTING), level=("mix", "way"))
    np.testing.assert_allclose(values(panels[1], "counted")[:, 1], expected)
    np.testing.assert_allclose(values(panels[1], "faultless reader")[:, 1], 100 * readers["b"])
    np.testing.assert_allclose(values(panels[1], "the same, 100 cells")[:, 1], 100 * readers["b"][100])


def test_every_photo_is_a_dot_in_its_class():
    some = PREDICTIONS.take(PREDICTIONS.labels != 2)
    table = calibration.mean_by_photo(some.right, some)
    figure = evaluation.draw_coverage_of_photos({"one": table, "other": table.iloc[:1]}, 0.9)
    dots = [[len(line.get_xdata()) for line in axis.lines if line.get_marker() == "o"] for axis in figure.axes]
    assert dots == [[6, 0, 6, 6], [1, 0, 0, 0]]


def test_a_changed_property_has_its_panel_with_a_curve_for_each_set_that_it_leads_to():
    ends = {"estimate": 0.5, "low": 0.4, "high": 0.6}
    rows = [{"change": "stain", "towards": t, "amount": share} | ends for t in ("A", "B") for share in (1.0, 0.5)]
    rows += [{"change": "scale", "towards": "", "amount": 2.0} | ends]
    figure = evaluation.draw_changes(pd.DataFrame(rows), 0.9, {"A": 0.3, "B": 0.2})
    panels = {axis.get_title(): axis for axis in figure.axes}
    curves = {name: [li for li in axis.lines if li.get_marker() == "o"] for name, axis in panels.items()}
    assert [list(li.get_xdata()) for li in curves["stain"]] == [[0.5, 1.0]] * 2
    assert [len(curves[name]) for name in ("background", "field", "scale", "blur")] == [0, 0, 1, 0]
    assert all([0.9] in [list(li.get_ydata()) for li in panels[name].lines] for name in curves if name)


def test_noise_has_a_bar_for_each_smear_and_class_that_is_there():
    rows = [(s, c) for s in ("All", "1", "2") for c in ("All", "NEUTROPHIL")]
    table = pd.DataFrame(
        {"photos": 9, "estimate": np.linspace(0.05, 0.3, 6), "low": 0.0, "high": np.linspace(0.1, 0.4, 6)},
        index=pd.MultiIndex.from_tuples(rows, names=["smear", "cell"]),
    )
    table.loc[("2", "NEUTROPHIL"), ["estimate", "low", "high"]] = np.nan
    axis = evaluation.draw_noise(table).axes[0]
    assert [len(lines.get_segments()) for lines in axis.collections] == [2, 2, 1]
    assert axis.lines[0].get_xdata().tolist() == pytest.approx([0.05, 0.1])
    assert [t.get_text() for t in axis.get_yticklabels()] == ["All", "Neutrophil"]
    assert [lines.get_label() for lines in axis.collections] == ["all photos", "smear 1", "smear 2"]
    assert axis.get_xlim()[1] < 0.5


def test_each_curve_is_the_mean_over_neighbours_and_each_photo_is_in_its_smears_row(monkeypatch):
    numbers = np.arange(0, 40, 2)
    right = pd.Series(np.r_[np.zeros(10), np.ones(10)], numbers)
    smears = pd.Series(np.repeat([1, 2], [12, 8]), numbers)
    monkeypatch.setattr(evaluation, "_NEIGHBOURS", 5)
    curves, strip = evaluation.draw_along_numbers({"one": right[::-1]}, smears).axes
    np.testing.assert_allclose(curves.lines[0].get_xdata(), numbers)
    np.testing.assert_allclose(curves.lines[0].get_ydata()[7:13], [0, 0.2, 0.4, 0.6, 0.8, 1])
    assert [len(line.get_xdata()) for line in strip.lines] == [12, 8]
    assert [t.get_text() for t in strip.get_yticklabels()] == ["smear 1", "smear 2"]
