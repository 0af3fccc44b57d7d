import numpy as np
import pandas as pd
import pytest

from tests.test_capacity import BASIS
from tests.test_scaling import made_record
from wbc_lib import capacity, capacity_figures
from wbc_lib.capacity import estimate
from wbc_lib.scaling import PARTS


def test_time_falls_with_workers_to_one_run_and_never_below_the_ideal():
    figure = capacity_figures.draw_time(15_000, BASIS, (1, 256))
    (axis,) = figure.axes
    lines = {line.get_label(): line.get_xydata() for line in axis.lines if len(line.get_xdata()) > 2}
    ideal, real = (next(xy for label, xy in lines.items() if word in label) for word in ("ideal", "whole runs"))
    assert (real[:, 1] > ideal[:, 1]).all() and (np.diff(real[:, 1]) <= 0).all()
    assert real[0].tolist() == [1, pytest.approx(15_000 * BASIS.seconds)]
    assert real[-1, 1] == BASIS.seconds
    dots = [tuple(line.get_xydata()[0]) for line in axis.lines if len(line.get_xdata()) == 1]
    assert dots == [(n, estimate(15_000, BASIS.seconds, n).wall) for n in (1, 256)]
    assert [text.get_text() for text in axis.texts] == ["1 worker: 123 days", "256 workers: 11.6 hours"]
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
    low, high = axis.get_ylim()
    assert low < BASIS.seconds and real[0, 1] < high
    figure.canvas.draw()


@pytest.mark.parametrize("runs", [1, 7, 300])
def test_small_studies_and_short_runs_are_drawn_as_well(runs):
    tiny = capacity.Basis(2, 0.8, 0.5, 1.2, 0.0, 1e4, float("nan"))
    capacity_figures.draw_time(runs, tiny, (1, 16)).canvas.draw()


@pytest.mark.parametrize("with_photos", [True, False])
def test_every_part_has_its_bar_in_the_colour_of_where_it_was_measured(with_photos):
    table = capacity.tabulate_overhead(made_record(with_photos=with_photos), 50)
    figure = capacity_figures.draw_overhead(table, 700.0)
    whole, parts = figure.axes
    assert [bar.get_width() for bar in whole.patches] == pytest.approx([700, table.middle.sum()])
    assert [bar.get_width() for bar in parts.patches] == table.middle.tolist()
    assert [label.get_text() for label in parts.get_yticklabels()] == list(PARTS.values())
    assert len({bar.get_facecolor() for bar in parts.patches}) == 1 + with_photos
    assert (parts.get_legend() is not None) == with_photos
    segments = np.array(parts.collections[0].get_segments())
    pd.testing.assert_series_equal(pd.Series(segments[:, 0, 0], table.index), table.low, check_names=False)
    assert parts.get_ylim()[0] > parts.get_ylim()[1]
    figure.canvas.draw()
