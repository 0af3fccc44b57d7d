"""The predictions on TEST photo by photo: which photos carry the result, and which spoil it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib.data.dataset import CLASSES, DataSet
from wbc_lib.data.images import read_image
from wbc_lib.evaluation import intervals
from wbc_lib.provenance.boxes import white_cells
from wbc_lib.training.runs import Run

#: The scores that are given intervals, by the name a reader sees.
SCORES: dict[str, intervals.Statistic] = {
    "accuracy": intervals.accuracy,
    "macro-F1": intervals.macro_f1,
    **{f"recall, {cell.lower()}": intervals.of_class(intervals.recalls, cell) for cell in CLASSES},
    **{f"precision, {cell.lower()}": intervals.of_class(intervals.precisions, cell) for cell in CLASSES},
}
#: Those that are the share of a fixed set of images: of all, or of a class.
SHARES = ["accuracy", *(f"recall, {cell.lower()}" for cell in CLASSES)]

#: What can be seen in photos of the published TEST that weigh most. Remarks, not a haematologist's opinion.
SEEN = {
    1: "a swollen, pale cell with one separate lobe, cut by the lower edge; it looks damaged",
    6: "pale lobes, wedged between red cells",
    26: "cut by the upper edge; red granules on one side, a bluish nucleus on the other",
    50: "several dark lobes, partly behind a red cell",
    67: "a C-shaped dark nucleus in a narrow pink rim",
    68: "cut by the left edge; a dark, crumpled nucleus, and no coarse granules to be seen",
    77: "a folded dark nucleus in a narrow pink rim",
    82: "two lobes in evenly pink cytoplasm, as in many eosinophils: an expert might question the label",
    91: "cut by the upper edge; a dark ring of a nucleus and hardly any cytoplasm",
    93: "cut by the upper edge; a dark nucleus, a little pink cytoplasm without coarse granules",
    110: (
        "pink rather than blue-grey cytoplasm, no vacuoles, and a small stalked knob on the nucleus, which "
        "neutrophils may have: an expert might question the label"
    ),
    126: "lobes in a horseshoe, finely stained cytoplasm",
    139: "cut by the lower edge; four lobes and pink cytoplasm without coarse granules",
    142: "four lobes in finely stained cytoplasm",
    150: "a folded dark nucleus in a narrow pink rim",
    163: "a long nucleus bent into a horseshoe, wide cytoplasm",
    214: "several dark lobes spread over the cell",
    272: "cut by the left edge; lobes in a ring, wide pink cytoplasm",
    345: "cut by the corner; coarse red granules, and three lobes spread wide",
}


@dataclass(frozen=True)
class HoldOut:
    """The predictions of one or more runs on TEST, counted photo by photo.

    Attributes
    ----------
    photos : ndarray of int, shape (photos,)
        Ascending.
    counts : ndarray of int, shape (runs, photos, 4, 5)
        A confusion matrix per run and photo, as `intervals.group_counts` gives it.
    """

    photos: NDArray[np.int64]
    counts: NDArray[np.int64]

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        """Mean over the runs, shape (photos, 4, 5)."""
        return self.counts.mean(axis=0)

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """Confusion matrix of all photos, mean over the runs, shape (4, 5)."""
        return self.mean.sum(axis=0)

    @cached_property
    def copies(self) -> NDArray[np.int64]:
        """Images of each photo, shape (photos,)."""
        return self.counts[0].sum(axis=(1, 2))

    @cached_property
    def right(self) -> NDArray[np.float64]:
        """Images of each photo that are predicted right, mean over the runs, shape (photos,)."""
        return np.trace(self.mean, axis1=1, axis2=2)

    @cached_property
    def cells(self) -> NDArray[np.str_]:
        """True class of each photo, shape (photos,)."""
        return np.array(CLASSES)[self.counts[0].sum(axis=2).argmax(axis=1)]

    @cached_property
    def right_by_run(self) -> NDArray[np.float64]:
        """Share of each photo's copies that each run predicts right, shape (runs, photos)."""
        return np.trace(self.counts, axis1=2, axis2=3) / self.copies

    def of(self, cell: str) -> "HoldOut":
        """The photos of one class."""
        return self.only(self.cells == cell)

    def only(self, chosen: NDArray[np.bool_]) -> "HoldOut":
        """The photos that are chosen, shape (photos,)."""
        return HoldOut(self.photos[chosen], self.counts[:, chosen])

    def of_run(self, run: int) -> "HoldOut":
        """One of the runs, by its place."""
        return self.with_counts(self.counts[run])

    def with_counts(self, counts: NDArray[np.int64]) -> "HoldOut":
        """The same photos with the predictions of another run, shape (photos, 4, 5)."""
        return HoldOut(self.photos, counts[None])

    def weights(self, *, by_class: bool = True, resamples: int = 10_000) -> NDArray[np.int32]:
        """Draw photos anew (see `intervals.group_weights`), within each class or regardless of it."""
        return intervals.group_weights(self.photos, resamples, strata=self.cells if by_class else None)


