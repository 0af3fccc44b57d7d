import numpy as np

from wbc_lib.training import paper


def test_the_papers_report_follows_from_its_matrix():
    matrix = paper.FIGURE_3_MATRIX
    right = np.diag(matrix)
    precision, recall = right / matrix.sum(axis=0), right / matrix.sum(axis=1)
    computed = {"precision": precision, "recall": recall, "f1": 2 * precision * recall / (precision + recall)}
    # Every one of the twelve printed scores is the computed one, rounded: there is no exception to document.
    for column, values in computed.items():
        assert paper.FIGURE_3_REPORT[column].tolist() == [round(float(v), 2) for v in values]
    assert paper.FIGURE_3_REPORT.support.tolist() == matrix.sum(axis=1).tolist()
    assert round(right.sum() / matrix.sum(), 2) == paper.REPORTED["final"].test == 0.84
    assert matrix.sum() == 2487


def test_the_layers_of_figure_1_add_up():
    assert paper.FIGURE_1.parameters.sum() == paper.REPORTED["final"].parameters == 423_237
