import numpy as np
import pandas as pd
import pytest

from wbc_lib.figures import data

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
