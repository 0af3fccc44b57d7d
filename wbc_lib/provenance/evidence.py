"""What speaks for a traced table besides its own figures: pixels, runners-up, the truth of phantoms, hidden photos."""

from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib.data.dataset import IMAGE_SIZE, DataSet, read_labels
from wbc_lib.data.images import affine_maps, map_in_threads, read_image, read_reduced, to_grey, warp
from wbc_lib.provenance.boxes import white_cells
from wbc_lib.provenance.overlaps import find_shared_cells
from wbc_lib.provenance.registration import detect, find_source, footprint, index_sources, read_source, register

#: A runner-up is a rival if it has more than this share of the inliers: then the pixels decide, as in `registration`.
RIVAL = 0.5
#: What may have become of two photos of one field.
SIDES = ("both in TRAIN", "both in TEST", "one in TRAIN, one in TEST", "one not used")
#: Of the photos without a twin, each how-manieth is hidden by `trace_with_photos_hidden`.
_HIDE_EACH = 4


def reproduce(data: DataSet, row: pd.Series) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Make an image again from the photo and the map that a row of the traced table names for it.

    Gives the image as published, and the photo reduced, moved and brightened.
    """
    moved = warp(read_reduced(data, row.photo), _affine(row)) * row.gain
    return read_image(data.image_path(row.image)), np.clip(np.rint(moved), 0, 255).astype(np.uint8)


def predict_gain(data: DataSet, row: pd.Series) -> float:
    """How much brighter than its photo a traced image is if its brightest value was raised to 255.

    Keras does that to every image that it saves (``array_to_img`` with ``scale=True``).
    """
    return 255 / float(warp(read_reduced(data, row.photo), _affine(row)).max())


def _affine(row: pd.Series) -> NDArray[np.float64]:
    return affine_maps(row.to_frame().T)[0]


def compare_with_truth(table: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Hold a traced table against the truth that is written beside phantoms (see `phantoms.read_truth`).

    In the order of `table`: ``image``, ``photo_is_right``, ``mirrored_is_right``, and ``miss``, by how many pixels of
    the 320x240 image the map misses at the corner where it misses most.
    """
    true = truth.set_index("image").loc[table.image].reset_index()
    width, height = IMAGE_SIZE
    corners = np.array([[0, 0, 1], [width - 1, 0, 1], [0, height - 1, 1], [width - 1, height - 1, 1]]).T
    moved_to, truly_at = (affine_maps(t) @ corners for t in (table, true))
    return pd.DataFrame(
        {
            "image": table.image.to_numpy(),
            "photo_is_right": table.photo.to_numpy() == true.photo.to_numpy(),
            "mirrored_is_right": table.mirrored.to_numpy() == true.mirrored.to_numpy(),
            "miss": np.linalg.norm(moved_to - truly_at, axis=1).max(axis=1, initial=0),
        }
    )


def compare_runners_up(data: DataSet, table: pd.DataFrame) -> pd.DataFrame:
    """Lay the runner-up over each traced image for which it came close, and compare the pixels that both photos reach.

    A row per image whose runner-up has more than `RIVAL` of the inliers: ``image``, ``photo``, ``inliers``,
    ``runner_up``, ``runner_up_inliers``, ``common`` (share of the image that both photos reach), and ``residual`` and
    ``runner_up_residual`` there (mean absolute difference in grey levels, each photo brightened to fit).
    """
    close = table[table.runner_up_inliers > RIVAL * table.inliers]
    involved = sorted({*close.photo, *close.runner_up})
    sources = dict(zip(involved, map_in_threads(partial(read_source, data), involved), strict=True))

    def compare_residuals(row: pd.Series) -> tuple[float, float, float]:
        grey = to_grey(read_image(data.image_path(row.image)))
        named, second = sources[row.photo], sources[row.runner_up]
        fit = register(second.features[int(row.mirrored)], detect(grey))
        if fit is None:
            return 0.0, float("nan"), float("nan")
        affine = _affine(row)
        common = footprint(affine) & footprint(fit.affine)
        residual = _difference(named.grey, grey, affine, common)
        return float(common.mean()), residual, _difference(second.grey, grey, fit.affine, common)

    measured = list(map_in_threads(compare_residuals, (row for _, row in close.iterrows())))
    columns = ["image", "photo", "inliers", "runner_up", "runner_up_inliers"]
    differences = pd.DataFrame(measured, columns=["common", "residual", "runner_up_residual"], dtype=float)
    return close[columns].reset_index(drop=True).join(differences)


def _difference(
    source: NDArray[np.uint8], grey: NDArray[np.uint8], affine: NDArray[np.float64], inside: NDArray[np.bool_]
) -> float:
    moved, shown = warp(source, affine)[inside].astype(float), grey[inside].astype(float)
    if not len(moved):
        return float("nan")
    return float(np.abs(moved * (moved @ shown) / (moved @ moved) - shown).mean())


