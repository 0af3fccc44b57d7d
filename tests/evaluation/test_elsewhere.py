import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from wbc_lib.data.dataset import CLASSES, LABELS
from wbc_lib.evaluation import elsewhere


def answers(cells, predicted, sureness=5.0, unlike=0.5):
    """A table in which each seed gives these classes (names, "" for none)."""
    table = pd.DataFrame({"cell": cells, "unlike": unlike})
    for seed, said in enumerate(predicted):
        for i, cell in enumerate(("", *CLASSES)):
            table[f"s{seed}_logit_{i}"] = np.where(np.array(said) == cell, sureness, 0.0)
    return table


@pytest.fixture
def random():
    rng = np.random.default_rng(0)
    cells = rng.choice([*CLASSES, ""], 300, p=[0.5, 0.2, 0.1, 0.1, 0.1])
    said = [np.where(rng.random(300) < 0.6, np.where(cells == "", CLASSES[0], cells), CLASSES[1]) for _ in range(2)]
    return answers(cells, said)


def test_scores_are_means_over_seeds_of_the_pictures_of_our_classes(random):
    found = elsewhere.summarise(random)
    known = random[random.cell != ""]
    said = [np.array(["", *CLASSES])[known[[f"s{s}_logit_{i}" for i in range(5)]].to_numpy().argmax(1)] for s in (0, 1)]
    assert found.pictures == len(known)
    assert found.accuracy.estimate == pytest.approx(np.mean([(s == known.cell).mean() for s in said]))
    assert found.balanced.estimate == pytest.approx(np.mean([balanced_accuracy_score(known.cell, s) for s in said]))
    assert found.balanced.low < found.balanced.estimate < found.balanced.high
    assert elsewhere.confusion(random).sum() == len(known)
    assert found.confidence == pytest.approx(np.exp(5) / (np.exp(5) + 4))
    assert 0 <= found.error - abs(found.confidence - found.accuracy.estimate) < 0.05  # no less, by the triangle
    assert (found.sure, elsewhere.summarise(answers(["MONOCYTE"], [["MONOCYTE"]], 9)).sure) == (0, 1)


def test_what_is_refused_is_counted_and_the_rest_is_scored():
    table = answers(["MONOCYTE", "MONOCYTE", "", "LYMPHOCYTE"], [["MONOCYTE"] * 4])
    tables = {"some": table.assign(refused=["", elsewhere.COLOURS, "", ""]), "all": table.assign(refused="colours")}
    found = elsewhere.tabulate_refusals(tables)
    assert found.answered.tolist() == [2, 0] and found.pictures.tolist() == [4, 4]
    assert found.right["some"].estimate == 0.5 and np.isnan(found.right["all"].estimate)
    assert found.refused["some"].estimate == 0.25
    assert found.refused["all"].estimate == 1 and 0.3 < found.refused["all"].low < 0.5


def test_energy_is_high_where_nothing_speaks_for_any_class():
    sure, unsure = answers(["MONOCYTE"], [["MONOCYTE"]], 9), answers(["MONOCYTE"], [["MONOCYTE"]], 0)
    assert elsewhere.energy(unsure)[0] == pytest.approx(-np.log(5))
    assert elsewhere.energy(sure)[0] == pytest.approx(-np.log(np.exp(9) + 4))


def test_each_change_is_scored_by_itself():
    kept, lost = (answers([*CLASSES] * 3, [said * 3]) for said in ([*CLASSES], [CLASSES[0]] * 4))
    columns = {"change": "scale", "towards": "", "amount": 1.0}
    found = elsewhere.score_changes(pd.concat([kept.assign(**columns), lost.assign(**columns | {"amount": 2.0})]))
    assert found[["change", "amount", "estimate"]].to_numpy().tolist() == [["scale", 1.0, 1.0], ["scale", 2.0, 0.25]]


def test_auroc_is_that_of_scikit_learn():
    rng = np.random.default_rng(1)
    unlike, usual = rng.normal(1, 1, 60).round(1), rng.normal(0, 1, 30).round(1)
    expected = roc_auc_score([1] * 60 + [0] * 30, np.concatenate([unlike, usual]))
    found = elsewhere.auroc(unlike, usual)
    assert found.estimate == pytest.approx(expected)
    assert found.low < expected < found.high


def test_scores_are_compared_set_by_set(random):
    tables = {"ours": random, "far": random.assign(unlike=9.0), "same": random}
    found = elsewhere.compare_scores(
        tables, "ours", {"colours": lambda t: t.unlike.to_numpy(), "doubt": elsewhere.doubt}
    )
    assert found.loc["colours", "far"].estimate == 1
    assert found.loc["colours", "same"].estimate == found.loc["doubt", "far"].estimate == 0.5


def test_the_border_tells_a_class_only_where_its_colour_does():
    rng = np.random.default_rng(0)
    cells = [CLASSES[i % 4] for i in range(200)]

    def picture(tint):
        out = rng.integers(100, 200, (60, 80, 3))
        out[20:40, 30:50] = 255
        return np.clip(out + tint, 0, 255).astype(np.uint8)

    fair = np.stack([elsewhere.border_numbers(picture(0)) for _ in cells])
    leaking = np.stack([elsewhere.border_numbers(picture(np.array([8, 0, -8]) * LABELS[cell])) for cell in cells])
    groups = np.arange(200)
    chance = elsewhere.accuracy_of_border(fair, cells, groups)
    assert chance.low < 0.25 < chance.high
    assert elsewhere.accuracy_of_border(leaking, cells, groups).low > 0.9
    # Copies of a picture, with one class each, tell nothing of others.
    copies = elsewhere.accuracy_of_border(
        np.repeat(fair[:20], 4, axis=0), np.repeat(cells[:20], 4), np.repeat(groups[:20], 4)
    )
    assert copies.estimate < 0.6


def test_the_middle_of_a_picture_does_not_count():
    picture = np.full((100, 100, 3), 180, np.uint8)
    painted = picture.copy()
    painted[4:-4, 4:-4] = (250, 0, 0)
    assert np.array_equal(elsewhere.border_numbers(picture), elsewhere.border_numbers(painted))
    painted[:4] = (250, 0, 0)
    assert not np.array_equal(elsewhere.border_numbers(picture), elsewhere.border_numbers(painted))
