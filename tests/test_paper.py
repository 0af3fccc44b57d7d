import numpy as np

from wbc_lib import metrics, paper


def test_the_papers_report_follows_from_its_matrix():
    computed = metrics.report(paper.FIGURE_3_MATRIX)
    columns = ["precision", "recall", "f1"]
    np.testing.assert_array_equal(computed[columns].round(2), paper.FIGURE_3_REPORT[columns])
    np.testing.assert_array_equal(computed.support, paper.FIGURE_3_REPORT.support)
    assert round(metrics.accuracy(paper.FIGURE_3_MATRIX), 2) == paper.REPORTED["final"].test


def test_the_layers_of_figure_1_add_up():
    assert paper.FIGURE_1.parameters.sum() == paper.REPORTED["final"].parameters


def test_the_text_contradicts_the_matrix_about_eosinophils():
    assert paper.FIGURE_3_MATRIX[1].sum() != paper.TEXT_EOSINOPHILS