def count_photos(runs: Sequence[Run], table: pd.DataFrame) -> HoldOut:
    """Count the predictions of runs on TEST by the photo each image was made from.

    Parameters
    ----------
    runs : sequence of Run
        At least one, all scored on the same images.
    table : DataFrame
        Provenance, with ``image`` and ``photo``.

    Raises
    ------
    ValueError
        If the runs were scored on different images, or an image is not in the table.
    """
    source = table.set_index("image").photo
    names = runs[0].names("test")
    if not pd.Index(names).isin(source.index).all():
        raise ValueError("the table of provenance lacks images of TEST; trace the images these runs were scored on")
    if any((run.names("test") != names).any() for run in runs):
        raise ValueError("these runs were scored on different images")
    photos = source.loc[names].to_numpy()
    counts = [intervals.group_counts(run.labels("test"), run.predicted("test"), photos) for run in runs]
    return HoldOut(np.unique(photos), np.stack(counts))


def tabulate_classes(found: HoldOut) -> pd.DataFrame:
    """Tell what TEST is made of: per class its photos, their images, and the share of TEST that one photo can have."""
    photos = pd.DataFrame({"cell": found.cells, "copies": found.copies}).groupby("cell").copies
    table = photos.agg(["size", "sum", "min", "max"]).reindex([c for c in CLASSES if c in found.cells])
    table.columns = ["photos", "images", "fewest copies", "most copies"]
    table["largest share of TEST"] = table["most copies"] / found.copies.sum()
    return table.rename(index=str.capitalize)


def tabulate_photos(found: HoldOut) -> pd.DataFrame:
    """Describe every photo: how it fares, and what the result owes to it.

    Returns
    -------
    DataFrame
        Indexed by ``photo``: ``cell``, ``copies``, ``right`` (share of them, mean over runs), ``taken_for`` (the class
        its wrong copies are given most often, "" if none is wrong), ``share`` (of TEST's images) and ``influence``:
        by how much the accuracy would rise without it.
    """
    wrong = found.mean * ~np.eye(*found.matrix.shape, dtype=bool)
    names = np.array([*CLASSES, "none"])
    taken_for = np.where(wrong.sum(axis=(1, 2)) > 0, names[wrong.sum(axis=1).argmax(axis=1)], "")
    without = intervals.accuracy(intervals.leave_one_out(found.mean))
    return pd.DataFrame(
        {
            "cell": found.cells,
            "copies": found.copies,
            "right": found.right / found.copies,
            "taken_for": taken_for,
            "share": found.copies / found.copies.sum(),
            "influence": without - float(intervals.accuracy(found.matrix)),
        },
        index=pd.Index(found.photos, name="photo"),
    )


def most_decisive(photos: pd.DataFrame, n: int) -> pd.DataFrame:
    """The rows of `tabulate_photos` without which the accuracy would change most, in either direction."""
    return photos.loc[photos.influence.abs().sort_values(ascending=False, kind="stable").index[:n]]


