import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection

from wbc_lib.attention.summary import Panel
from wbc_lib.data.dataset import CLASSES
from wbc_lib.figures import attention as attention_figures

PICTURE = np.full((24, 32, 3), 200, np.uint8)
CORNERS = np.array([[[2.0, 3], [9, 3], [9, 12], [2, 12]]])
COVERS = ("unchanged", "background covered", "cell covered", "only the cell left")


def test_a_picture_is_as_bright_as_attention_is_strong_and_has_its_box():
    attention = np.zeros((6, 8))
    attention[3, 4] = 1
    figure = attention_figures.draw_panels(
        [Panel("plain", PICTURE, CORNERS), Panel("map", PICTURE, CORNERS, attention)], 2
    )
    plain, veiled = figure.axes
    assert (len(plain.images), len(veiled.images)) == (1, 2)
    veil = veiled.images[1].get_array()
    assert veil[3, 4, 3] == 0 and veil[0, 0, 3] == pytest.approx(1 - attention_figures._DIM)
    assert (veil[..., :3] == 0).all()
    assert veiled.images[1].get_extent() == veiled.images[0].get_extent()
    np.testing.assert_array_equal(veiled.patches[0].get_xy()[:4], CORNERS[0])
    empty = attention_figures.draw_panels([None, Panel("a", PICTURE), Panel("b", PICTURE)], 2)
    assert [len(axis.images) for axis in empty.axes] == [0, 1, 1, 0]


def test_every_photo_is_a_dot_in_the_row_of_its_kind():
    kinds = pd.MultiIndex.from_product([CLASSES, ["right", "wrong"]], names=["cell", "kind"])[:-1]
    table = pd.DataFrame({"share": 0.7, "low": 0.6, "high": 0.8, "even": 0.15}, kinds)
    photos = pd.DataFrame({"cell": ["NEUTROPHIL"] * 3 + ["MONOCYTE"], "is_right": [True, True, False, False]})
    axis = attention_figures.draw_shares(photos.assign(share=[0.9, 0.8, 0.3, 0.5]), table).axes[0]
    dots = {}
    for collection in axis.collections:
        if isinstance(collection, PathCollection) and len(offsets := collection.get_offsets()):
            dots[round(float(np.mean(offsets[:, 1])))] = sorted(offsets[:, 0].tolist())
    assert dots[0] == [0.8, 0.9] and dots[1] == [0.3] and dots[5] == [0.5]
    diamonds = [line.get_ydata()[0] for line in axis.lines if line.get_marker() == "D" and len(line.get_ydata())]
    assert [round(y) for y in diamonds] == [0]  # one photo has no mean to be told from it
    assert [t.get_text() for t in axis.texts] == ["none"]


def test_bars_have_the_length_of_the_accuracy_and_carry_their_interval():
    index = pd.MultiIndex.from_product([[*CLASSES, "all classes"], COVERS], names=["cell", "cover"])
    accuracy = np.linspace(0.05, 0.95, len(index))
    table = pd.DataFrame({"accuracy": accuracy, "low": accuracy - 0.05, "high": accuracy + 0.05}, index)
    figure = attention_figures.draw_covered({"own colour": table, "grey": 1 - table[["accuracy", "high", "low"]]}, 0.25)
    left, right = figure.axes
    widths = [[bar.get_width() for bar in container] for container in left.containers]
    for i, cover in enumerate(COVERS):
        np.testing.assert_allclose(widths[i], table.xs(cover, level="cover").accuracy)
        spans = [segment[:, 0].tolist() for segment in left.collections[i].get_segments()]
        np.testing.assert_allclose(spans, table.xs(cover, level="cover")[["low", "high"]])
    np.testing.assert_allclose(right.containers[0][0].get_width(), 1 - table.accuracy.iloc[0])
    assert any(line.get_xdata()[0] == 0.25 for line in left.lines)
