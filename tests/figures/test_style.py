import io
from base64 import b64decode

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image, ImageColor

from wbc_lib import figures
from wbc_lib.data.dataset import CLASSES

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 255, (60, 80, 3), dtype=np.uint8)
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


def summary() -> pd.DataFrame:
    columns = ["training", "validation", "test", "new_photo", "paper_training", "paper_validation", "paper_test"]
    return pd.DataFrame([[0.9, 0.8, 0.7, 0.6, 0.95, 0.9, np.nan], [np.nan] * 7], ["A", "B"], columns, dtype=float)


def texts(figure: Figure) -> set[str]:
    return {t.get_text() for axis in figure.axes for t in axis.texts}


def drawn(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def test_an_experiment_without_runs_is_marked_and_has_no_dots():
    figure = figures.draw_summary(summary())
    assert "not run here" in texts(figure)
    measured = [line.get_xdata() for line in figure.axes[0].lines if "measured" in str(line.get_label())]
    assert all(np.isnan(x[1]) and not np.isnan(x[0]) for x in measured)


def test_new_photos_are_shown_where_there_are_figures_for_them():
    lines = {line.get_label(): line.get_xdata() for line in figures.draw_summary(summary()).axes[0].lines}
    assert lines["new photo, measured"][0] == 0.6
    without = figures.draw_summary(summary().assign(new_photo=np.nan)).axes[0].lines
    assert "new photo, measured" not in {line.get_label() for line in without}


def test_a_matrix_shows_counts_and_shares_of_the_true_class():
    figure = figures.draw_confusion({"ours": MATRIX})
    assert "5\n83%" in texts(figure)
    assert "4\n67%" in texts(figure)


@pytest.mark.parametrize("extra, columns", [(0, 4), (2, 5)])
def test_the_class_that_is_none_appears_only_when_predicted(extra, columns):
    matrix = MATRIX.copy()
    matrix[0, 4] = extra
    axis = figures.draw_confusion({"ours": matrix}).axes[0]
    assert len(axis.get_xticks()) == columns


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
    assert "recorded" in texts(figures.draw_missing("not recorded")).pop()


def test_every_class_has_a_colour_of_its_own():
    assert set(figures.CLASS_COLOURS) == set(CLASSES)
    assert len(set(figures.CLASS_COLOURS.values())) == len(CLASSES)


@pytest.mark.parametrize(
    "figure",
    [
        lambda: figures.draw_cells({c: [PICTURE] * n for n, c in enumerate(CLASSES, 1)}),
        lambda: figures.draw_photos(
            [("a", PICTURE, pd.DataFrame([("WBC", 1, 2, 30, 40)], columns=["cell", "xmin", "ymin", "xmax", "ymax"]))]
            * 3
        ),
        lambda: figures.draw_balance(pd.DataFrame({"raw": [3, 2, 1, 1], "augmented": [9] * 4}, index=list(CLASSES))),
        lambda: figures.draw_side_by_side({"a": PICTURE, "b": PICTURE}),
        lambda: figures.draw_histogram({"a": RNG.normal(size=99)}, "value"),
        lambda: figures.draw_multiples({f"e{i}": [HISTORY] for i in range(6)}),
    ],
)
def test_figures_can_be_drawn_and_are_as_wide_as_the_text(figure):
    made = figure()
    assert made.get_size_inches()[0] == figures.WIDTH
    assert drawn(made).startswith(b"\x89PNG")


def decoded(shown: tuple[str, dict[str, int]]) -> Image.Image:
    return Image.open(io.BytesIO(b64decode(shown[0])))


def test_a_figure_with_photos_is_shown_as_a_jpeg_and_any_other_as_a_png():
    pictures = [np.zeros((6, 8, 3), np.uint8)]
    photos, chart = figures.draw_cells({"NEUTROPHIL": pictures}), figures.draw_missing("nothing")
    assert figures.show_as_png(photos) is None and figures.show_as_jpeg(chart) is None
    assert decoded(figures.show_as_jpeg(photos)).format == "JPEG"
    assert decoded(figures.show_as_png(chart)).format == "PNG"


def test_a_figure_is_shown_at_half_its_pixels_and_keeps_its_colours():
    figure, axes = figures.new_figure(2)
    axes[0, 0].bar(range(4), range(1, 5), color=list(figures.CLASS_COLOURS.values()))
    encoded, size = figures.show_as_png(figure)
    picture = decoded((encoded, size))
    assert picture.size[0] // 2 == size["width"] and picture.size[1] // 2 == size["height"]
    shown = {colour for _, colour in picture.convert("RGB").getcolors(1 << 16)}
    assert {ImageColor.getrgb(colour) for colour in figures.CLASS_COLOURS.values()} | {(255, 255, 255)} <= shown
