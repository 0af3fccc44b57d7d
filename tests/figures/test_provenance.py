import numpy as np
import pandas as pd
import pytest

from wbc_lib.figures import provenance as draw
from wbc_lib.provenance import evidence, recipe

RNG = np.random.default_rng(0)


def test_bars_and_line_both_count_every_photo():
    rows = []
    for split, images in (("TRAIN", 60), ("TEST", 20)):
        for cell, n_photos in (("NEUTROPHIL", 20), ("MONOCYTE", 1)):
            copies = recipe.simulate_copies(n_photos, images, 1, RNG)[0]
            rows.append((split, cell, n_photos, images, copies))
    table = pd.DataFrame(rows, columns=["split", "cell", "photos", "images", "copies"]).set_index(["split", "cell"])
    shown = [axis for axis in draw.draw_copies(table).axes if axis.axison]
    assert len(shown) == len(table)
    for axis, (_, row) in zip(shown, table.iterrows(), strict=True):
        assert sum(bar.get_height() for bar in axis.patches) == row.photos
        assert axis.lines[0].get_ydata().sum() == pytest.approx(row.photos, rel=0.01)


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
