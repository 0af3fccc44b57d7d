import dataclasses
import json
import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pytest

from tests.drawn import draw_field
from tests.train_tiny import SMALL
from wbc_lib import paths
from wbc_lib.data import dataset, external, images, pictures
from wbc_lib.data.windows import CLOSE, RED_CELL
from wbc_lib.errors import BadDataError
from wbc_lib.prediction import answers, picture, refusal
from wbc_lib.prediction.answers import Answer, Refused
from wbc_lib.prediction.picture import Prediction
from wbc_lib.training import experiments
from wbc_lib.training.plan import WINDOWS
from wbc_lib.training.runs import Store
from wbc_lib.training.verify import LOGIT_TOLERANCE


@pytest.fixture(scope="module")
def guard():
    """Lets through what is drawn as smears are in these tests."""
    numbers, nuclei = [], []
    for seed in range(24):
        (cell,) = picture.look(draw_field(60, [(200 + 5 * seed, 240)], seed=seed), 60)
        numbers.append(refusal.colour_numbers(cell.colours))
        nuclei.append(cell.nucleus)
    reference = refusal.fit_reference("drawn", np.stack(numbers), np.arange(24))
    return refusal.Guard((reference,), *refusal.nucleus_limits(np.array(nuclei)))


@pytest.fixture
def folder(tmp_path, tiny_set):
    """A picture of each kind that somebody may bring."""
    listed = dataset.list_images(tiny_set)
    image = tiny_set.image_path(listed.image[listed.split == "TEST"].iloc[0])
    (tmp_path / "image.jpeg").write_bytes(image.read_bytes())
    smear, two = draw_field(60, [(300, 240)], seed=50), draw_field(60, [(200, 150), (460, 330)], seed=51)
    grey = cv2.cvtColor(smear, cv2.COLOR_RGB2GRAY)
    blue = smear[..., ::-1].copy()  # stained in other colours, the nucleus still violet
    cv2.circle(blue, (300, 240), 36, (110, 40, 170), -1)
    portrait = np.full((300, 400, 3), (90, 140, 80), np.uint8)
    cv2.circle(portrait, (200, 150), 90, (220, 170, 150), -1)
    for name, pixels in {
        "smear.png": smear,
        "two.png": two,
        "grey.png": np.dstack([grey] * 3),
        "stain.png": blue,
        "portrait.png": portrait,
    }.items():
        cv2.imwrite(str(tmp_path / name), pixels[..., ::-1])
    (tmp_path / "broken.png").write_bytes((tmp_path / "smear.png").read_bytes()[:3000])
    return tmp_path


def ask(run, guard, *paths, **ways):
    return list(answers.answer(run, guard, paths, 0.5, **ways))


def test_each_kind_of_picture_gets_its_answer(small_run, guard, folder):
    names = ["smear.png", "two.png", "grey.png", "stain.png", "portrait.png", "broken.png"]
    said = dict(zip(names, ask(small_run, guard, *(folder / name for name in names)), strict=True))
    assert isinstance(said["broken.png"], BadDataError) and str(folder / "broken.png") in str(said["broken.png"])
    reasons = {"grey.png": "no colour", "stain.png": "its colours", "portrait.png": "no red cells"}
    for name, reason in reasons.items():
        (refused,) = said[name].cells
        assert isinstance(refused, Refused) and reason in refused.reason, name
        assert said[name].describe() == [f"{folder / name}: no class: {refused.reason}"]
    (cell,) = said["smear.png"].cells
    assert isinstance(cell, Prediction)
    assert said["smear.png"].red_cell == pytest.approx(60, rel=0.06)
    two = said["two.png"]
    middles = sorted(((c.box[0] + c.box[2]) / 2, (c.box[1] + c.box[3]) / 2) for c in two.cells)
    assert middles == [pytest.approx((200, 150), abs=3), pytest.approx((460, 330), abs=3)]
    assert [line.split(", ")[1] for line in two.describe()] == ["cell 1 of 2", "cell 2 of 2"]


