"""What the data's card counts on the files. Pure functions of tables that other packages read."""

import pandas as pd

from wbc_lib.data import dataset
from wbc_lib.provenance import overlaps

#: Rows of the label table that name no single class, by their kind, and what readers call them.
_OTHER_KINDS = {"multi": "several cells", "unlabelled": "no label"}


def tabulate_composition(index: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Count what there is of each label, and what was made of it: a row per class, then one per other kind of label.

    Takes what `dataset.index_photos` and `dataset.list_images` give.
    """
    single = index[index.kind == "single"]
    parts = {cell.capitalize(): single[single.labels == cell] for cell in (*dataset.CLASSES, "BASOPHIL")}
    parts |= {title: index[index.kind == kind] for kind, title in _OTHER_KINDS.items()}
    made = images.groupby([images.cell.str.capitalize(), "split"]).size()
    rows = {
        title: {
            "label rows": len(part),
            "photos": part.has_photo.sum(),
            "with boxes": part.has_boxes.sum(),
            "photos in TRAIN": (part.split == "TRAIN").sum(),
            "in TEST": (part.split == "TEST").sum(),
            "images in TRAIN": made.get((title, "TRAIN"), 0),
            "images in TEST": made.get((title, "TEST"), 0),
        }
        for title, part in parts.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").astype(int)


def count_cells(index: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, int]:
    """How many different white cells TRAIN and TEST show at most.

    Takes what `dataset.index_photos` and `evidence.describe_pairs` give.
    """
    linked = pairs[pairs.same_cell]
    return {s: overlaps.group(sorted(index.index[index.split == s]), linked).nunique() for s in ("TRAIN", "TEST")}
