"""What the data sheet counts on the files. Pure functions of tables that other rooms read."""

from collections.abc import Mapping, Sequence

import pandas as pd

from wbc_lib.data import dataset
from wbc_lib.provenance import overlaps

_LEFT_OUT = "BASOPHIL"
#: Rows of the label table that name no single class, by their kind, and what readers call them.
_OTHER_KINDS = {"multi": "several cells", "unlabelled": "no label"}


def count_photos(index: pd.DataFrame, boxes: pd.DataFrame) -> dict[str, int]:
    """Count rows of the label table, photos and boxes.

    Parameters
    ----------
    index, boxes : DataFrame
        As `dataset.index_photos` and `dataset.read_boxes` give them.

    Returns
    -------
    dict
        ``dataset``; ``rows`` of the label table, and of these ``blank`` and ``blank_missing`` (without a photo, too),
        ``missing`` (labelled, without a photo) and ``basophil`` (with a photo); ``train`` and ``test``, photos that
        went there; ``boxed`` photos, ``no_boxes`` and ``no_wbc`` (without any box, and of a white cell);
        ``degenerate`` boxes.
    """
    blank = index.kind == "unlabelled"
    return {
        "photos": int(index.has_photo.sum()),
        "rows": len(index),
        "blank": int(blank.sum()),
        "blank_missing": int((blank & ~index.has_photo).sum()),
        "missing": int((~blank & ~index.has_photo).sum()),
        "basophil": int((find_single(index).labels == _LEFT_OUT).sum()),
        "train": int((index.split == "TRAIN").sum()),
        "test": int((index.split == "TEST").sum()),
        "boxed": int(boxes.photo.nunique()),
        "no_boxes": int((index.has_photo & ~index.has_boxes).sum()),
        "no_wbc": int((index.has_photo & (index.n_wbc == 0)).sum()),
        "degenerate": int(boxes.is_degenerate.sum()),
    }


def find_single(index: pd.DataFrame) -> pd.DataFrame:
    """The rows of `dataset.index_photos` with a photo and one label."""
    return index[(index.kind == "single") & index.has_photo]


def tabulate_composition(index: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Count what there is of each label, and what was made of it.

    Parameters
    ----------
    index, images : DataFrame
        As `dataset.index_photos` and `dataset.list_images` give them.

    Returns
    -------
    DataFrame
        A row per class, then one per other kind of label, all named for readers.
    """
    single = index[index.kind == "single"]
    parts = {cell.capitalize(): single[single.labels == cell] for cell in (*dataset.CLASSES, _LEFT_OUT)}
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

    Parameters
    ----------
    index : DataFrame
        As `dataset.index_photos` gives it.
    pairs : DataFrame
        As `evidence.describe_pairs` gives it.
    """
    linked = pairs[pairs.same_cell]
    return {s: overlaps.group(sorted(index.index[index.split == s]), linked).nunique() for s in ("TRAIN", "TEST")}


def copies_per_photo(table: pd.DataFrame, index: pd.DataFrame) -> pd.Series:
    """Median number of images made from a photo, by class.

    Parameters
    ----------
    table : DataFrame
        Provenance, as `provenance.read` gives it.
    index : DataFrame
        As `dataset.index_photos` gives it.
    """
    copies = table[~table.image.str.startswith("TEST_SIMPLE")].groupby("photo").size()
    return copies.groupby(index.labels.reindex(copies.index)).median()


def tell_basis(title: str, is_phantom: bool) -> str:
    """On which files the page is counted."""
    other = " The text is about the real set, of which the figures are others." if is_phantom else ""
    return f"Figures on this page are counted on {title}.{other}"


def tell_labels(pairs: pd.DataFrame) -> str:
    """How often a white cell that was labelled twice bears two labels; takes what `evidence.describe_pairs` gives."""
    twice = int(pairs.is_labelled_twice.sum())
    if not twice:
        return "No white cell of these files was labelled in two photos."
    return (
        f"{int(pairs.is_torn.sum())} of {twice} white cells that were labelled in two photos bear two different labels."
    )


def tell_exposed(pairs: pd.DataFrame, table: pd.DataFrame) -> str:
    """How much of TEST shows cells that are in TRAIN, too.

    Parameters
    ----------
    pairs : DataFrame
        As `evidence.describe_pairs` gives it.
    table : DataFrame
        Provenance, as `provenance.read` gives it.
    """
    exposed: Sequence[int] = overlaps.seen_in_training(pairs[pairs.same_cell], table)
    if not len(exposed):
        return "In these files no white cell is in both TRAIN and TEST."
    test = table[table.image.str.startswith("TEST/")]
    return (
        f"{len(exposed)} photos of TEST show a white cell that is in a photo of TRAIN too; they make up "
        f"{test.photo.isin(exposed).mean():.1%} of its images."
    )


def tell_boxes(boxes: pd.DataFrame) -> str:
    """How many boxes there are of what; takes what `dataset.read_boxes` gives."""
    return ", ".join(f"{n:,} {name}" for name, n in boxes.cell.value_counts().items())


def tell_missing(counts: Mapping[str, int]) -> str:
    """How many labelled rows lack a photo, as a word where it is a short one; takes what `count_photos` gives."""
    return {0: "none", 1: "one"}.get(counts["missing"], f"{counts['missing']}")