def test_an_image_of_the_data_set_is_asked_about_as_in_training_and_so_is_any_picture_as_it_is(small_run, folder):
    (answer,) = ask(small_run, None, folder / "image.jpeg")
    assert np.array_equal(answer.cells[0].pixels, images.read_small(folder / "image.jpeg"))
    assert answer.red_cell == RED_CELL / 2
    done = []
    names = [folder / "portrait.png", folder / "broken.png", folder / "image.jpeg"]
    ways = {"as_is": True, "with_attention": True, "on_progress": lambda *progress: done.append(progress)}
    (portrait, broken, image) = ask(small_run, None, *names, **ways)
    assert done == [(1, 3), (2, 3), (3, 3)] and isinstance(broken, BadDataError)
    assert np.array_equal(image.cells[0].pixels, answer.cells[0].pixels) and image.cells[0].box is None
    assert np.array_equal(portrait.cells[0].pixels, pictures.read_picture(folder / "portrait.png"))
    attention = image.cells[0].attention
    assert attention.shape == (60, 80) and attention.min() >= 0 and attention.max() in {0, 1}


def test_a_network_that_sees_the_cell_alone_is_asked_about_a_window_in_turned_copies(small_run, folder, monkeypatch):
    config = small_run.record["config"] | {"material": WINDOWS, "input_shape": [96, 96]}
    config |= {"settings": config["settings"] | {"views": 8}}
    run = dataclasses.replace(small_run, record=small_run.record | {"config": config})
    asked = []

    def compute_logits(network, scale, weights, pixels, views):
        asked.append((pixels, views))
        return np.tile(np.eye(5)[2], (len(pixels), 1))

    monkeypatch.setattr(picture.forward, "compute_logits", compute_logits)
    image, two = ask(run, None, folder / "image.jpeg", folder / "two.png")
    ((pixels, views),) = asked
    assert (pixels.shape, views) == ((3, 96, 96, 3), 8) and (len(image.cells), len(two.cells)) == (1, 2)
    (first, *_) = picture.look(pictures.read_full(folder / "image.jpeg"), RED_CELL / 2, CLOSE)
    np.testing.assert_array_equal(pixels[0], first.window)


def test_a_few_pictures_are_answered_without_tensorflow_and_get_the_same_answer_as_with_it(
    small_run, folder, monkeypatch
):
    code = (
        "import sys; from pathlib import Path; from wbc_lib import paths;"
        "from wbc_lib.prediction import answers, picture;"
        "from wbc_lib.training.runs import Store; run = picture.find_run(Store(paths.ROOT / 'results'));"
        "(answer,) = answers.answer(run, None, [Path(sys.argv[1])], 0.5, as_is=True);"
        "print(answer.cells[0].cell, 'tensorflow' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(folder / "image.jpeg")]
    done = subprocess.run(command, cwd=paths.ROOT, check=True, capture_output=True, text=True)
    cell, loaded = done.stdout.split()
    assert cell in dataset.CLASSES and loaded == "False"
    (few,) = ask(small_run, None, folder / "image.jpeg")
    monkeypatch.setattr(answers, "_FEW", 0)
    (many,) = ask(small_run, None, folder / "image.jpeg")
    np.testing.assert_allclose(few.cells[0].probabilities, many.cells[0].probabilities, atol=1e-4)


@pytest.mark.slow
def test_the_recorded_model_that_is_asked_by_default_answers_as_it_was_scored(real_set):
    store = Store(paths.ROOT / "results")
    run = picture.find_run(store, model="stronger")
    rows = np.linspace(0, len(run.labels("test")) - 1, 50).astype(int)
    files = [real_set.image_path(name) for name in run.names("test")[rows]]
    said = [answer.cells[0] for answer in ask(run, None, *files)]
    both = [(cell, truth) for cell, truth in zip(said, run.probabilities("test")[rows], strict=True)]
    answered = [(c.probabilities, truth) for c, truth in both if isinstance(c, Prediction)]
    assert len(answered) > 45  # in a few images no nucleus is left
    assert max(np.abs(ours - truth).max() for ours, truth in answered) < 0.02
    threshold = picture.choose_threshold(run, folds=picture.find_folds(run, store))
    assert 0.5 < threshold < 1


@pytest.mark.slow
def test_seven_pictures_that_somebody_may_bring_get_seven_right_answers(
    wbc, real_set, external_set, tmp_path, monkeypatch
):
    monkeypatch.setenv("WBC_RESULTS", str(paths.ROOT / "results"))
    index = dataset.index_photos(real_set)
    two, one = (index.index[kind & index.has_photo][0] for kind in (index.n_wbc == 2, index.labels == "LYMPHOCYTE"))
    photo = images.read_image(real_set.photo_path(one))
    portrait = next(m for m in external.draw_not_smears() if m.kind == "portrait")
    for name, pixels in {"portrait.png": portrait.picture, "photo.tiff": photo, "photo.png": photo}.items():
        cv2.imwrite(str(tmp_path / name), pixels[..., ::-1])
    cv2.imwrite(str(tmp_path / "grey.png"), cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY))
    listed = dataset.list_images(real_set).query("split == 'TEST' and cell == 'LYMPHOCYTE'")
    foreign = sorted((external_set.root / "pbc" / "neutrophil").iterdir())[7]
    for name, source in {
        "test.jpeg": real_set.image_path(listed.image.iloc[0]),
        "two.jpg": real_set.photo_path(two),
        "foreign.jpg": foreign,
    }.items():
        (tmp_path / name).write_bytes(source.read_bytes())
    (tmp_path / "broken.jpg").write_bytes((tmp_path / "two.jpg").read_bytes()[:5000])
    said = {}
    for model in ("stronger", "final"):
        done = wbc("predict", tmp_path, "--model", model, "--json")
        assert done.returncode == 1 and "broken.jpg: ends too early" in done.stderr
        said[model] = {}
        for row in json.loads(done.stdout)["images"]:
            said[model].setdefault(row["image"].rpartition("/")[2], []).append(row)
    stronger, final = said.values()
    assert stronger["foreign.jpg"][0]["cell"] == "NEUTROPHIL" and "colours" in final["foreign.jpg"][0]["refused"]
    assert stronger["test.jpeg"][0]["cell"] == stronger["photo.png"][0]["cell"] == "LYMPHOCYTE"
    assert [row["cell"] for row in stronger["two.jpg"]] == ["NEUTROPHIL", "EOSINOPHIL"]
    assert all(row["box"] for row in stronger["two.jpg"])
    assert stronger["photo.tiff"][0]["probabilities"] == stronger["photo.png"][0]["probabilities"]
    assert "no colour" in stronger["grey.png"][0]["refused"] and stronger["portrait.png"][0]["refused"]


