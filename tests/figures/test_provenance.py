import io

import numpy as np
import pandas as pd
import pytest

from wbc_lib import figures
from wbc_lib.figures import provenance as draw
from wbc_lib.provenance import evidence, recipe

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 255, (48, 64, 3), dtype=np.uint8)
BOX = pd.DataFrame([(5, 6, 25, 30)], columns=["xmin", "ymin", "xmax", "ymax"])
NONE = BOX.iloc[:0]


def counted() -> pd.DataFrame:
    rows = []
    for split, images in (("TRAIN", 60), ("TEST", 20)):
        for cell, n_photos in (("NEUTROPHIL", 20), ("MONOCYTE", 1)):
            copies = recipe.simulate_copies(n_photos, images, 1, RNG)[0]
            rows.append((split, cell, n_photos, images, copies))
    return pd.DataFrame(rows, columns=["split", "cell", "photos", "images", "copies"]).set_index(["split", "cell"])


def rivals(n: int) -> pd.DataFrame:
    residual = RNG.uniform(1, 2, n)
    return pd.DataFrame({"residual": residual, "runner_up_residual": residual + 2})


def test_bars_and_line_both_count_every_photo():
    table = counted()
    figure = draw.draw_copies(table)
    shown = [axis for axis in figure.axes if axis.axison]
    assert len(shown) == len(table)
    for axis, (_, row) in zip(shown, table.iterrows(), strict=True):
        assert sum(bar.get_height() for bar in axis.patches) == row.photos
        assert axis.lines[0].get_ydata().sum() == pytest.approx(row.photos, rel=0.01)


def test_an_amplified_difference_is_of_the_two_pictures():
    again = PICTURE.astype(int)
    again[:, :32] = np.clip(again[:, :32] + 5, 0, 255)
    figure = draw.draw_reproductions([("a", PICTURE, again.astype(np.uint8))])
    shown = figure.axes[2].images[0].get_array()
    assert (shown[:, 32:] == 0).all()
    assert shown[:, :32].max() == pytest.approx(draw.AMPLIFIED * 5)


def test_each_pair_is_an_arc_from_photo_to_photo_in_the_colour_of_its_side():
    pairs = pd.DataFrame({"photo": [1, 20, 30], "other": [5, 50, 31], "same_cell": [True, False, True]})
    pairs["side"] = [evidence.SIDES[0], evidence.SIDES[2], evidence.SIDES[0]]
    figure = draw.draw_field_map(pairs)
    arcs = figure.axes[0].lines
    ends = [(line.get_xdata()[0], line.get_xdata()[-1]) for line in arcs]
    assert ends == [pytest.approx(pair) for pair in zip(pairs.photo, pairs.other, strict=True)]
    assert arcs[0].get_color() == arcs[2].get_color() != arcs[1].get_color()
    assert [line.get_linestyle() for line in arcs] == ["-", ":", "-"]
    counts = [text.get_text() for text in figure.legends[0].get_texts()][: len(evidence.SIDES)]
    assert counts == [f"{side} ({n})" for side, n in zip(evidence.SIDES, (2, 0, 1, 0), strict=True)]


def test_boxes_lie_on_their_photos():
    figure = draw.draw_twins([("a", PICTURE, BOX), ("b", PICTURE, NONE), ("c", PICTURE, BOX)])
    assert [len(axis.patches) for axis in figure.axes] == [1, 0, 1, 0]
    assert figure.axes[0].patches[0].get_bbox().extents.tolist() == [5, 6, 25, 30]


def test_even_draws_are_outlined_to_the_limits():
    axis = draw.draw_moves({"rotation": (RNG.uniform(-20, 20, 500), 20.0)}).axes[0]
    x, y = axis.lines[0].get_data()
    assert (min(x), max(x)) == (-20, 20)
    assert np.trapezoid(y, x) == pytest.approx(1)


def test_photos_that_no_runner_up_came_close_to_are_said_so():
    texts = [text.get_text() for text in draw.draw_residuals([1, 2], rivals(0)).axes[1].texts]
    assert texts == ["no image with a close runner-up"]


@pytest.mark.parametrize(
    "figure",
    [
        lambda: draw.draw_places({"NEUTROPHIL": ([0, 1, 2], [2, 0, 1]), "MONOCYTE": ([0], [0])}),
        lambda: draw.draw_copies(counted()),
        lambda: draw.draw_unnoticed({1: 0.7, 2: 0.5, 3: 0.3}),
        lambda: draw.draw_moves({k: (RNG.uniform(-1, 1, 99), 1.0) for k in "abcd"}),
        lambda: draw.draw_residuals(RNG.uniform(1, 2, 99), rivals(9)),
        lambda: draw.draw_reproductions([("a", PICTURE, PICTURE)] * 2),
        lambda: draw.draw_confidence(RNG.uniform(0.5, 1, 99), np.zeros(9)),
        lambda: draw.draw_field_map(pd.DataFrame({"photo": [], "other": [], "side": [], "same_cell": []})),
        lambda: draw.draw_twins([]),
        lambda: draw.draw_twins([("a", PICTURE, BOX)] * 6, columns=4),
    ],
)
def test_figures_can_be_drawn_and_are_as_wide_as_the_text(figure):
    made = figure()
    assert made.get_size_inches()[0] == figures.WIDTH
    buffer = io.BytesIO()
    made.savefig(buffer, format="png")
    assert buffer.getvalue().startswith(b"\x89PNG")