def trace_with_photos_hidden(data: DataSet, table: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Trace images whose photo is not among the photos offered: whatever is found is wrong, and should say so.

    Hidden are one photo of each two of a field, while the other is offered, and some that are of no shared field. Of
    each hidden photo the first two images of the table are traced: ``image``, ``hidden`` (its photo), ``has_twin``
    (whether a photo of the same field and class was offered), ``found`` (the photo named, -1 if none), ``inliers``,
    ``residual`` and ``confidence``.
    """
    cell_of = dict(zip(table.photo, table.image.str.split("/").str[1], strict=True))
    twins = choose_hidden(pairs, cell_of)
    linked = {*pairs.photo, *pairs.other}
    others = [photo for photo in sorted(cell_of) if photo not in linked][::_HIDE_EACH]
    hidden = {*twins, *others}
    offered = [photo for photo in sorted(cell_of) if photo not in hidden]
    sources = list(map_in_threads(partial(read_source, data), offered))
    classes = sorted(set(cell_of.values()))
    indexes = {c: index_sources([s for s in sources if cell_of[s.photo] == c]) for c in classes}
    asked = table[table.photo.isin(hidden)].groupby("photo").head(2)

    def trace_image(image: str) -> tuple[int, int, float, float]:
        match = find_source(to_grey(read_image(data.image_path(image))), indexes[image.split("/")[1]])
        return match.photo, match.inliers, match.residual, match.confidence

    answers = list(map_in_threads(trace_image, asked.image))
    asked = asked[["image", "photo"]].rename(columns={"photo": "hidden"}).reset_index(drop=True)
    asked["has_twin"] = asked.hidden.isin(twins)
    return asked.join(pd.DataFrame(answers, columns=["found", "inliers", "residual", "confidence"]))


def choose_hidden(pairs: pd.DataFrame, cell_of: dict[int, str]) -> list[int]:
    """Choose photos, of those whose class is given, that have another of their field and class which is not chosen."""
    chosen: list[int] = []
    kept: set[int] = set()
    for photo, other in zip(pairs.photo, pairs.other, strict=True):
        same = photo in cell_of and other in cell_of and cell_of[photo] == cell_of[other]
        if same and photo not in kept and other not in chosen and photo not in chosen:
            chosen.append(photo)
            kept.add(other)
    return chosen


def describe_pairs(data: DataSet, pairs: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Tell what became of photos of one field, and whether they were labelled alike.

    The rows of `pairs` with, for the photo and (``other_…``) the other: ``label`` (as in the label table, in small
    letters, "" if blank) and ``went`` (TRAIN, TEST, or "not used"); ``side`` (one of `SIDES`); ``same_cell`` (whether
    the same white cell is boxed in both), ``is_labelled_twice`` (whether, besides, both photos have a single label) and
    ``is_torn`` (whether these two differ).
    """
    labels = {photo: ", ".join(names).lower() for photo, names in read_labels(data).items()}
    split = table.image.str.split("/").str[0]
    went = dict(zip(table.photo, split.str.removesuffix("_SIMPLE"), strict=True))
    described = pairs.copy()
    for prefix, photo in (("", pairs.photo), ("other_", pairs.other)):
        described[f"{prefix}label"] = [labels.get(p, "") for p in photo]
        described[f"{prefix}went"] = [went.get(p, "not used") for p in photo]
    described["side"] = list(map(_name_side, described.went, described.other_went))
    shared = find_shared_cells(pairs, white_cells(data))
    same = set(zip(shared.photo, shared.other, strict=True))
    is_same = [key in same for key in zip(pairs.photo, pairs.other, strict=True)]
    described["same_cell"] = np.array(is_same, bool)  # of no pairs, too
    both = zip(described.label, described.other_label, strict=True)
    is_single = [bool(one and other) and "," not in one + other for one, other in both]
    described["is_labelled_twice"] = described.same_cell & np.array(is_single, bool)
    described["is_torn"] = described.is_labelled_twice & (described.label != described.other_label)
    return described


def _name_side(one: str, other: str) -> str:
    if "not used" in (one, other):
        return SIDES[3]
    return SIDES[2] if one != other else SIDES[("TRAIN", "TEST").index(one)]


def read_twins(data: DataSet, described: pd.DataFrame) -> list[tuple[str, NDArray[np.uint8], pd.DataFrame]]:
    """Read the photos of each pair of `describe_pairs` in turn: (title, photo, boxes as of `boxes.white_cells`)."""
    boxes = white_cells(data)
    twins = []
    for row in described.itertuples():
        for photo, label, went in (row.photo, row.label, row.went), (row.other, row.other_label, row.other_went):
            picture = read_image(data.photo_path(photo))
            twins.append((f"{photo}: {label}, {went}", picture, boxes[boxes.photo == photo]))
    return twins


def count_descents(pairs: pd.DataFrame) -> tuple[int, int]:
    """Count steps along the photos in which the number of the photo of the same field goes down, and steps in all.

    Two pairs make a step if their first photos are at most 5 apart in number; pairs of neighbours are left out.
    """
    far = pairs[pairs.other - pairs.photo > 1].sort_values(["photo", "other"])
    along, across = np.diff(far.photo), np.diff(far.other)
    is_step = (along > 0) & (along <= 5) & (across != 0)
    return int((across[is_step] < 0).sum()), int(is_step.sum())
