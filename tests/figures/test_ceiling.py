import numpy as np
import pandas as pd
import pytest

from wbc_lib.figures import ceiling


def test_noise_has_a_bar_for_each_smear_and_class_that_is_there():
    rows = [(s, c) for s in ("All", "1", "2") for c in ("All", "NEUTROPHIL")]
    table = pd.DataFrame(
        {"photos": 9, "estimate": np.linspace(0.05, 0.3, 6), "low": 0.0, "high": np.linspace(0.1, 0.4, 6)},
        index=pd.MultiIndex.from_tuples(rows, names=["smear", "cell"]),
    )
    table.loc[("2", "NEUTROPHIL"), ["estimate", "low", "high"]] = np.nan
    axis = ceiling.draw_noise(table).axes[0]
    assert [len(lines.get_segments()) for lines in axis.collections] == [2, 2, 1]
    assert axis.lines[0].get_xdata().tolist() == pytest.approx([0.05, 0.1])
    assert [t.get_text() for t in axis.get_yticklabels()] == ["All", "Neutrophil"]
    assert [lines.get_label() for lines in axis.collections] == ["all photos", "smear 1", "smear 2"]
    assert axis.get_xlim()[1] < 0.5


def test_each_curve_is_the_mean_over_neighbours_and_each_photo_is_in_its_smears_row():
    numbers = np.arange(0, 40, 2)
    right = pd.Series(np.r_[np.zeros(10), np.ones(10)], numbers)
    smears = pd.Series(np.repeat([1, 2], [12, 8]), numbers)
    curves, strip = ceiling.draw_along_numbers({"one": right[::-1]}, smears, window=5).axes
    np.testing.assert_allclose(curves.lines[0].get_xdata(), numbers)
    np.testing.assert_allclose(curves.lines[0].get_ydata()[7:13], [0, 0.2, 0.4, 0.6, 0.8, 1])
    assert [len(line.get_xdata()) for line in strip.lines] == [12, 8]
    assert [t.get_text() for t in strip.get_yticklabels()] == ["smear 1", "smear 2"]