def test_the_recorded_predictions_come_out_again_from_the_files(small_run, tiny_set):
    files = [tiny_set.image_path(name) for name in small_run.names("test")]
    said = ask(small_run, None, *files, as_is=True)
    assert [answer.path for answer in said] == files
    cells = [answer.cells[0] for answer in said]
    ours = np.array([cell.probabilities for cell in cells])
    assert np.abs(ours - small_run.probabilities("test")).max() < LOGIT_TOLERANCE
    assert ours.sum(axis=1) == pytest.approx(1)
    assert [cell.cell for cell in cells] == [("", *dataset.CLASSES)[label] for label in small_run.predicted("test")]


def told(cell, sure=0.9):
    probabilities = np.full(5, (1 - sure) / 4)
    probabilities[("", *dataset.CLASSES).index(cell)] = sure
    return Prediction(np.zeros((60, 80, 3), np.uint8), probabilities, 0.5, box=(1, 2, 30, 40))


def test_cells_with_a_class_are_counted_and_all_are_in_the_table(tmp_path):
    said = [
        Answer(tmp_path / "a", (told("MONOCYTE"), told("NEUTROPHIL"), told("NEUTROPHIL", 0.4), Refused("it is red"))),
        Answer(tmp_path / "b", (told("NEUTROPHIL"),)),
    ]
    count = {row["class"]: row for row in answers.count_cells(said)}
    assert {name: row["cells"] for name, row in count.items() if row["cells"]} == {"Neutrophil": 2, "Monocyte": 1}
    assert count["Neutrophil"]["share"] == pytest.approx(2 / 3)
    assert count["Neutrophil"]["low"] < 2 / 3 < count["Neutrophil"]["high"]
    assert answers.count_cells(said[1:][:0]) == []
    table = answers.tabulate(said)
    assert table[["image", "number"]].to_numpy().tolist() == [[str(tmp_path / "a"), i] for i in (1, 2, 3, 4)] + [
        [str(tmp_path / "b"), 1]
    ]
    assert table.refused.tolist() == ["", "", "", "it is red", ""]
    assert table.loc[0, ["left", "top", "right", "bottom"]].tolist() == [1, 2, 30, 40]
    assert table.probability_MONOCYTE[0] == pytest.approx(0.9) and np.isnan(table.probability_MONOCYTE[3])


