import math
import os
import shutil

import kagglehub
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.damaging import damages, read_or_refuse
from wbc_lib.data import dataset, splits
from wbc_lib.data.phantoms import Box, boxes_xml
from wbc_lib.errors import BadDataError, DataNotFoundError

HEADER = ",Image,Category\n"


def voc(*boxes: tuple[str, object, object, object, object]) -> str:
    return boxes_xml(tuple(Box(*box) for box in boxes))


@given(
    st.dictionaries(
        st.integers(0, 99999),
        st.lists(st.sampled_from([*dataset.CLASSES, "BASOPHIL"]), max_size=3).map(tuple),
        max_size=20,
    ),
    st.sampled_from([",", ", ", " , "]),
    st.sampled_from(["", "\ufeff"]),
)
def test_any_table_of_known_classes_is_read_back(labels, comma, mark):
    # Several classes are in quotation marks, a blank label and a blank row are neither faults nor classes.
    shown = {n: f'"{comma.join(names)}"' if len(names) > 1 else "".join(names) for n, names in labels.items()}
    text = mark + HEADER + "\n" + "".join(f",{n},{names}\n" for n, names in shown.items())
    assert dataset.parse_labels(text) == labels


@pytest.mark.parametrize(
    "row, complaint",
    [
        (",5,NEUTROPHYL", "line 3.*NEUTROPHYL"),
        (",0,MONOCYTE", "line 3.*twice"),
        (",x,MONOCYTE", "line 3.*expected"),
        (",-1,MONOCYTE", "line 3.*expected"),
        ("5,MONOCYTE", "line 3.*expected"),
        (",5,MONOCYTE,extra", "line 3.*expected"),
        ("x,5,MONOCYTE", "line 3.*expected"),
        (',5,"MONOCYTE', "line 3.*unexpected end"),
    ],
)
def test_a_malformed_row_is_named_with_its_line(row, complaint):
    with pytest.raises(BadDataError, match=complaint):
        dataset.parse_labels(HEADER + ",0,NEUTROPHIL\n" + row + "\n")


def test_a_table_that_is_missing_or_no_text_is_named(phantom_copy):
    phantom_copy.labels_path.write_bytes(b"\xff\xfe,Image")
    with pytest.raises(BadDataError, match=r"labels\.csv is not UTF-8"):
        dataset.read_labels(phantom_copy)
    phantom_copy.labels_path.unlink()
    with pytest.raises(BadDataError, match=r"labels\.csv: is missing"):
        dataset.read_labels(phantom_copy)


@pytest.mark.parametrize(
    "box",
    [("RBC", 9, 0, 3, 5), ("RBC", 0, 0, 641, 5), ("RBC", -1, 0, 3, 5), ("Cat", 0, 0, 3, 5)]
    + [("WBC", corner, 2, 300, 400) for corner in ("nan", "1_0", "٣", "1.0", "9" * 5000, "")],
)
def test_an_impossible_box_is_named_with_its_file_and_number(box):
    with pytest.raises(BadDataError, match=r"a\.xml, box 2"):
        dataset.parse_boxes(voc(("WBC", 0, 0, 9, 9), box), "a.xml")


@given(st.lists(st.tuples(*[st.integers(0, 480)] * 4), max_size=5))
def test_any_boxes_inside_the_photo_are_read_back(corners):
    boxes = [("RBC", min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners]
    found = dataset.parse_boxes(voc(*boxes), "a.xml")
    assert [tuple(row)[:5] for row in found.itertuples(index=False)] == boxes
    assert found.is_degenerate.tolist() == [c - a < 2 or d - b < 2 for _, a, b, c, d in boxes]


def test_broken_and_malicious_xml_is_refused():
    laughs = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 10))
    bomb = f'<!DOCTYPE a [<!ENTITY e0 "ha">{laughs}]><annotation>&e9;</annotation>'
    outside = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><annotation>&x;</annotation>'
    for text in (bomb, outside, "<annotation>", "", "no xml", voc()[:-3]):
        with pytest.raises(BadDataError, match=r"a\.xml is not a readable box file"):
            dataset.parse_boxes(text, "a.xml")


@pytest.mark.parametrize("raw", ["dataset-master/dataset-master", "dataset-master", "."])
@pytest.mark.parametrize(
    "augmented", ["dataset2-master/dataset2-master/images", "dataset2-master/images", "images", "."]
)
def test_the_layouts_that_users_meet_are_recognised(tmp_path, raw, augmented):
    (tmp_path / raw / "JPEGImages").mkdir(parents=True)
    (tmp_path / augmented / "TRAIN").mkdir(parents=True)
    data = dataset.open_folder(tmp_path)
    assert data.raw.samefile(tmp_path / raw)
    assert data.augmented.samefile(tmp_path / augmented)


