import json

import cv2
import numpy as np
import pandas as pd
import pytest

from tests.drawn import draw_field
from wbc_lib.data import dataset, images, pictures
from wbc_lib.data.windows import RED_CELL
from wbc_lib.errors import BadDataError
from wbc_lib.prediction import answers, refusal
from wbc_lib.prediction.answers import Answer, Refused
from wbc_lib.prediction.picture import Prediction, classify
from wbc_lib.prediction.sightings import look


@pytest.fixture(scope="module")
def guard():
    """Lets through what is drawn as smears are in these tests."""
    colours, nuclei = [], []
    for seed in range(40):
        (cell,) = look(draw_field(60, [(200 + 5 * seed, 240)], seed=seed))
        colours.append(cell.colours)
        nuclei.append(cell.nucleus)
    return refusal.fit_guard("drawn", np.stack(colours), np.array(nuclei), np.arange(40))


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
        "smear.tif": smear,
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
    names = ["smear.png", "smear.tif", "two.png", "grey.png", "stain.png", "portrait.png", "broken.png"]
    said = dict(zip(names, ask(small_run, guard, *(folder / name for name in names)), strict=True))
    assert isinstance(said["broken.png"], BadDataError) and str(folder / "broken.png") in str(said["broken.png"])
    reasons = {"grey.png": "no colour", "stain.png": "its colours", "portrait.png": "no red cells"}
    for name, reason in reasons.items():
        (refused,) = said[name].cells
        assert isinstance(refused, Refused) and reason in refused.reason, name
        assert said[name].describe() == [f"{folder / name}: no class: {refused.reason}"]
    (cell,) = said["smear.png"].cells
    (same,) = said["smear.tif"].cells
    assert isinstance(cell, Prediction) and np.array_equal(cell.probabilities, same.probabilities)
    assert said["smear.png"].red_cell == pytest.approx(60, rel=0.06)
    two = said["two.png"]
    middles = sorted(((c.box[0] + c.box[2]) / 2, (c.box[1] + c.box[3]) / 2) for c in two.cells)
    assert middles == [pytest.approx((200, 150), abs=3), pytest.approx((460, 330), abs=3)]
    assert [line.split(", ")[1] for line in two.describe()] == ["cell 1 of 2", "cell 2 of 2"]


def test_the_scale_is_measured_or_given(small_run, guard, folder):
    alone = np.full((300, 300, 3), (220, 225, 222), np.uint8)
    cv2.circle(alone, (150, 150), 40, (110, 40, 170), -1)
    cv2.imwrite(str(folder / "alone.png"), alone[..., ::-1])
    (answer,) = ask(small_run, None, folder / "alone.png")
    assert "--red-cell PIXELS" in answer.cells[0].reason
    (answer,) = ask(small_run, None, folder / "alone.png", red_cell=60)
    assert isinstance(answer.cells[0], Prediction) and answer.red_cell == 60
    (answer,) = ask(small_run, None, folder / "alone.png", red_cell=300)
    assert "no white cell" in answer.cells[0].reason


def test_an_image_of_the_data_set_is_asked_about_as_in_training_and_so_is_any_picture_as_it_is(small_run, folder):
    (answer,) = ask(small_run, None, folder / "image.jpeg")
    assert np.array_equal(answer.cells[0].pixels, images.read_small(folder / "image.jpeg"))
    assert answer.red_cell == RED_CELL / 2
    names = [folder / "image.jpeg", folder / "portrait.png", folder / "broken.png"]
    (image, portrait, broken) = ask(small_run, None, *names, as_is=True)
    plain = list(classify(small_run, names[:2], 0.5))
    for said, expected in zip((image, portrait), plain, strict=True):
        assert np.array_equal(said.cells[0].probabilities, expected.probabilities)
    assert np.array_equal(portrait.cells[0].pixels, pictures.read_picture(folder / "portrait.png"))
    assert isinstance(broken, BadDataError)


def told(cell, sure=0.9):
    probabilities = np.full(5, (1 - sure) / 4)
    probabilities[("", *dataset.CLASSES).index(cell)] = sure
    return Prediction(None, np.zeros((60, 80, 3), np.uint8), probabilities, 0.5, box=(1, 2, 30, 40))


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
    drawn = answers.draw_boxes(answer)
    changed = (drawn != pictures.read_full(folder / "two.png")).any(axis=2)
    for cell in answer.cells:
        left, top, right, bottom = cell.box
        assert changed[top, left:right].all() and changed[bottom, left:right].all()
        assert not changed[top + 8 : bottom - 8, left + 8 : right - 8].any()


def test_the_command_writes_boxes_a_table_and_a_count(wbc, small_run, folder, monkeypatch):
    monkeypatch.setenv("WBC_RESULTS", str(small_run.folder.parent))
    (folder / "pictures").mkdir()
    for name in ("two.png", "grey.png"):
        (folder / name).rename(folder / "pictures" / name)
    arguments = (
        "predict",
        folder / "pictures",
        "--run",
        small_run.name,
        "--boxes",
        folder / "drawn",
        "--accuracy",
        0.5,
    )
    done = wbc(*arguments, "--csv", folder / "cells.csv")
    assert done.returncode == 0, done.stderr
    assert "no class: it has no colour" in done.stdout and "cell 2 of 2" in done.stdout
    assert sorted(p.name for p in (folder / "drawn").iterdir()) == ["grey-boxes.png", "two-boxes.png"]
    table = pd.read_csv(folder / "cells.csv")
    assert table.image.map(lambda p: p.rsplit("/")[-1]).tolist() == ["grey.png", "two.png", "two.png"]
    said = json.loads(wbc(*arguments, "--json").stdout)
    assert [row["number"] for row in said["images"]] == [1, 1, 2]
    assert [row["cell"] for row in said["images"]] == table.cell.replace({np.nan: None}).tolist()
    assert sum(row["cells"] for row in said["count"]) == sum(not row.get("abstains", True) for row in said["images"])
    (row,) = json.loads(wbc(*arguments[:2], "--as-is", "--json", "--run", small_run.name).stdout)["images"][1:]
    assert row["refused"] == "" and row["box"] is None
