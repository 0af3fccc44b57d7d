"""The paper's claims."""

import numpy as np
import pandas as pd
import pytest

from wbc_lib import paths
from wbc_lib.evaluation import claims, paper_claims
from wbc_lib.evaluation.claims import Claim
from wbc_lib.evaluation.comparison import PhotoScores
from wbc_lib.evaluation.paper_claims import Evidence
from wbc_lib.training import paper
from wbc_lib.training.experiments import EXPERIMENTS


class FakeRun:
    """What a claim reads of a run."""

    epochs = 10

    def __init__(self, seed: int, validation: float, training: float = 0.9, parameters: int = 1):
        self.seed, self.record = seed, {"parameters": parameters}
        epochs = np.arange(1, 11)
        columns = {"accuracy": training, "val_accuracy": validation, "loss": 1.0, "val_loss": 1.0}
        self.history = pd.DataFrame({"epoch": epochs} | columns)

    def labels(self, part):
        return np.array([1, 2, 3, 4])

    def predicted(self, part):
        return np.array([1, 2, 3, 3])

    def accuracy(self, part):
        return 0.75


def collect(runs: dict) -> list[Claim]:
    return paper_claims.collect(Evidence(runs, {}))


def find(found: list[Claim], experiment: str, text: str) -> Claim:
    return next(c for c in found if c.experiment == EXPERIMENTS[experiment].title and text in c.text)


def test_comparisons_pair_runs_of_the_same_seed():
    runs = {
        "overfitting": [FakeRun(0, 0.80), FakeRun(1, 0.95)],
        "dropout-0.2": [FakeRun(0, 0.70), FakeRun(1, 0.70)],
        "dropout-0.4": [FakeRun(0, 0.70), FakeRun(1, 0.70)],
        "reduced": [FakeRun(1, 0.90), FakeRun(0, 0.90)],
    }
    claim = find(collect(runs), "reduced", "highest validation")
    assert list(claim.measured) == [True, False]
    assert claim.verdict(is_cut=False) == claims.DIFFERS


def test_counts_must_agree_to_the_digit_even_when_epochs_are_cut():
    found = collect({"final": [FakeRun(0, 0.9, parameters=423_237)], "reduced": [FakeRun(0, 0.9, parameters=759_238)]})
    assert find(found, "final", "parameters").verdict(is_cut=True) == claims.REPRODUCED
    assert find(found, "reduced", "parameters").verdict(is_cut=True) == claims.DIFFERS


def test_every_figure_that_the_paper_reports_has_a_claim():
    found, questions = collect({}), paper_claims.ask(Evidence({}, {}))
    reported = sum(
        value is not None for r in paper.REPORTED.values() for value in (r.training, r.validation, r.test, r.parameters)
    )
    # ... the drop to the hold-out set, supports; three scores of four classes, what is off the diagonal
    assert sum(c.kind in ("accuracy", "count") for c in found) == reported + 1 + 4
    assert sum(c.kind == "score" for c in found) == 12 + 12
    assert len({(c.experiment, c.text) for c in found + questions}) == len(found + questions)
    assert {c.kind for c in found + questions} == set(claims.RULES)
    assert all(c.verdict(is_cut=False) in (claims.NOT_RUN, claims.UNTESTED) for c in found + questions)


@pytest.mark.parametrize(("recognised", "verdict"), [(0, claims.DIFFERS), (3, claims.DIFFERS), (30, claims.REPRODUCED)])
def test_photos_are_learnt_if_mean_recall_lies_above_chance_and_not_all_get_one_class(recognised, verdict):
    run = FakeRun(0, 0.9)
    run.labels = lambda part: np.repeat([1, 2, 3, 4], 30)
    answers = np.ones(120, int)
    answers[30 : 30 + recognised] = 2
    run.predicted = lambda part: answers
    claim = paper_claims.ask(Evidence({"raw-imbalanced+weighted": [run]}, {}))[0]
    assert claim.shown.startswith(f"mean recall {(30 + recognised) / 120:.1%}")
    assert claim.verdict(is_cut=True) == verdict


def test_every_claim_leads_to_a_page_of_the_book():
    assert {claim.chapter for claim in collect({}) + paper_claims.ask(Evidence({}, {}))} <= {
        path.stem for path in paths.BOOK.glob("*.ipynb")
    }


def test_the_summary_leaves_out_what_is_scored_on_other_images_and_keeps_what_was_not_run():
    table = paper_claims.summarise({"final": [FakeRun(0, 0.9), FakeRun(1, 0.8)]})
    assert not {"Raw photos, imbalanced", "The Kaggle kernel's settings"} & set(table.index)
    assert table.loc["Final model", "validation"] == pytest.approx(0.85)
    assert table.loc["Baseline CNN"][["training", "validation", "test"]].isna().all()
    assert table.loc["Baseline CNN", "paper_validation"] == paper.REPORTED["baseline"].validation


def test_the_papers_own_predictions_would_reproduce_figure_3_cell_by_cell():
    matrix = paper.FIGURE_3_MATRIX
    run = FakeRun(0, 0.9)
    run.labels = lambda part: np.repeat(np.repeat([1, 2, 3, 4], 4), matrix.ravel())
    run.predicted = lambda part: np.repeat(np.tile([1, 2, 3, 4], 4), matrix.ravel())
    run.accuracy = lambda part: float((run.labels(part) == run.predicted(part)).mean())
    cells = [c for c in collect({"final": [run]}) if c.text.startswith("hold-out") and c.kind != "accuracy"]
    assert len(cells) == 12 + 12 + 4
    # The paper prints two digits of its scores.
    assert all(abs(c.measured[0] - c.reported) < 0.006 for c in cells if c.kind == "score")
    assert all(c.measured[0] == c.reported for c in cells if c.kind == "count")


def scored(copies, **of_seeds):
    """Evidence of how many of ten copies of each photo are right, by experiment and seed; photo 110 is the last one."""
    photos = np.array([*range(len(copies) - 1), 110])
    labels = np.arange(len(photos)) * 4 // len(photos) + 1
    return Evidence({}, {
        name.replace("_", "-"): {
            seed: PhotoScores(photos, labels, photos, copies, np.array(right, float), np.array(right) / copies)
            for seed, right in of.items()
        }
        for name, of in of_seeds.items()
    })  # fmt: skip


def test_on_test_networks_are_compared_with_and_without_the_doubtful_photo():
    evidence = scored(np.full(6, 10), overfitting={0: [5] * 6}, final={0: [5, 5, 5, 5, 5, 10]})
    table = paper_claims.tabulate_on_test(evidence, ["overfitting", "reduced", "final"], "overfitting")
    assert list(table.index) == ["overfitting", "final"]
    assert table.by_image["final"].estimate == pytest.approx(100 * 5 / 60)
    assert table.without_110["final"].estimate == 0
    assert pd.isna(table.by_image["overfitting"])


def test_on_test_networks_are_compared_over_the_seeds_that_both_have():
    evidence = scored(np.full(4, 10), final={0: [5] * 4, 1: [10] * 4}, reduced={0: [2.5] * 4}, overfitting={1: [4] * 4})
    assert evidence.photos["final"].by_image == 0.75
    found = evidence.compare("final", "reduced")
    assert found.by_image.estimate == found.by_photo.estimate == 25
    assert evidence.compare("final", "overfitting").by_image.estimate == pytest.approx(60)
    assert evidence.compare("reduced", "overfitting") is None
    assert evidence.compare("final", "baseline") is None