def test_what_is_not_there_is_said_with_the_remedy(tmp_path):
    (tmp_path / "raw/dataset-master/JPEGImages").mkdir(parents=True)
    (tmp_path / "augmented/dataset2-master/images/TRAIN").mkdir(parents=True)
    for name, remedy in {
        "nowhere": "no folder.*WBC_DATA",
        ".": "holds no blood-cell data set.*wbc data phantoms",
        "raw": "no dataset2-master; unpack that too",
        "augmented": "no dataset-master; unpack that too",
    }.items():
        with pytest.raises(DataNotFoundError, match=remedy):
            dataset.open_folder(tmp_path / name)


@pytest.mark.parametrize(
    "wrong, right",
    [
        ("dataset2-master/images/Train", "dataset2-master/images/TRAIN"),
        ("dataset2-master/Images", "dataset2-master/images"),
        ("Dataset2-Master", "dataset2-master"),
        ("dataset-master/jpegimages", "dataset-master/JPEGImages"),
        ("DATASET-MASTER", "dataset-master"),
    ],
)
def test_a_folder_named_in_another_case_is_told_and_renaming_it_helps(tmp_path, wrong, right):
    (tmp_path / "dataset-master/JPEGImages").mkdir(parents=True)
    (tmp_path / "dataset2-master/images/TRAIN").mkdir(parents=True)
    (tmp_path / right).rename(tmp_path / wrong)
    name = right.rsplit("/", maxsplit=1)[-1]
    with pytest.raises(DataNotFoundError, match=f"{tmp_path / wrong} should be called {name}; rename it"):
        dataset.open_folder(tmp_path)
    (tmp_path / wrong).rename(tmp_path / right)
    dataset.open_folder(tmp_path)


def test_a_copy_of_an_image_or_photo_is_not_taken_for_one(phantom_copy):
    images, numbers = dataset.list_images(phantom_copy), dataset.list_photos(phantom_copy)
    image, photo = phantom_copy.image_path(images.image[0]), phantom_copy.photo_path(numbers[0])
    for original, look in ((image, dataset.list_images), (photo, dataset.list_photos)):
        copy = original.with_name(f"{original.stem} (1){original.suffix}")
        shutil.copy(original, copy)
        with pytest.raises(BadDataError, match=r"\(1\).*has no name of this set; remove it"):
            look(phantom_copy)
        copy.unlink()
        look(phantom_copy)


def test_a_named_folder_beats_the_environment_which_beats_the_cache(tmp_path, monkeypatch):
    for name in ("named", "environment", "cache/blood-cells"):
        (tmp_path / name / "dataset-master/JPEGImages").mkdir(parents=True)
        (tmp_path / name / "dataset2-master/images/TRAIN").mkdir(parents=True)
    monkeypatch.setenv("WBC_CACHE", str(tmp_path / "cache"))
    assert dataset.find().root == tmp_path / "cache/blood-cells"
    monkeypatch.setenv("WBC_DATA", str(tmp_path / "environment"))
    assert dataset.find().root == tmp_path / "environment"
    assert dataset.find(tmp_path / "named").root == tmp_path / "named"


def test_a_download_that_fails_is_said_with_the_remedy(tmp_path, monkeypatch):
    def fail(name):
        raise ConnectionError("no route")

    monkeypatch.setenv("WBC_CACHE", str(tmp_path))
    monkeypatch.setattr(kagglehub, "dataset_download", fail)
    with pytest.raises(DataNotFoundError, match=r"could not be downloaded \(ConnectionError\).*--data DIR"):
        dataset.find()


def test_what_file_managers_leave_behind_is_no_image_and_no_photo(phantom_copy):
    images, numbers = dataset.list_images(phantom_copy), dataset.list_photos(phantom_copy)
    for folder in (phantom_copy.augmented / "TRAIN" / "MONOCYTE", phantom_copy.raw / "JPEGImages"):
        for name in (".DS_Store", "._a.jpeg", "Thumbs.db", "a.txt"):
            (folder / name).write_bytes(b"x")
    pd.testing.assert_frame_equal(dataset.list_images(phantom_copy), images)
    assert dataset.list_photos(phantom_copy) == numbers


@pytest.mark.parametrize("rows", ["", ",0,NEUTROPHIL\n", ",99998,MONOCYTE\n,99999,MONOCYTE\n", ",0,\n,1,\n"])
def test_labels_that_leave_nothing_to_be_split_are_a_fault_of_the_table(phantom_copy, rows):
    phantom_copy.labels_path.write_text(HEADER + rows)
    with pytest.raises(BadDataError, match=r"labels\.csv names the class of fewer than two photos"):
        dataset.index_photos(phantom_copy)


