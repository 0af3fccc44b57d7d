"""Submissions: what is read from a file, what is refused, and in which words of which row."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wbc_lib import paths
from wbc_lib.data.dataset import CLASSES, LABELS
from wbc_lib.data.splits import read_splits
from wbc_lib.errors import PlaceError, SubmissionError, UnknownNameError
from wbc_lib.evaluation import comparison, submission, submission_report
from wbc_lib.evaluation.submission_report import report, score
from wbc_lib.training.runs import Store

RECORDED = Store(paths.ROOT / "results")


@pytest.fixture(scope="module")
def run():
    return RECORDED.read_all("final-e50-s0")[0]


@pytest.fixture
def small():
    """Splits of eight images of TEST: two copies of a photo of each class."""
    table = read_splits()
    test = table[table.split == "TEST"]
    chosen = test[test.photo.isin(test.groupby("class").photo.first())].groupby("photo").head(2)
    # Of one name in two folders, as the published set has them.
    double = test[test.image.str.contains(r"EOSINOPHIL/_\d+_\d+")].iloc[:1]
    twin = double.assign(image=double.image.str.replace("EOSINOPHIL", "LYMPHOCYTE"), **{"class": "LYMPHOCYTE"})
    small = pd.concat([chosen, double, twin, table[table.split == "TRAIN"].head(1)], ignore_index=True)
    return small.drop_duplicates("image", ignore_index=True)


def hand_in(folder, table, splits):
    path = folder / "predictions.csv"
    table.to_csv(path, index=False)
    return submission.read(path, splits=splits)


def right_answers(splits, protocol="TEST"):
    part = splits[splits.split == protocol]
    return pd.DataFrame({"image": part.image, "predicted": part["class"]}).reset_index(drop=True)


def shares(splits):
    answers = right_answers(splits)
    columns = {name: np.where(answers.predicted == name, 0.7, 0.1) for name in CLASSES}
    return pd.DataFrame({"image": answers.image} | columns)


@pytest.mark.parametrize("form", ["probabilities", "labels", "npz"])
def test_a_recorded_run_handed_in_gets_exactly_its_recorded_accuracy(run, tmp_path, form):
    names, probabilities = run.names("test"), run.probabilities("test")
    order = np.random.default_rng(0).permutation(len(names))
    columns = ["none", *(name.capitalize() for name in CLASSES)]
    path = tmp_path / f"predictions.{'npz' if form == 'npz' else 'csv'}"
    if form == "npz":
        np.savez(path, image=names[order], probabilities=probabilities[order], classes=columns)
    elif form == "labels":
        named = np.array(columns)[probabilities.argmax(axis=1)]
        pd.DataFrame({"Predicted": named, "IMAGE": names}).iloc[order].to_csv(path, index=False)
    else:
        table = pd.DataFrame(probabilities, columns=columns).assign(image=[f"C:\\cells\\images\\{n}" for n in names])
        table.iloc[order, ::-1].to_csv(path, index=False, sep=";")
    found = score(submission.read(path))
    expected = comparison.score_photos([run], read_splits())
    assert found.by_image == run.accuracy("test")
    assert np.array_equal(found.right_copies, expected.right_copies)
    if form != "labels":  # of labels the copies vote
        assert np.array_equal(found.right, expected.right)


def test_the_report_gives_doubtful_photo_calibration_and_every_recorded_model(run, tmp_path):
    table = pd.DataFrame(run.probabilities("test"), columns=["none", *CLASSES]).assign(image=run.names("test"))
    table.to_csv(tmp_path / "p.csv", index=False)
    found = report(submission.read(tmp_path / "p.csv"))
    right, photos = run.predicted("test") == run.labels("test"), read_splits().set_index("image").photo
    is_other = photos.loc[run.names("test")].to_numpy() != 110
    accuracy = found.accuracy.set_index(["by", "photos"]).accuracy
    assert accuracy["image", "without photo 110"] == pytest.approx(right[is_other].mean())
    assert found.matrix.set_index("true class").to_numpy().trace() == right.sum()
    confidence = run.probabilities("test").max(axis=1).mean()
    assert found.calibration.confidence[0] == pytest.approx(confidence)
    assert found.calibration.gap[0] == pytest.approx(confidence - right.mean())
    against = found.comparison.set_index("model")
    assert against.image_accuracy["final"] == pytest.approx(
        np.mean([r.accuracy("test") for r in RECORDED.read_all("final-e50-")])
    )
    assert against.loc["final", ["epochs", "trainings"]].tolist() == [50, 3]
    assert against.image_verdict["baseline"] == comparison.BETTER
    assert against.image_verdict["final"] == comparison.NOT_TOLD_APART
    # The wider interval stands first.
    assert (found.accuracy.high - found.accuracy.low >= found.accuracy.other_high - found.accuracy.other_low).all()


def test_what_is_shipped_is_what_results_give(monkeypatch):
    monkeypatch.setenv("WBC_RESULTS", str(paths.ROOT / "results"))
    for path, text in submission_report.make_files().items():
        assert path.read_text() == text, "run `wbc data splits --record`"
        assert len(text) < 2_000_000


@pytest.mark.parametrize("repeat", [0, 1, 2])
def test_the_shipped_folds_are_those_that_recorded_networks_had_not_seen(repeat):
    table = read_splits()
    for fold in range(1, 6):
        [run] = RECORDED.read_all(f"final+fold-{fold}-e8-s{repeat}")
        held_back = table[(table[f"fold_s{repeat}"] == fold) & (table.split != "TEST_SIMPLE")]
        assert set(run.names("validation")) == set(held_back.image)
    assert (table.groupby("field")[f"fold_s{repeat}"].nunique() == 1).all()


def of_photos(splits):
    photos = splits.drop_duplicates("photo")
    names = [f"photos/BloodImage_{photo:05d}.jpg" for photo in photos.photo]
    return pd.DataFrame({"image": names, "predicted": photos["class"]})


@pytest.mark.parametrize(
    "make, protocol, pictures, photos",
    [
        (lambda s: right_answers(s, "TEST_SIMPLE"), "test-simple", 71, 69),
        (lambda s: right_answers(s.assign(split=s.split.replace("TRAIN", "TEST"))), "folds", 12_444, 348),
        (lambda s: of_photos(s[s.split != "TEST_SIMPLE"]), "folds", 348, 348),
    ],
    ids=["test-simple", "images", "photos"],
)
def test_the_other_protocols_have_their_pictures(tmp_path, make, protocol, pictures, photos):
    make(read_splits()).to_csv(tmp_path / "p.csv", index=False)
    found = report(submission.read(tmp_path / "p.csv", protocol, "s1"))
    assert (found.pictures, found.photos) == (pictures, photos)
    assert (found.accuracy.accuracy == 1).all()
    assert (found.accuracy[["low", "other_low"]] < 1).all(axis=None)  # all of a few is no certainty
    assert found.comparison is None and found.calibration is None
    assert (found.folds is not None) == (protocol == "folds")
    if found.folds is not None:
        assert found.folds.photos.sum() == photos and "as declared" in found.note


SPOILT = {
    "missing": (lambda t: t.drop(index=2), "1 image is missing of the"),
    "double": (lambda t: pd.concat([t, t.iloc[[1]]]), "is in row 3 already"),
    "unknown": (
        lambda t: t.replace(t.image[0], "TEST/NEUTROPHIL/_9_9.jpeg"),
        "Row 2: 'TEST/NEUTROPHIL/_9_9.jpeg' is no",
    ),
    "another split": (lambda t: t.replace(t.image[0], read_splits().image[0]), "Row 2: 'TRAIN/"),
    "without a name": (lambda t: t.replace(t.image[0], " "), "Row 2: names no image"),
    "two folders": (lambda t: t.replace(t.image.iloc[-1], t.image.iloc[-1].split("/")[-1]), "in several folders"),
    "NaN": (lambda t: t.assign(EOSINOPHIL=t.EOSINOPHIL.where(t.index != 3)), "Row 5: the probability of EOSINOPHIL is"),
    "word": (lambda t: t.assign(MONOCYTE=t.MONOCYTE.astype(object).where(t.index != 3, "0,7")), "Row 5: '0,7' for"),
    "negative": (lambda t: t.assign(MONOCYTE=t.MONOCYTE.where(t.index != 3, -0.1)), "Row 5: -0.1 for MONOCYTE is no"),
    "infinite": (lambda t: t.assign(MONOCYTE=t.MONOCYTE.where(t.index != 3, np.inf)), "Row 5: inf for MONOCYTE is no"),
    "sum": (lambda t: t.assign(MONOCYTE=t.MONOCYTE.where(t.index != 3, 0.35)), "Row 5: the probabilities add up to"),
    "no column": (lambda t: t.drop(columns="LYMPHOCYTE"), "There is no column for LYMPHOCYTE"),
    "twice": (lambda t: t.assign(lymphocyte=0.1), "has two columns 'lymphocyte'"),
    "no image": (lambda t: t.rename(columns={"image": "file"}), "has no column `image`"),
    "no row": (lambda t: t.head(0), "has no row"),
    "at odds": (
        lambda t: t.assign(predicted=[*[t.columns[1:][r.argmax()] for r in t.iloc[:-1, 1:].to_numpy()], "NEUTROPHIL"]),
        "`predicted` is not the likeliest",
    ),
}


@pytest.mark.parametrize("spoil, sentence", SPOILT.values(), ids=SPOILT)
def test_each_fault_is_one_sentence_that_names_the_row(small, tmp_path, spoil, sentence):
    with pytest.raises(SubmissionError) as refused:
        hand_in(tmp_path, spoil(shares(small)), small)
    said = [problem for problem in refused.value.problems if sentence in problem]
    assert len(said) == 1 and said[0].endswith(".")


@pytest.mark.parametrize(
    "answer, sentence", [("", "is missing"), ("BASOPHIL", "'BASOPHIL' is no class"), ("3", "'3' is")]
)
def test_an_answer_that_is_no_class_is_named_with_its_row(small, tmp_path, answer, sentence):
    table = right_answers(small)
    table.loc[1, "predicted"] = answer
    with pytest.raises(SubmissionError, match="Row 3: ") as refused:
        hand_in(tmp_path, table, small)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    "content, sentence",
    [
        (b"", "is empty"),
        (b"image,predicted\na,b,c\n", "row 2: has 3 cells where the header has 2"),
        (b'image,predicted\n"a,b\n', "is no CSV"),
        (b"\xff\xfe\x00", "neither CSV in UTF-8 nor .npz"),
        (b"PK\x03\x04 cut off", "is no .npz of plain arrays"),
        ({"image": ["a"], "probabilities": np.ones((1, 4))}, "the name of each column of `probabilities`"),
        ({"image": ["a"], "predicted": ["b", "c"]}, "arrays of different lengths"),
        ({"image": np.array([{}], object), "predicted": ["b"]}, "is no .npz of plain arrays"),
    ],
)
def test_a_file_that_is_no_table_is_said_to_be_none(tmp_path, content, sentence):
    with (tmp_path / "p.csv").open("wb") as file:
        file.write(content) if isinstance(content, bytes) else np.savez(file, **content)
    with pytest.raises(SubmissionError) as refused:
        submission.read(tmp_path / "p.csv")
    assert sentence in str(refused.value)


def test_a_file_that_is_not_there_and_a_protocol_that_nobody_knows(tmp_path):
    with pytest.raises(PlaceError):
        submission.read(tmp_path / "nothing.csv")
    with pytest.raises(UnknownNameError, match="test-simple"):
        submission.read(tmp_path / "nothing.csv", "train")


@given(st.lists(st.sampled_from(CLASSES), min_size=10, max_size=10))
def test_copies_vote_and_a_tie_counts_in_part(named):
    labels, photos = np.full(10, 1), np.repeat([5, 9], 5)
    answers = np.eye(5)[[LABELS[name] for name in named]]
    right = comparison.score_answers(labels, photos, [answers]).right
    for share, votes in zip(right, (named[:5], named[5:]), strict=True):
        winners = [c for c in CLASSES if votes.count(c) == max(map(votes.count, CLASSES))]
        assert share == ((CLASSES[0] in winners) / len(winners))
