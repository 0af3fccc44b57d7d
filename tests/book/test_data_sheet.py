import pandas as pd
import pytest

from wbc_lib.book import data_sheet
from wbc_lib.data import dataset
from wbc_lib.provenance import trace


@pytest.fixture(scope="module")
def index(phantom_set):
    return dataset.index_photos(phantom_set)


def test_counts_agree_with_the_files(phantom_set, index):
    counts = data_sheet.count_photos(index, dataset.read_boxes(phantom_set))
    assert counts["photos"] == len(list(phantom_set.raw.glob("JPEGImages/*.jpg")))
    assert counts["photos"] - counts["no_boxes"] == len(list(phantom_set.raw.glob("Annotations/*.xml")))
    lines = phantom_set.labels_path.read_text().splitlines()[1:]
    assert counts["rows"] == sum(bool(line.strip()) for line in lines)
    single = data_sheet.find_single(index)
    assert counts["train"] + counts["test"] == len(single[single.split != ""])


def test_the_composition_adds_up(phantom_set, index):
    images = dataset.list_images(phantom_set)
    table = data_sheet.tabulate_composition(index, images)
    assert table["label rows"].sum() == len(index)
    assert table["photos"].sum() == index.has_photo.sum()
    for split in ("TRAIN", "TEST"):
        heading = "in TEST" if split == "TEST" else "photos in TRAIN"
        assert table[heading].sum() == (index.split == split).sum()
        assert table[f"images in {split}"].sum() == (images.split == split).sum()
    assert list(table.index[:4]) == [cell.capitalize() for cell in dataset.CLASSES]


def test_copies_are_counted_per_photo(phantom_set, index):
    table = trace.read(phantom_set)
    copies = data_sheet.copies_per_photo(table, index)
    for cell in dataset.CLASSES:
        own = table[table.image.str.contains(f"/{cell}/") & ~table.image.str.startswith("TEST_SIMPLE")]
        assert copies[cell] == own.photo.value_counts().median()


def made_index(labels: dict[int, str], split: dict[int, str]) -> pd.DataFrame:
    return pd.DataFrame({"labels": labels, "split": split})


def test_photos_of_one_cell_count_once():
    index = made_index(
        dict.fromkeys(range(1, 6), "NEUTROPHIL"), {1: "TRAIN", 2: "TRAIN", 3: "TRAIN", 4: "TEST", 5: "TEST"}
    )
    pairs = pd.DataFrame({"photo": [1, 3, 4], "other": [2, 4, 5], "same_cell": [True, True, False]})
    assert data_sheet.count_cells(index, pairs) == {"TRAIN": 2, "TEST": 2}


def test_cells_on_both_sides_are_told_by_their_share_of_the_images():
    table = pd.DataFrame(
        {"image": ["TRAIN/a", "TEST/a", "TEST/b", "TEST/c", "TEST_SIMPLE/a"], "photo": [3, 4, 4, 5, 4]}
    )
    pairs = pd.DataFrame({"photo": [3], "other": [4], "same_cell": [True]})
    told = data_sheet.tell_exposed(pairs, table)
    assert told.startswith("1 photos of TEST show") and told.endswith("they make up 66.7% of its images.")
    assert "no white cell is in both" in data_sheet.tell_exposed(pairs.assign(same_cell=False), table)


def test_words():
    assert data_sheet.tell_basis("phantoms", True).startswith("Figures on this page are counted on phantoms. The text")
    assert data_sheet.tell_basis("photos", False) == "Figures on this page are counted on photos."
    pairs = pd.DataFrame({"is_labelled_twice": [True, True, False], "is_torn": [True, False, False]})
    assert data_sheet.tell_labels(pairs).startswith("1 of 2 white cells")
    assert "No white cell" in data_sheet.tell_labels(pairs[2:])
    assert data_sheet.tell_boxes(pd.DataFrame({"cell": ["RBC"] * 1200 + ["WBC"]})) == "1,200 RBC, 1 WBC"
    assert [data_sheet.tell_missing({"missing": n}) for n in (0, 1, 7)] == ["none", "one", "7"]