def leave_each_out(found: HoldOut) -> pd.DataFrame:
    """The range of each score when any one photo is left out.

    Returns
    -------
    DataFrame
        A row per score of `SHARES`: ``all``, ``lowest`` and ``without_lowest`` (the photo left out), ``highest`` and
        ``without_highest``. Where the class has but one photo, only leaving out others counts; scores that are then
        undefined have no row.
    """
    left = intervals.leave_one_out(found.mean)
    rows = {}
    for score in SHARES:
        values = SCORES[score](left)
        if np.isnan(values).all():
            continue
        low, high = int(np.nanargmin(values)), int(np.nanargmax(values))
        rows[score] = {
            "all": float(SCORES[score](found.matrix)),
            "lowest": values[low],
            "without_lowest": found.photos[low],
            "highest": values[high],
            "without_highest": found.photos[high],
        }
    return pd.DataFrame(rows.values(), index=list(rows))


def write_left_out(found: HoldOut) -> pd.DataFrame:
    """`leave_each_out` for readers: ``all photos``, ``lowest`` and ``highest``, each naming the photo left out."""
    table = leave_each_out(found)
    return pd.DataFrame(
        {
            "all photos": table["all"].map("{:.1%}".format),
            "lowest": [f"{r.lowest:.1%} without {r.without_lowest}" for r in table.itertuples()],
            "highest": [f"{r.highest:.1%} without {r.without_highest}" for r in table.itertuples()],
        },
    ).rename(index=str.capitalize)


def write_decisive(photos: pd.DataFrame, others: HoldOut | None) -> pd.DataFrame:
    """Describe photos for readers, beside how other networks fare with them.

    Parameters
    ----------
    photos : DataFrame
        Rows of `tabulate_photos`.
    others : HoldOut, optional
        Of other networks on the same photos.
    """
    table = pd.DataFrame(
        {
            "labelled": photos.cell.str.lower(),
            "of TEST": photos.share.map("{:.1%}".format),
            "right": photos.right.map("{:.0%}".format),
        }
    )
    if others is not None:
        by_run = pd.DataFrame(others.right_by_run, columns=others.photos)[photos.index]
        table["other networks"] = [
            f"{c.min():.0%} to {c.max():.0%}, median {c.median():.0%}" for _, c in by_run.items()
        ]
    table["taken for"] = photos.taken_for.str.lower().replace("", "–")
    table["accuracy without it"] = [f"{100 * change:+.1f}" for change in photos.influence]
    return table.rename(index="photo {}".format)


def vote(found: HoldOut) -> pd.Series:
    """Let the copies of each photo vote: the class most of them are given, over all runs; "none" is possible."""
    names = np.array([*CLASSES, "none"])
    return pd.Series(names[found.mean.sum(axis=1).argmax(axis=1)], pd.Index(found.photos, name="photo"))


def find_doubted(photos: Sequence[int]) -> list[int]:
    """Those of some photos of the published TEST whose label `SEEN` has a doubt about, ascending."""
    return sorted(photo for photo in photos if "question the label" in SEEN.get(photo, ""))


def read_pictures(data: DataSet, photos: pd.DataFrame) -> list[tuple[str, NDArray[np.uint8], tuple[int, ...] | None]]:
    """Read photos as `certainty.draw_photos_and_cells` shows them.

    Parameters
    ----------
    data : DataSet
    photos : DataFrame
        Rows of `tabulate_photos`.

    Returns
    -------
    list of (title, image, box)
        Image: uint8 (height, width, RGB). Box: xmin, ymin, xmax, ymax of the first white cell, ``None`` if there is
        no box that can be used.

    Raises
    ------
    BadDataError
        If a photo cannot be read.
    """
    boxes = white_cells(data).drop_duplicates("photo").set_index("photo")
    pictures = []
    for photo, row in photos.iterrows():
        box = tuple(int(edge) for edge in boxes.loc[photo]) if photo in boxes.index else None
        title = f"{photo}: {row.cell.lower()}, {row.right:.0%} right"
        pictures.append((title, read_image(data.photo_path(int(photo))), box))
    return pictures