@pytest.mark.parametrize(
    "make, complaint",
    [
        (lambda p: p.mkdir(), "no plain file"),
        (os.mkfifo, "no plain file"),
        (lambda p: p.symlink_to(p), "cannot be read"),
        (lambda p: p.touch(), "the file is empty"),
        (lambda p: p.write_bytes(bytes(dataset.MAX_BYTES + 1)), "2,000,001 bytes is too large"),
        (lambda p: None, "is missing"),
    ],
    ids=["folder", "pipe", "ring", "empty", "large", "missing"],
)
def test_what_is_no_file_of_a_data_set_is_not_opened(tmp_path, make, complaint):
    make(tmp_path / "x")
    with pytest.raises(BadDataError, match=f"{tmp_path / 'x'}: .*{complaint}.*; restore it from the archive"):
        dataset.read_file(tmp_path / "x")


@pytest.mark.parametrize("name", [b"\xff.jpeg", "é.jpeg".encode(), b"a\nb.jpeg"])
def test_an_image_whose_name_would_not_survive_in_a_table_is_refused(phantom_copy, name):
    (phantom_copy.augmented / "TEST" / "MONOCYTE" / os.fsdecode(name)).write_bytes(b"x")
    with pytest.raises(BadDataError, match=r"TEST/MONOCYTE/'.*has no name of this set; remove it") as caught:
        dataset.list_images(phantom_copy)
    assert str(caught.value).isprintable()


def test_the_index_tells_what_lies_in_the_folders(phantom_set):
    index, labels = dataset.index_photos(phantom_set), dataset.read_labels(phantom_set)
    assert set(index.index) == {*labels, *dataset.list_photos(phantom_set)}
    assert set(index.kind) == {"single", "multi", "unlabelled"}
    for photo, row in index.iterrows():
        boxes = phantom_set.annotation_path(photo)
        text = boxes.read_text() if boxes.exists() else ""
        assert row.n_wbc == text.count("<name>WBC</name>")
        assert (row.has_photo, row.has_boxes) == (phantom_set.photo_path(photo).exists(), boxes.exists())
        assert row.kind == ("unlabelled", "single", "multi")[min(len(labels[photo]), 2)]


@given(st.data(), st.integers(2, 60))
def test_the_split_is_the_one_that_the_recipe_draws(data, n):
    kinds = data.draw(st.lists(st.sampled_from(["single"] * 6 + ["multi", "unlabelled"]), min_size=n, max_size=n))
    on_disk = data.draw(st.lists(st.sampled_from([True] * 8 + [False]), min_size=n, max_size=n))
    cells = data.draw(st.lists(st.sampled_from([*dataset.CLASSES, "BASOPHIL"]), min_size=n, max_size=n))
    index = pd.DataFrame({"kind": kinds, "has_photo": on_disk, "labels": cells})
    eligible = np.flatnonzero((index.kind == "single") & index.has_photo)
    assume(len(eligible) >= 2)
    # What scikit-learn's train_test_split does, by hand.
    order = np.random.RandomState(10).permutation(len(eligible))
    n_test = math.ceil(0.2 * len(eligible))
    expected = np.full(n, "", dtype="U5")
    expected[eligible[order[:n_test]]], expected[eligible[order[n_test:]]] = "TEST", "TRAIN"
    expected[index.labels == "BASOPHIL"] = ""
    assert splits.published_split(index).tolist() == expected.tolist()


def test_the_published_facts_hold(real_set):
    images, index = dataset.list_images(real_set), dataset.index_photos(real_set)
    assert len(images) == 12_515
    counts = images.groupby(["split", "cell"]).size().unstack()
    for split, row in dataset.PUBLISHED_COUNTS.items():
        assert counts.loc[split].to_dict() == row
    assert index.has_photo.sum() == dataset.PUBLISHED_PHOTOS
    assert index.has_boxes.sum() == 364
    assert len(dataset.read_boxes(real_set).query("is_degenerate")) == 2
    assert index.split.value_counts().to_dict() == {"TRAIN": 277, "TEST": 71, "": 63}
    test = index[index.split == "TEST"].labels.value_counts().to_dict()
    # The folder of un-augmented TEST images has as many of each class as the recipe's split has photos.
    assert test == dataset.PUBLISHED_COUNTS["TEST_SIMPLE"]


@given(damage=damages())
def test_damaged_labels_and_boxes_are_refused_or_read(damage, phantom_set):
    text = damage(phantom_set.labels_path.read_bytes()).decode("utf-8", "replace")
    labels = read_or_refuse(dataset.parse_labels, text)
    assert labels is None or all(isinstance(number, int) for number in labels)
    path = phantom_set.annotation_path(dataset.list_annotations(phantom_set)[0])
    boxes = read_or_refuse(dataset.parse_boxes, damage(path.read_bytes()), path.name)
    assert boxes is None or (boxes.xmin.between(0, 640) & boxes.ymax.between(0, 480)).all()
