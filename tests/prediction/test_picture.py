import io
import json
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.train_tiny import SMALL
from wbc_lib import paths
from wbc_lib.attention import saliency
from wbc_lib.data import dataset, images
from wbc_lib.errors import BadDataError, UnknownNameError
from wbc_lib.evaluation import scores
from wbc_lib.prediction import picture as prediction
from wbc_lib.training import experiments, fit
from wbc_lib.training.experiments import PROFILES
from wbc_lib.training.runs import Store
from wbc_lib.training.study import Study
from wbc_lib.training.verify import LOGIT_TOLERANCE

FINAL = experiments.EXPERIMENTS["final"]


@pytest.fixture(scope="module")
def study(phantom_set, tmp_path_factory):
    """A study whose final model is a small one, trained at once; its weights are kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(experiments.EXPERIMENTS, "final", SMALL)
        opened = Study(phantom_set, PROFILES["smoke"], Store(tmp_path_factory.mktemp("runs")))
        opened.run("final")
        yield opened


@pytest.fixture
def run(study):
    return prediction.find_run(study.store, study.data_sha256)


@pytest.fixture
def picture(phantom_set):
    """A phantom of TEST."""
    listed = dataset.list_images(phantom_set)
    return phantom_set.image_path(listed.image[listed.split == "TEST"].iloc[0])


def test_the_recorded_predictions_come_out_again_from_the_files(study, run, phantom_set):
    names = run.names("test")
    answers = list(prediction.classify(run, [phantom_set.image_path(n) for n in names], 0.5))
    assert [a.path for a in answers] == [phantom_set.image_path(n) for n in names]
    ours = np.array([a.probabilities for a in answers])
    assert np.abs(ours - run.probabilities("test")).max() < LOGIT_TOLERANCE
    assert ours.sum(axis=1) == pytest.approx(1)
    assert [a.cell for a in answers] == [("", *dataset.CLASSES)[label] for label in run.predicted("test")]
    assert np.array_equal(answers[0].pixels, images.read_small(answers[0].path))


def test_the_threshold_decides_the_largest_share_of_validation_that_keeps_the_accuracy(run):
    for accuracy in (0.5, 0.7, 0.9, 0.99):
        threshold = prediction.choose_threshold(run, accuracy)
        confidence = run.probabilities("validation").max(axis=1)
        right = run.predicted("validation") == run.labels("validation")
        assert threshold == pytest.approx(scores.confidence_threshold(confidence, right, accuracy))


def test_the_threshold_knows_nothing_of_test(run, monkeypatch):
    expected = prediction.choose_threshold(run)
    asked = []
    for name in ("labels", "logits"):
        real = getattr(type(run), name)
        monkeypatch.setattr(type(run), name, lambda self, part, real=real: asked.append(part) or real(self, part))
    assert prediction.choose_threshold(run) == expected
    assert set(asked) == {"validation"}


def test_what_is_not_sure_enough_abstains_and_what_belongs_to_no_class_always_does(tmp_path):
    def answer(probabilities, threshold):
        return prediction.Prediction(
            tmp_path / "a", np.zeros((60, 80, 3), np.uint8), np.array(probabilities), threshold
        )

    assert not answer([0, 0.9, 0.1, 0, 0], 0.9).abstains
    assert answer([0, 0.9, 0.1, 0, 0], 0.91).abstains
    none = answer([0.9, 0.1, 0, 0, 0], 0.5)
    assert none.abstains and none.cell == ""
    assert none.describe() == "None of the four, 90.0%; would rather abstain"
    assert none.as_plain()["cell"] is None
    assert answer([0, 0, 0, 1, 0], 0.5).describe() == "Monocyte, 100.0%"


def test_the_longest_training_is_asked_and_of_seeds_the_first(study, monkeypatch):
    profiles = {"long": PROFILES["paper"], "smoke": PROFILES["smoke"]}
    asked = []
    monkeypatch.setattr(prediction, "PROFILES", profiles)

    class Listening(Store):
        def find(self, plan):
            asked.append((plan.epochs, plan.seed))
            return super().find(plan)

    found = prediction.find_run(Listening(*study.store.roots), study.data_sha256)
    assert asked == [(50, 0), (50, 1), (50, 2), (2, 0)]
    assert found.epochs == 2
    assert prediction.find_run(study.store, "0" * 64) is None


def png_header(width, height):
    """A PNG that is all promise."""
    content = io.BytesIO()
    Image.new("L", (1, 1)).save(content, "PNG")
    header = b"IHDR" + width.to_bytes(4) + height.to_bytes(4) + content.getvalue()[24:29]
    return content.getvalue()[:12] + header + zlib.crc32(header).to_bytes(4) + content.getvalue()[33:]


def broken(folder, picture):
    content = picture.read_bytes()
    (folder / "folder.png").mkdir()
    return {
        "is no picture": {"text.jpg": b"not a picture", "half.png": b"\x89PNG\r\n\x1a\n"},
        "ends too early": {"cut.jpg": content[:-2000]},
        "pixels; cut out": {"huge.png": png_header(50_000, 50_000), "large.png": png_header(11_000, 10_000)},
        "cannot be decoded": {"promise.png": png_header(300, 200)},
        "the file is empty": {"empty.png": b""},
        "no plain file": {"folder.png": None},
        "is missing": {"missing.png": None},
        "too small": {"small.png": cv2.imencode(".png", np.zeros((59, 200, 3), np.uint8))[1].tobytes()},
    }


def test_what_cannot_be_read_is_a_sentence_and_the_others_go_on(run, tmp_path, picture):
    paths, wanted = [], []
    for complaint, files in broken(tmp_path, picture).items():
        for name, content in files.items():
            if content is not None:
                (tmp_path / name).write_bytes(content)
            paths += [tmp_path / name, picture]
            wanted += [complaint, ""]
    done = []
    answers = list(prediction.classify(run, paths, 0.5, on_progress=lambda *progress: done.append(progress)))
    assert done == [(i, len(paths)) for i in range(1, len(paths) + 1)]
    for path, complaint, answer in zip(paths, wanted, answers, strict=True):
        if complaint:
            assert isinstance(answer, BadDataError), path
            assert str(answer).startswith(f"{path}: ") and complaint in str(answer) and "\n" not in str(answer)
        else:
            assert answer.path == picture and answer.probabilities.sum() == pytest.approx(1)


def test_maps_go_to_a_file_or_to_a_folder_each_to_a_place_of_its_own(tmp_path):
    several = [tmp_path / name for name in ("x/a.png", "y/a.png", "a-map.jpg", "z/a.jpg")]
    names = [p.name for p in prediction.drawing_paths(tmp_path / "maps", several)]
    assert names == ["a-map.png", "a-map-2.png", "a-map-map.png", "a-map-3.png"]
    assert prediction.drawing_paths(tmp_path / "one.svg", several[:1]) == [tmp_path / "one.svg"]
    for target, complaint in {"one.png": "one file for 4", "one.jpg": "no .png or .svg", "one.pdf": "no .png"}.items():
        with pytest.raises(UnknownNameError, match=complaint):
            prediction.drawing_paths(tmp_path / target, several)
    with pytest.raises(UnknownNameError, match="is the picture itself"):
        prediction.drawing_paths(tmp_path / "x/../x/a.png", several[:1])


def test_the_map_is_bright_where_the_attention_is(run, picture):
    (answer,) = prediction.classify(run, [picture], 0.5, with_attention=True)
    assert answer.attention.shape == (60, 80)
    assert answer.attention.min() >= 0 and answer.attention.max() in {0, 1}
    left = np.zeros((60, 80))
    left[:, :40] = 1
    figure = prediction.draw_map(prediction.replace(answer, attention=left))
    (axis,) = [a for a in figure.axes if a.get_title(loc="left") == "what speaks for it"]
    veil = axis.images[1].get_array()[..., 3]
    assert veil[:, :40].max() < veil[:, 40:].min()


def test_the_command_answers_writes_maps_and_goes_on_after_a_bad_file(wbc, study, run, tmp_path, picture, monkeypatch):
    monkeypatch.setattr(prediction, "PUBLISHED_SHA256", study.data_sha256)
    monkeypatch.setattr(prediction.find_run, "__defaults__", (study.data_sha256,))
    monkeypatch.setenv("WBC_RESULTS", str(study.store.roots[0]))
    (tmp_path / "in").mkdir()
    for i in range(2):
        (tmp_path / f"in/{i}.jpg").write_bytes(picture.read_bytes())
    done = wbc("predict", tmp_path / "in", "--map", tmp_path / "maps")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(": ")[0] for line in lines] == [str(tmp_path / f"in/{i}.jpg") for i in range(2)]
    assert done.stderr.count("no medical device") == 1 and run.name in done.stderr
    assert sorted(p.name for p in (tmp_path / "maps").iterdir()) == ["0-map.png", "1-map.png"]
    assert images.cv2.imread(str(tmp_path / "maps/0-map.png")).std() > 10

    assert "Passed over" not in done.stderr

    (tmp_path / "in/2.jpg").write_text("hello")
    (tmp_path / "in/3.heic").touch()
    done = wbc("predict", tmp_path / "in", tmp_path / "nope", "--json", "--run", run.name, "--accuracy", 0.9)
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert [i["image"] for i in said["images"]] == [str(tmp_path / f"in/{i}.jpg") for i in range(2)]
    assert (said["run"], said["accuracy"]) == (run.name, 0.9)
    assert said["threshold"] == prediction.choose_threshold(run, 0.9)
    logits = fit.predict(saliency.rebuild(run), images.read_small(picture)[None])[0].astype(float)
    expected = np.exp(logits) / np.exp(logits).sum()
    assert list(said["images"][0]["probabilities"]) == ["NONE", *dataset.CLASSES]
    assert list(said["images"][0]["probabilities"].values()) == pytest.approx(expected, abs=1e-6)
    assert said["passed_over"] == [str(tmp_path / "in/3.heic")] and "Passed over 1 " in done.stderr
    assert len(said["problems"]) == 2 and all(problem in done.stderr for problem in said["problems"])


def test_the_command_says_what_is_missing_in_one_sentence(wbc, tmp_path, picture, monkeypatch):
    monkeypatch.setenv("WBC_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("WBC_CACHE", str(tmp_path / "cache"))
    for arguments, complaint in {
        (tmp_path / "nope",): "there is no such file",
        (picture,): "No run of the final model",
        (picture, "--run", "nope"): "There is no run 'nope'",
        (picture, picture.parent, "--map", "one.png"): "is one file for",
    }.items():
        done = wbc("predict", *arguments)
        assert done.returncode == 1 and done.stdout == ""
        assert complaint in done.stderr and len(done.stderr.splitlines()) == 1


def test_images_of_the_data_set_are_read_to_the_pixels_of_a_training(real_set, monkeypatch):
    monkeypatch.setitem(experiments.EXPERIMENTS, "final", FINAL)
    run = prediction.find_run(Store(paths.ROOT / "results"))
    rows = np.linspace(0, len(run.labels("test")) - 1, 50).astype(int)
    files = [real_set.image_path(name) for name in run.names("test")[rows]]
    ours = np.array([a.probabilities for a in prediction.classify(run, files, 0.5)])
    assert np.abs(ours - run.probabilities("test")[rows]).max() < 1e-3