def test_boxes_are_drawn_around_the_nuclei(small_run, folder):
    (answer,) = ask(small_run, None, folder / "two.png")
    answers.write_boxes(answer, folder / "drawn.png")
    changed = (pictures.read_full(folder / "drawn.png") != pictures.read_full(folder / "two.png")).any(axis=2)
    for cell in answer.cells:
        left, top, right, bottom = cell.box
        assert changed[top, left:right].all() and changed[bottom, left:right].all()
        assert not changed[top + 8 : bottom - 8, left + 8 : right - 8].any()


@pytest.fixture
def given(folder, small_run, monkeypatch):
    """A folder with an image of the data set, two cells and a grey picture; the small run is the final model's."""
    sha256 = small_run.record["config"]["data_sha256"]
    monkeypatch.setitem(experiments.EXPERIMENTS, "final", SMALL)
    monkeypatch.setattr(picture.find_run, "__defaults__", (sha256, "final"))
    monkeypatch.setenv("WBC_RESULTS", str(small_run.folder.parent))
    (folder / "in").mkdir()
    for name in ("image.jpeg", "two.png", "grey.png"):
        (folder / name).rename(folder / "in" / name)
    return folder / "in"


def test_the_command_writes_maps_boxes_and_a_table(wbc, small_run, given, tmp_path):
    ways = ("--map", tmp_path / "maps", "--boxes", tmp_path / "drawn", "--csv", tmp_path / "a.csv")
    done = wbc("predict", given, "--model", "final", *ways)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("no medical device") == 1 and small_run.name in done.stderr
    assert "Passed over" not in done.stderr
    assert "no class: it has no colour" in done.stdout and "cell 2 of 2" in done.stdout
    assert sorted(p.name for p in (tmp_path / "maps").iterdir()) == ["image-map.png", "two-map.png"]
    assert cv2.imread(str(tmp_path / "maps/image-map.png")).std() > 10
    assert sorted(p.name for p in (tmp_path / "drawn").iterdir()) == [
        "grey-boxes.png",
        "image-boxes.png",
        "two-boxes.png",
    ]
    table = pd.read_csv(tmp_path / "a.csv")
    assert table.image.map(lambda p: p.rsplit("/")[-1]).tolist() == ["grey.png", "image.jpeg", "two.png", "two.png"]


def test_the_command_counts_and_goes_on_after_a_bad_file(wbc, small_run, given, tmp_path):
    (given / "text.jpg").write_text("hello")
    (given / "phone.heic").touch()
    done = wbc("predict", given, tmp_path / "nope", "--json", "--run", small_run.name, "--accuracy", 0.5)
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert [row["number"] for row in said["images"]] == [1, 1, 1, 2]
    assert (said["run"], said["accuracy"]) == (small_run.name, 0.5)
    assert said["threshold"] == picture.choose_threshold(small_run, 0.5)
    assert sum(row["cells"] for row in said["count"]) == sum(not row.get("abstains", True) for row in said["images"])
    assert list(said["images"][1]["probabilities"]) == ["NONE", *dataset.CLASSES]
    assert said["passed_over"] == [str(given / "phone.heic")] and "Passed over 1 " in done.stderr
    assert len(said["problems"]) == 2 and all(problem in done.stderr for problem in said["problems"])
    done = wbc("predict", given / "two.png", "--as-is", "--json", "--run", small_run.name)
    (row,) = json.loads(done.stdout)["images"]
    assert row["refused"] == "" and row["box"] is None


def test_the_command_says_what_is_missing_in_one_sentence(wbc, given, tmp_path, monkeypatch):
    monkeypatch.setenv("WBC_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("WBC_CACHE", str(tmp_path / "cache"))
    for arguments, complaint in {
        (tmp_path / "nope",): "there is no such file",
        (given / "two.png",): "No run of the model stronger",
        (given / "two.png", "--run", "nope"): "There is no run 'nope'",
    }.items():
        done = wbc("predict", *arguments)
        assert done.returncode == 1 and done.stdout == ""
        assert complaint in done.stderr and len(done.stderr.splitlines()) == 1
