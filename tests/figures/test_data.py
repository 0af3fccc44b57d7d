import numpy as np
import pandas as pd
import pytest

from wbc_lib.figures import data
from wbc_lib.provenance import evidence, recipe

PICTURE = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
BOX = pd.DataFrame([(5, 6, 25, 30)], columns=["xmin", "ymin", "xmax", "ymax"])


def test_an_amplified_difference_is_of_the_two_pictures():
    again = PICTURE.astype(int)
    again[:, :32] = np.clip(again[:, :32] + 5, 0, 255)
    figure = data.draw_reproductions([("a", PICTURE, again.astype(np.uint8))])
    shown = figure.axes[2].images[0].get_array()
    assert (shown[:, 32:] == 0).all()
    assert shown[:, :32].max() == pytest.approx(data.AMPLIFIED * 5)


def test_boxes_lie_on_their_photos_and_their_kinds_are_told_apart_where_there_are_several():
    figure = data.draw_photos([("a", PICTURE, BOX), ("b", PICTURE, BOX.iloc[:0]), ("c", PICTURE, BOX)])
    assert [len(axis.patches) for axis in figure.axes] == [1, 0, 1, 0]
    assert figure.axes[0].patches[0].get_bbox().extents.tolist() == [5, 6, 25, 30]
    assert not figure.legends
    figure = data.draw_photos([("a", PICTURE, pd.concat([BOX.assign(cell="WBC"), BOX.assign(cell="RBC")]))])
    colours = [patch.get_edgecolor() for patch in figure.axes[0].patches]
    entries = zip(figure.legends[0].get_texts(), figure.legends[0].legend_handles, strict=True)
    legend = {text.get_text(): handle.get_edgecolor() for text, handle in entries}
    assert colours == [legend["WBC"], legend["RBC"]] and colours[0] != colours[1]


@pytest.mark.parametrize(("validation", "widths"), [(20, [70, 20, 10]), (0, [70, 10])])
def test_parts_are_as_wide_as_they_are_large(validation, widths):
    axis = data.draw_parts({"images": (70, validation, 10)}).axes[0]
    assert [bar.get_width() for bar in axis.patches] == widths
    assert axis.get_xlim() == (0, sum(widths))


def test_bars_and_line_both_count_every_photo():
    rows, rng = [], np.random.default_rng(0)
    for split, images in (("TRAIN", 60), ("TEST", 20)):
        for cell, n_photos in (("NEUTROPHIL", 20), ("MONOCYTE", 1)):
            copies = recipe.simulate_copies(n_photos, images, 1, rng)[0]
            rows.append((split, cell, n_photos, images, copies))
    table = pd.DataFrame(rows, columns=["split", "cell", "photos", "images", "copies"]).set_index(["split", "cell"])
    shown = [axis for axis in data.draw_copies(table).axes if axis.axison]
    assert len(shown) == len(table)
    for axis, (_, row) in zip(shown, table.iterrows(), strict=True):
        assert sum(bar.get_height() for bar in axis.patches) == row.photos
        assert axis.lines[0].get_ydata().sum() == pytest.approx(row.photos, rel=0.01)


def test_each_pair_is_an_arc_from_photo_to_photo_in_the_colour_of_its_side():
    pairs = pd.DataFrame({"photo": [1, 20, 30], "other": [5, 50, 31], "same_cell": [True, False, True]})
    pairs["side"] = [evidence.SIDES[0], evidence.SIDES[2], evidence.SIDES[0]]
    figure = data.draw_field_map(pairs)
    arcs = figure.axes[0].lines
    ends = [(line.get_xdata()[0], line.get_xdata()[-1]) for line in arcs]
    assert ends == [pytest.approx(pair) for pair in zip(pairs.photo, pairs.other, strict=True)]
    assert arcs[0].get_color() == arcs[2].get_color() != arcs[1].get_color()
    assert [line.get_linestyle() for line in arcs] == ["-", ":", "-"]
    counts = [text.get_text() for text in figure.legends[0].get_texts()][: len(evidence.SIDES)]
    assert counts == [f"{side} ({n})" for side, n in zip(evidence.SIDES, (2, 0, 1, 0), strict=True)]
