import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from wbc_lib import figures
from wbc_lib.data.dataset import CLASSES
from wbc_lib.figures import certainty

INTERVALS = pd.DataFrame(
    {"estimate": [0.8, 0.9], "low": [0.7, 0.85], "high": [0.9, 0.95]}, index=["accuracy", "recall, monocyte"]
)
PHOTOS = pd.DataFrame(
    {
        "cell": ["NEUTROPHIL"] * 3 + ["MONOCYTE", "LYMPHOCYTE"],
        "copies": [10, 10, 10, 50, 20],
        "share": [0.1, 0.1, 0.1, 0.5, 0.2],
        "right": [1.0, 1.0, 0.4, 0.06, 1.0],
    },
    index=pd.Index([3, 5, 8, 110, 120], name="photo"),
)
VARIATION = pd.DataFrame(
    {"seeds": [0.4, 1.0], "images": [0.7, 1.3], "photos": [5.5, 3.1]}, index=["accuracy", "macro-F1"]
)
PICTURE = np.full((48, 64, 3), 200, np.uint8)


def drawn(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def texts(figure: Figure) -> list[str]:
    return [t.get_text() for axis in figure.axes for t in axis.texts]


def test_bars_reach_from_low_to_high_and_dots_sit_at_the_estimates():
    other = INTERVALS.head(1) - 0.1
    axis = certainty.draw_intervals({"one": INTERVALS, "other": other}).axes[0]
    spans = [[segment[:, 0].tolist() for segment in lines.get_segments()] for lines in axis.collections]
    assert spans[0] == [[0.7, 0.9], [0.85, 0.95]]
    assert spans[1] == [pytest.approx([0.6, 0.8])]
    dots = [line.get_xdata().tolist() for line in axis.lines if line.get_marker() == "o"]
    assert dots == [[0.8, 0.9], pytest.approx([0.7])]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["Accuracy", "Recall, monocyte"]


def test_a_series_that_lacks_a_score_leaves_its_place_empty():
    axis = certainty.draw_intervals({"all": INTERVALS, "some": INTERVALS.tail(1)}).axes[0]
    at = [segment[0, 1] for segment in axis.collections[1].get_segments()]
    assert len(at) == 1 and round(at[0]) == 1


def test_every_photo_is_a_dot_in_its_classs_row_with_its_share_as_area():
    axis = certainty.draw_strip(PHOTOS, {110, 5}).axes[0]
    assert len(axis.collections) == len(CLASSES)
    for row, (cell, dots) in enumerate(zip(CLASSES, axis.collections, strict=True)):
        own = PHOTOS[PHOTOS.cell == cell]
        assert sorted(dots.get_offsets()[:, 0]) == pytest.approx(sorted(own.right))
        assert (np.abs(dots.get_offsets()[:, 1] - row) < 0.5).all()
    areas = {cell: dots.get_sizes() for cell, dots in zip(CLASSES, axis.collections, strict=True)}
    assert areas["MONOCYTE"][0] == pytest.approx(5 * areas["NEUTROPHIL"][0])
    assert sorted(texts(axis.figure)) == ["110", "5"]


@given(st.lists(st.integers(0, 50), max_size=60), st.floats(0.02, 0.3))
def test_dots_of_a_row_stay_in_it_and_equal_ones_lie_apart(hundredths, width):
    values = np.sort(np.array(hundredths, float)) / 50
    offsets = certainty._fan(values, np.full(len(values), width))
    assert (np.abs(offsets) <= 0.44 + 1e-9).all()
    for value in np.unique(values):
        own = offsets[values == value]
        assert len(np.unique(own)) == len(own)
        if len(own) == len(values):
            assert own.mean() == pytest.approx(0, abs=1e-9)


def test_a_kind_of_variation_without_figures_has_no_bars():
    axis = certainty.draw_variation(VARIATION.assign(seeds=np.nan)).axes[0]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["images", "photos"]
    whole = certainty.draw_variation(VARIATION).axes[0]
    assert [bar.get_width() for bar in whole.patches] == [0.4, 1.0, 0.7, 1.3, 5.5, 3.1]
    # A kind keeps its colour whether the others are shown or not.
    assert axis.patches[-1].get_facecolor() == whole.patches[-1].get_facecolor()
    assert [label.get_text() for label in whole.get_yticklabels()] == ["Accuracy", "Macro-F1"]


def test_the_cell_beside_a_photo_is_what_its_box_holds():
    picture = PICTURE.copy()
    picture[10:20, 30:50] = 7
    figure = certainty.draw_photos_and_cells([("a", picture, (30, 10, 50, 20)), ("b", PICTURE, None)])
    whole, close, bare, empty = figure.axes
    np.testing.assert_array_equal(close.images[0].get_array(), picture[10:20, 30:50])
    assert whole.patches[0].get_bbox().bounds == (30, 10, 20, 10)
    assert bare.images and not bare.patches and not empty.images
    assert [axis.get_title(loc="left") for axis in (whole, bare)] == ["a", "b"]


def test_photos_that_are_not_here_are_said_not_to_be():
    assert "not on this machine" in texts(certainty.draw_photos_and_cells([]))[0]


def test_coverage_is_drawn_by_number_of_photos_beside_what_was_promised():
    table = pd.DataFrame({"images": [0.3, 0.4], "photos": [0.7, 0.9]}, index=pd.Index([4, 71], name="photos"))
    axis = certainty.draw_coverage(table, 0.95).axes[0]
    curves = {line.get_label(): list(line.get_ydata()) for line in axis.lines}
    assert curves["images"] == [0.3, 0.4] and curves["photos"] == [0.7, 0.9]
    assert [0.95, 0.95] in curves.values()
    assert [label.get_text() for label in axis.get_xticklabels()] == ["4", "71"]


@pytest.mark.parametrize(
    "figure",
    [
        lambda: certainty.draw_intervals({"one": INTERVALS, "other": INTERVALS}),
        lambda: certainty.draw_strip(PHOTOS),
        lambda: certainty.draw_strip(PHOTOS.tail(1), [120]),
        lambda: certainty.draw_variation(VARIATION),
        lambda: certainty.draw_photos_and_cells([("a", PICTURE, (1, 1, 9, 9))] * 3),
    ],
)
def test_figures_can_be_drawn_and_are_as_wide_as_the_text(figure):
    made = figure()
    assert made.get_size_inches()[0] == figures.WIDTH
    assert drawn(made).startswith(b"\x89PNG")
