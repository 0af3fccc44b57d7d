import pandas as pd
import pytest

from wbc_lib.book import data_sheet
from wbc_lib.data import dataset


@pytest.fixture(scope="module")
def index(phantom_set):
    return dataset.index_photos(phantom_set)


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


def made_index(labels: dict[int, str], split: dict[int, str]) -> pd.DataFrame:
    return pd.DataFrame({"labels": labels, "split": split})


def test_photos_of_one_cell_count_once():
    index = made_index(
        dict.fromkeys(range(1, 6), "NEUTROPHIL"), {1: "TRAIN", 2: "TRAIN", 3: "TRAIN", 4: "TEST", 5: "TEST"}
    )
    pairs = pd.DataFrame({"photo": [1, 3, 4], "other": [2, 4, 5], "same_cell": [True, True, False]})
    assert data_sheet.count_cells(index, pairs) == {"TRAIN": 2, "TEST": 2}
