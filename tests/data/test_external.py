import dataclasses
import hashlib
import importlib.util

import cv2
import numpy as np
import pandas as pd
import pytest

from wbc_lib.data import external
from wbc_lib.data.dataset import CLASSES
from wbc_lib.data.hashes import combine
from wbc_lib.errors import BadDataError, DataNotFoundError, UnknownNameError


def test_the_folder_is_the_one_that_is_named_or_that_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("WBC_EXTERNAL", raising=False)
    with pytest.raises(DataNotFoundError, match="WBC_EXTERNAL"):
        external.find()
    with pytest.raises(DataNotFoundError, match="no folder"):
        external.find(tmp_path / "nope")
    monkeypatch.setenv("WBC_EXTERNAL", str(tmp_path))
    assert external.find().root == tmp_path
    with pytest.raises(DataNotFoundError, match="get them from https"):
        external.list_pictures(external.find(), "pbc")
    with pytest.raises(UnknownNameError, match="pbc, cellavision, tecom"):
        external.list_pictures(external.find(), "nope")


@pytest.mark.parametrize("name", external.SOURCES)
def test_the_published_pictures_are_known_and_have_the_published_classes(external_set, name):
    table = external.list_pictures(external_set, name)
    counts = {
        "pbc": {"": 1000} | dict.fromkeys(CLASSES, 1000),
        "cellavision": {"NEUTROPHIL": 33, "LYMPHOCYTE": 37, "MONOCYTE": 15, "EOSINOPHIL": 12, "": 3},
        "tecom": {"NEUTROPHIL": 176, "LYMPHOCYTE": 53, "MONOCYTE": 48, "EOSINOPHIL": 22, "": 1},
    }
    assert table.cell.value_counts().to_dict() == counts[name]
    assert set(table.kind[table.cell == external.NO_CLASS]) <= {"basophil", "ig", "erythroblast", "platelet"}
    assert table.held_back.mean() == (0.5 if name in ("cellavision", "tecom") else 0)
    assert external_set.read(table.picture[0]).shape[2] == 3


def test_the_masks_of_zheng_mark_a_nucleus(external_set):
    picture = "zheng/cellavision/001.bmp"
    nucleus = external.read_nucleus(external_set, picture)
    pixels = external_set.read(picture)
    assert nucleus.shape == pixels.shape[:2] and nucleus.any()
    assert pixels[nucleus].mean() < pixels[~nucleus].mean()


def test_the_mask_of_a_photo_marks_its_cell_in_both_greys(tmp_path):
    drawn = np.zeros((480, 640), np.uint8)
    drawn[100:200, 300:400], drawn[120:150, 320:350], drawn[0, 0] = 155, 255, 40
    (tmp_path / "banik-masks").mkdir()
    for photo, mask in ((7, drawn), (8, drawn[:100])):
        cv2.imwrite(str(tmp_path / "banik-masks" / f"BloodImage_Mask_{photo:05d}.png"), mask)
    cell = external.read_cell(external.External(tmp_path), 7)
    assert cell.shape == (480, 640) and cell.sum() == 100 * 100 and cell[100:200, 300:400].all()
    for photo, reason in ((8, "not as large"), (9, r"missing; get it from https.*Banik")):
        with pytest.raises(BadDataError, match=reason):
            external.read_cell(external.External(tmp_path), photo)


def test_half_is_held_back_by_names_alone_in_any_order():
    names = [f"{i:03d}.bmp" for i in range(300)]
    held_back = pd.Series(external.hold_back(names), names)
    assert held_back.sum() == 150
    backwards = pd.Series(external.hold_back(names[::-1]), names[::-1])
    assert backwards[names].equals(held_back)
    hashes = {name: hashlib.sha256(name.encode()).hexdigest() for name in names}
    assert max(hashes[n] for n in names if held_back[n]) < min(hashes[n] for n in names if not held_back[n])


def test_of_the_whole_barcelona_set_the_same_pictures_are_chosen_whatever_else_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(external, "_MOST", 2)
    monkeypatch.setattr(external, "_MOST_OTHERS", 1)
    for kind in ("neutrophil", "platelet"):
        (tmp_path / "pbc" / kind).mkdir(parents=True)
        for i in range(6):
            (tmp_path / "pbc" / kind / f"{i}.jpg").write_bytes(f"{kind} {i % 5}".encode())
    found = {
        f"{kind}/{i}.jpg": hashlib.sha256(f"{kind} {i}".encode())
        for kind in ("neutrophil", "platelet")
        for i in range(5)
    }
    by_hash = sorted(found, key=lambda name: found[name].hexdigest())
    wanted = sorted([n for n in by_hash if n[0] == "n"][:2] + [n for n in by_hash if n[0] == "p"][:1])
    sha256 = combine({name: found[name].hexdigest() for name in wanted}).sha256
    source = external.SOURCES["pbc"]
    monkeypatch.setitem(external.SOURCES, "pbc", dataclasses.replace(source, sha256=sha256))
    table = external.list_pictures(external.External(tmp_path), "pbc")
    assert table.picture.tolist() == [f"pbc/{name}" for name in wanted]
    assert table.cell.tolist() == ["NEUTROPHIL", "NEUTROPHIL", ""]
    assert not np.any(table.held_back)
    (tmp_path / "pbc" / wanted[0]).write_bytes(b"another")
    with pytest.raises(BadDataError, match="is not the set"):
        external.list_pictures(external.External(tmp_path), "pbc")


# --- what is no smear


def test_what_is_drawn_is_the_same_every_time_and_no_two_are_alike():
    drawn, again = external.draw_not_smears(), external.draw_not_smears()
    assert {d.kind for d in drawn} == set(external._DRAWN)
    for one, same in zip(drawn, again, strict=True):
        assert one.picture.shape == (240, 320, 3) and one.picture.dtype == np.uint8
        assert np.array_equal(one.picture, same.picture)
    assert len({d.picture.tobytes() for d in drawn}) == len(drawn) == len({d.name for d in drawn})


def test_crops_are_of_what_scikit_learn_ships_and_other_pictures_and_a_missing_package_are_said(monkeypatch):
    shipped = ("sklearn", "datasets/images", external._LEARN_FILES)
    samples = external._read_samples(*shipped, external._LEARN_SHA256)
    assert sorted(samples) == ["china.jpg", "flower.jpg"]
    rng = np.random.default_rng(0)
    crops = [external._crop(samples["china.jpg"], rng) for _ in range(5)]
    assert len({c.tobytes() for c in crops}) == 5 and all(c.shape == (240, 320, 3) for c in crops)
    with pytest.raises(BadDataError, match="not hold the pictures of the version"):
        external._read_samples(*shipped, "0" * 64)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataNotFoundError, match="pip install scikit-image"):
        external.make_not_smears()


@pytest.mark.skipif(importlib.util.find_spec("skimage") is None, reason="needs scikit-image's pictures")
def test_there_are_two_hundred_of_them():
    made = external.make_not_smears()
    assert len(made) == len({m.picture.tobytes() for m in made}) == 200
