import numpy as np

from wbc_lib.bench_figures import draw_growth, draw_shares
from wbc_lib.turns import Series


def line(name, exponent, sizes=(10.0, 100.0, 1000.0)):
    return [
        Series(name, "seconds", size, (size**exponent, 1.1 * size**exponent, 0.9 * size**exponent)) for size in sizes
    ]


def test_growth_has_a_line_per_contender_through_the_medians_with_its_exponent():
    panels = {"images": {"ours": line("ours", 0.5), "theirs": line("theirs", 1.0), "absent": []}}
    (axis,) = draw_growth(panels, {"images": "seconds"}).axes
    assert axis.get_xscale() == axis.get_yscale() == "log"
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert labels == ["ours: exponent 0.50", "theirs: exponent 1.00"]
    joined = [one for one in axis.lines if len(set(one.get_xdata())) > 1]
    assert np.allclose(joined[0].get_ydata(), np.sqrt([10, 100, 1000]))
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("images", "seconds")
    dots = [one for one in axis.lines if len(set(one.get_xdata())) == 1]
    assert sum(len(one.get_ydata()) for one in dots) == 18


def test_one_size_has_no_exponent_to_show():
    (axis,) = draw_growth({"images": {"ours": line("ours", 1, (5.0,))}}, {"images": "seconds"}).axes
    assert axis.get_legend().get_texts()[0].get_text() == "ours"


def test_what_is_not_measured_says_so():
    for figure in (
        draw_growth({"images": {"ours": []}}, {"images": "s"}),
        draw_growth({"images": {}}, {}),
        draw_shares({}),
    ):
        assert figure.axes[0].texts[0].get_text() == "This is not measured yet."


def test_shares_have_a_bar_each_in_the_order_given():
    (axis,) = draw_shares({"convolutions, forward": 0.7, "pooling": 0.3}).axes
    assert [bar.get_width() for bar in axis.patches] == [0.7, 0.3]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["convolutions, forward", "pooling"]
    assert {text.get_text() for text in axis.texts} == {"70%", "30%"}
    assert axis.patches[0].get_facecolor() != axis.patches[1].get_facecolor()
