import dataclasses

import cv2
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.drawn import draw_field
from wbc_lib.attention import masks
from wbc_lib.cli import external as commands
from wbc_lib.cli.main import app
from wbc_lib.data import external
from wbc_lib.data.hashes import combine, hash_files
from wbc_lib.data.picture_sets import TEST_PHOTOS, TRAIN_PHOTOS, open_set
from wbc_lib.errors import UnknownNameError
from wbc_lib.evaluation import elsewhere
from wbc_lib.prediction import feature_distance, travel

N = 24


@dataclasses.dataclass
class Named:
    """Of a run, what tells its window."""

    name: str
    config: dict

    @property
    def record(self):
        return {"config": self.config}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A drawn set in the form of Zheng et al., its cells larger than ours: half of it is held back."""
    root = tmp_path_factory.mktemp("elsewhere")
    pictures = root / "zheng" / "cellavision"
    pictures.mkdir(parents=True)
    for i in range(1, N + 1):
        cv2.imwrite(str(pictures / f"{i:03d}.bmp"), draw_field(60, [(150, 140)], (300, 300), seed=i)[..., ::-1])
    lines = [f"{i},{1 + i % 4}\n" for i in range(1, N + 1)]
    (root / "zheng" / "cellavision.csv").write_text("image,class\n" + "".join(lines))
    return root


@pytest.fixture
def run(folder, tiny_set, tmp_path, monkeypatch):
    """Run a command on that set and on phantoms; no network answers."""
    files = [folder / "zheng" / "cellavision.csv", *sorted((folder / "zheng" / "cellavision").iterdir())]
    sha256 = combine(dict(zip([f.name for f in files], hash_files(files), strict=True))).sha256
    source = dataclasses.replace(external.SOURCES["cellavision"], sha256=sha256)
    monkeypatch.setattr(external, "SOURCES", {"cellavision": source})
    monkeypatch.setattr(commands, "_find_runs", lambda data, model: [])
    monkeypatch.setenv("WBC_RESULTS", str(tmp_path))
    monkeypatch.setenv("WBC_EXTERNAL", str(folder))

    def invoke(*arguments):
        return CliRunner().invoke(app, ["external", *arguments, "--data", str(tiny_set.root)], catch_exceptions=True)

    assert invoke("guard").exit_code == 0
    return invoke


def test_answers_are_recorded_and_those_held_back_only_when_they_are_asked_for(run):
    assert run("predict", "cellavision").exit_code == 0
    assert not travel.recorded_path("final", "cellavision", held_back=True).exists()
    assert run("predict", "cellavision", "--held-back").exit_code == 0
    shown, held_back = (travel.read_recorded("final", "cellavision", held_back=h) for h in (False, True))
    assert shown.picture.nunique() == held_back.picture.nunique() == N / 2
    assert set(shown.picture).isdisjoint(held_back.picture)
    assert {travel.BY_SET, travel.MATCHED} <= set(shown.scaled)
    assert shown.red_cell[shown.scaled == travel.BY_SET].iloc[0] == pytest.approx(60, rel=0.06)
    assert isinstance(run("predict", "nothing").exception, UnknownNameError)


def test_photos_are_changed_towards_the_set_and_its_border_is_scored(run, monkeypatch):
    monkeypatch.setattr(elsewhere, "_FOLDS", 2)  # there are few of each class
    assert run("changes").exit_code == 0
    changed = travel.read_recorded("final", "changes")
    assert set(changed.towards) == {"", "cellavision"}
    assert run("border").exit_code == 0
    told = travel.read_border()
    assert told.set.tolist() == ["photos", "cellavision"] and told.pictures[1] == N / 2
    assert ((told.low <= told.balanced) & (told.balanced <= told.high)).all()


def test_distances_are_measured_from_train_of_every_set_and_of_nothing_that_is_held_back(run, tiny_set, monkeypatch):
    usual = []

    def measure(runs, photos, pixels, on_progress):
        usual.append(photos)
        return pd.DataFrame({name: np.arange(len(pixels)) for name in feature_distance.COLUMNS})

    monkeypatch.setattr(feature_distance, "measure_distances", measure)
    drawn = [external.NotSmear(str(i), "drawn", draw_field(45, [(150, 140)], (320, 240), seed=i)) for i in range(2)]
    monkeypatch.setattr(external, "make_not_smears", lambda: drawn)
    assert run("features").exit_code == 0
    told = travel.read_recorded("final", "features")
    n_test = len(open_set(TEST_PHOTOS, tiny_set).table)
    assert told.groupby("scaled").size().to_dict() == dict.fromkeys((travel.BY_SET, travel.MATCHED), n_test + N / 2 + 2)
    assert [len(photos) for photos in usual] == [len(open_set(TRAIN_PHOTOS, tiny_set).table)]
    assert not told.held_back.any() and told.dense.tolist() == list(range(len(told)))


def test_where_models_look_is_measured_run_by_run_in_the_window_of_each(run, tiny_set, folder, monkeypatch):
    (folder / "banik-masks").mkdir()
    photos = open_set(TEST_PHOTOS, tiny_set)
    for picture in photos.table.picture:
        name = picture.replace("Image_", "Image_Mask_").replace(".jpg", ".png")
        cv2.imwrite(str(folder / "banik-masks" / name), np.full((480, 640), 155, np.uint8))
    runs = {
        "final": [Named("final", {"material": "augmented", "input_shape": (60, 80)})] * 2,
        "stronger": [Named("stronger", {"material": "windows", "input_shape": (96, 96)})],
    }
    monkeypatch.setattr(commands, "_find_runs", lambda data, model: runs[model])

    def measure(of, seen):
        return seen.table.assign(
            model=of.name, seed=0, right=True, right_covered=False, right_alone=True,
            even=seen.masks.shape[1], share=0.5, share_swapped=1,
        )  # fmt: skip

    monkeypatch.setattr(masks, "measure_shares", measure)
    assert run("attention").exit_code == 0
    table = masks.read_recorded()
    n = len(photos.table)
    assert table.groupby("model").size().to_dict() == {"final": 2 * n, "stronger": n}
    assert table.groupby("model").even.unique().to_dict() == {"final": 60, "stronger": 96}
