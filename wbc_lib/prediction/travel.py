"""What recorded runs say of pictures from elsewhere, and of our own photos made like those, one property at a time.

Each picture is looked at once, and answered by any run. To look at a picture is slow, to answer is quick: what was seen
is kept in the cache, some pictures at a time, so that a stopped command goes on where it was.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib import paths
from wbc_lib.attention import saliency
from wbc_lib.data import dataset, external
from wbc_lib.data.dataset import N_OUTPUTS, DataSet
from wbc_lib.data.external import External
from wbc_lib.data.images import OnProgress, from_lab, match_lab, one_thread, to_lab
from wbc_lib.data.picture_sets import OURS, TEST_IMAGES, TRAIN_IMAGES, PictureSet
from wbc_lib.data.windows import WHOLE_PHOTO, Cell, Window, background_colour, find_cells, measure_red_cell
from wbc_lib.errors import BadDataError
from wbc_lib.evaluation import elsewhere
from wbc_lib.evaluation.elsewhere import COLOURS, NO_CELL, NUCLEUS
from wbc_lib.prediction import refusal
from wbc_lib.prediction.picture import sight
from wbc_lib.prediction.refusal import Guard, Reference
from wbc_lib.provenance import overlaps, trace
from wbc_lib.training.runs import Run

#: Raise it whenever the same picture may be seen otherwise than before, so that pictures are looked at anew.
METHOD = 2
#: How a picture is brought to our scale: by its set's, by its own (as `wbc predict` does), or not at all (ours only).
BY_SET, BY_PICTURE, WHOLE = ("set", "picture", "whole")
#: At its set's scale, with the colours around the nucleus brought to those of the photos.
MATCHED = "matched"
#: Pictures that are looked at before what was seen is kept.
_CHUNK = 50

STAIN, BACKGROUND, FIELD, SCALE, BLUR = KINDS = ("stain", "background", "field", "scale", "blur")
#: How far colours are moved: from those of the photo to those of the other set.
_SHARES = (0.25, 0.5, 0.75, 1.0)
#: How much larger cells are made to look, and standard deviations of a blur in red cells.
_FACTORS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.25, 1.5, 1.75, 2.0)
_BLURS = (0.02, 0.04, 0.08, 0.12, 0.16)
#: As far as this from the background's colour, in Lab, a pixel is half background.
_NEAR = 8.0

#: How well the border's colour tells the class in each set, as `score_border` gives it.
BORDER = paths.RecordedTable(
    ("external", "border.csv"),
    {"set": str, "pictures": int, "balanced": float, "low": float, "high": float},
    "accuracies by the border's colour",
    "restore it, or make it with `wbc external border`",
    of_project=True,
)
read_border = BORDER.read


@dataclass(frozen=True)
class Seen:
    """What was seen of pictures.

    The table has a row per picture and way of scaling it: ``picture``, ``kind``, ``cell``, ``held_back``, ``scaled``
    (`BY_SET`, `BY_PICTURE`, `WHOLE` or `MATCHED`), ``red_cell`` (pixels), ``cells`` (white cells that were found) and
    ``nucleus`` (diameter of the largest, in red cells; NaN if there is none, and the picture's middle was looked at).
    """

    table: pd.DataFrame
    windows: NDArray[np.uint8]  # what a network is to see, shape (rows, height, width, RGB)
    colours: NDArray[np.uint8]  # what a refusal goes by, shape (rows, 64, 64, RGB)

    def take(self, rows: pd.Series) -> "Seen":
        """Some of the rows, by a truth for each row of the table."""
        return Seen(self.table[rows].reset_index(drop=True), self.windows[rows], self.colours[rows])

    def take_cells(self, scaled: str) -> "Seen":
        """The white cells that were found at one of the scales."""
        return self.take((self.table.scaled == scaled) & (self.table.cells > 0))

    def colour_numbers(self) -> NDArray[np.float64]:
        """Measure `refusal.NUMBERS` of each row, shape (rows, 12)."""
        return np.stack([refusal.colour_numbers(window) for window in self.colours])


def measure(pictures: PictureSet, on_progress: OnProgress | None = None) -> pd.DataFrame:
    """Measure the red cells of each picture.

    Gives the set's table with ``measured``, their diameter in pixels, NaN where there are too few. The scale of the
    data set's images is known, and `wbc predict` does not measure it either: NaN for these too.
    """
    if pictures.name in (TRAIN_IMAGES, TEST_IMAGES):
        return pictures.table.assign(measured=np.nan)
    return pictures.table.assign(**_gather("diameters", pictures, pictures.table, _measure_part, on_progress))


def scale_by_nuclei(elsewhere: External, table: pd.DataFrame, nucleus: float) -> float:
    """Diameter of the red cells of a set that shows few of them: its median nucleus is taken for as large as ours.

    The nuclei are those of the published masks, of pictures of `table` that are not held back; `nucleus` is the median
    diameter of ours in red cells.
    """
    areas = [external.read_nucleus(elsewhere, picture).sum() for picture in table.picture[~table.held_back]]
    return float(np.median(np.sqrt(4 * np.array(areas) / np.pi)) / nucleus)


def look_at(
    pictures: PictureSet,
    measured: pd.DataFrame,
    scale: float,
    window: Window = WHOLE_PHOTO,
    on_progress: OnProgress | None = None,
) -> Seen:
    """Look at all pictures of a set, `measured` as `measure` does, through the window of a model.

    `scale` is a red cell's diameter for all of them in pixels; 0 for the median over those that are not held back.
    """
    scale = scale or float(measured.measured[~measured.held_back].median())
    what = f"{'seen' if window == WHOLE_PHOTO else 'close'}-{scale:.3f}"
    look = partial(_look_at_part, scale=scale, window=window)
    whole = _gather(what, pictures, measured, look, on_progress)
    counts = [len(_ways(pictures, m, window)) for m in measured.measured]
    rows = pictures.table.loc[np.repeat(pictures.table.index, counts)]
    columns: dict[str, Any] = {name: whole[name] for name in ("scaled", "red_cell", "cells", "nucleus")}
    return Seen(rows.reset_index(drop=True).assign(**columns), whole["windows"], whole["colours"])


def match_colours(seen: Seen, reference: Reference) -> Seen:
    """What was seen at the scales of sets, each in the mean and spread of colour that a reference has."""
    chosen = seen.take(seen.table.scaled == BY_SET)
    mean, sd = _mean_and_sd(reference.centre)
    windows, colours = [], []
    for window, around in zip(chosen.windows, chosen.colours, strict=True):
        lab = to_lab(around).reshape(-1, 3)
        given = (lab.mean(axis=0), lab.std(axis=0), mean, sd)
        windows.append(match_lab(window, *given))
        colours.append(match_lab(around, *given))
    return Seen(chosen.table.assign(scaled=MATCHED), np.stack(windows), np.stack(colours))


def join(*several: Seen) -> Seen:
    """What was seen, one after another."""
    tables = pd.concat([s.table for s in several], ignore_index=True)
    return Seen(tables, np.concatenate([s.windows for s in several]), np.concatenate([s.colours for s in several]))


def _mean_and_sd(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    # Of L, a and b each, from the twelve `refusal.NUMBERS`.
    return numbers.reshape(3, len(refusal.STATISTICS))[:, :2].T


def _ways(pictures: PictureSet, measured: float, window: Window) -> list[str]:
    """In which ways a picture of a set is looked at, whose red cells measure so many pixels."""
    sees_whole = pictures.read_whole is not None and window == WHOLE_PHOTO
    return [BY_SET] + [BY_PICTURE] * (not np.isnan(measured)) + [WHOLE] * sees_whole


@dataclass(frozen=True)
class Target:
    """What pictures of a set are like: medians over them."""

    name: str
    mean: NDArray[np.float64]  # of L, a and b around the nucleus
    sd: NDArray[np.float64]
    background: NDArray[np.float64]  # L, a and b
    field: float  # how many red cells a picture shows, along its shorter side


def read_target(pictures: PictureSet, seen: Seen) -> Target:
    """What pictures of a set are like, from what was seen of it; thirty of them tell the background."""
    mean, sd = _mean_and_sd(np.median(seen.colour_numbers(), axis=0))
    chosen = seen.table.drop_duplicates("picture").iloc[:: max(1, len(seen.table) // 30)]
    read = [pictures.read(picture) for picture in chosen.picture]
    grounds = [to_lab(background_colour(picture)[None, None])[0, 0] for picture in read]
    fields = [min(p.shape[:2]) / red_cell for p, red_cell in zip(read, chosen.red_cell, strict=True)]
    return Target(pictures.name, mean, sd, np.median(grounds, axis=0), float(np.median(fields)))


def list_changes(targets: list[Target]) -> list[tuple[str, str, float]]:
    """All changes: the property, the set that it is changed towards, and by how much; the first changes nothing."""
    of_sets = [(kind, t.name, share) for t in targets for kind in (STAIN, BACKGROUND) for share in _SHARES]
    fields = [(FIELD, t.name, round(t.field, 2)) for t in targets]
    others = [(SCALE, "", factor) for factor in _FACTORS] + [(BLUR, "", sd) for sd in _BLURS]
    return [(SCALE, "", 1.0), *of_sets, *fields, *others]


def look_changed(photos: PictureSet, targets: list[Target], on_progress: OnProgress | None = None) -> Seen:
    """Look at photos of ours under each change, around the largest nucleus of the photo as it is.

    The table is that of `look_at` with ``change``, ``towards`` and ``amount``.
    """
    by_name = {target.name: target for target in targets}
    rows, seen = [], []
    for done, photo in enumerate(photos.table.itertuples(index=False), start=1):
        picture = photos.read(photo.picture)
        cells = find_cells(picture, photos.red_cell)
        for kind, towards, amount in list_changes(targets):
            changed, scale = _change(picture, cells[0], photos.red_cell, kind, amount, by_name.get(towards))
            seen.append(sight(changed, cells[0], scale))
            rows.append((*photo, len(cells), seen[-1].nucleus, kind, towards, amount))
        if on_progress:
            on_progress(done, len(photos.table))
    columns = [*photos.table.columns, "cells", "nucleus", "change", "towards", "amount"]
    table = pd.DataFrame(rows, columns=columns).assign(red_cell=photos.red_cell)
    return Seen(table, np.stack([s.window for s in seen]), np.stack([s.colours for s in seen]))


def answer(seen: Seen, runs: Sequence[Run], guard: Guard) -> pd.DataFrame:
    """Ask runs about what was seen, and whether it is refused.

    Gives the table of `seen` with ``unlike`` (see `Guard.scores`), ``refused`` (why, as `elsewhere` names it, or "")
    and, for each seed, ``s0_logit_0`` to ``s0_logit_4``.
    """
    from wbc_lib.training.fit import predict

    unlike, nucleus = guard.scores(seen.colour_numbers()), seen.table.nucleus
    of_usual_size = nucleus.between(guard.smallest, guard.largest)
    reasons = {NO_CELL: nucleus.isna(), COLOURS: unlike > 1, NUCLEUS: ~of_usual_size}
    refused = np.select(list(reasons.values()), list(reasons), "")
    table = seen.table.assign(unlike=unlike.round(4), refused=refused)
    for run in runs:
        logits = predict(saliency.rebuild(run), seen.windows, run.plan.experiment.settings.views)
        names = [f"s{run.seed}_logit_{i}" for i in range(N_OUTPUTS)]
        table = table.join(pd.DataFrame(logits.astype(float).round(3), columns=names))
    return table


def fit_guard(photos: Seen, images: Seen, data: DataSet, others: Seen | None = None) -> Guard:
    """Fit what is refused to what a model learned from: the photos of TRAIN, and the images made of them.

    A photo counts at its own scale, and its nucleus is whole; an image is of a known scale. `others` are pictures from
    elsewhere that a model learned from too.
    """
    taken, made = photos.take_cells(BY_PICTURE), images.take_cells(BY_SET)
    origin = trace.read(data).set_index("image").photo
    kinds = {
        "photos of TRAIN": (taken, taken.table.picture.map(dataset.photo_number)),
        "images of TRAIN": (made, made.table.picture.map(origin)),
    }
    references = []
    for name, (seen, of_photos) in kinds.items():
        references.append(refusal.fit_reference(name, seen.colour_numbers(), overlaps.find_fields(of_photos, data)))
    nuclei = taken.table.nucleus
    if others:
        own = others.take_cells(BY_PICTURE)
        references.append(
            refusal.fit_reference("pictures from Barcelona", own.colour_numbers(), np.arange(len(own.table)))
        )
        nuclei = pd.concat([nuclei, own.table.nucleus[own.table.cell != external.NO_CLASS]])
    return Guard(tuple(references), *refusal.nucleus_limits(nuclei.to_numpy()))


def score_border(parts: Sequence[PictureSet], data: DataSet, on_progress: OnProgress | None = None) -> dict[str, Any]:
    """A row of `BORDER`: how well the border's colour tells the class, elsewhere or in all our photos."""
    measured = [_gather("borders", part, part.table, _measure_borders, on_progress) for part in parts]
    numbers = np.concatenate([part["numbers"] for part in measured])
    table = pd.concat([p.table for p in parts], ignore_index=True)
    is_ours = parts[0].name in OURS
    groups = np.arange(len(table))
    if is_ours:
        groups = overlaps.find_fields(table.picture.map(dataset.photo_number), data)
    chosen = ((table.cell != external.NO_CLASS) & ~table.held_back).to_numpy()
    told = elsewhere.accuracy_of_border(numbers[chosen], table.cell[chosen].tolist(), groups[chosen])
    row = {"set": "photos" if is_ours else parts[0].name, "pictures": int(chosen.sum())}
    return row | {"balanced": told.estimate, "low": told.low, "high": told.high}


def recorded_path(model: str, name: str, *, held_back: bool = False) -> Path:
    """Where the answers of a model's runs on a set are recorded."""
    return paths.results() / "external" / f"{model}-{name}{'-held-back' if held_back else ''}.csv.gz"


def write_recorded(table: pd.DataFrame, target: Path) -> Path:
    """Record a table as `answer` gives it; the same table gives the same bytes."""
    return paths.write_table(target, table.assign(red_cell=table.red_cell.round(2), nucleus=table.nucleus.round(3)))


def read_recorded(model: str, name: str, *, held_back: bool = False) -> pd.DataFrame:
    """Read a recorded table; raises `BadDataError` if it is missing or damaged."""
    path = recorded_path(model, name, held_back=held_back)
    found = paths.find_recorded("external", path.name)
    try:
        return pd.read_csv(found, keep_default_na=False, na_values={"nucleus": [""]})
    except FileNotFoundError as error:
        command = name if name in ("changes", "features") else "predict"
        raise BadDataError(f"{path} is missing; restore it, or make it with `wbc external {command}`.") from error
    except (OSError, EOFError, ValueError) as error:
        raise BadDataError(f"{found} is no such table; restore it from the repository.") from error


def _gather(
    what: str,
    pictures: PictureSet,
    table: pd.DataFrame,
    make: Callable[[PictureSet, pd.DataFrame], dict[str, NDArray]],
    on_progress: OnProgress | None,
) -> dict[str, NDArray]:
    # What is made of the pictures of a table, some at a time: from the cache, else made and kept there.
    parts = []
    for start in range(0, len(table), _CHUNK):
        part = table.iloc[start : start + _CHUNK]
        basis = "\n".join([pictures.sha256, f"opencv{cv2.__version__}", str(METHOD), *part.picture])
        name = f"{pictures.name}-{what}-{hashlib.sha256(basis.encode()).hexdigest()[:16]}.npz"
        with one_thread():
            parts.append(paths.keep_arrays(paths.cache() / "elsewhere" / name, partial(make, pictures, part)))
        if on_progress:
            on_progress(start + len(part), len(table))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _measure_part(pictures: PictureSet, part: pd.DataFrame) -> dict[str, NDArray]:
    return {"measured": np.array([measure_red_cell(pictures.read(p)) for p in part.picture], float)}


def _measure_borders(pictures: PictureSet, part: pd.DataFrame) -> dict[str, NDArray]:
    return {"numbers": np.stack([elsewhere.border_numbers(pictures.read(picture)) for picture in part.picture])}


def _look_at_part(pictures: PictureSet, part: pd.DataFrame, scale: float, window: Window) -> dict[str, NDArray]:
    rows: list[dict[str, Any]] = []
    for picture, measured in zip(part.picture, part.measured, strict=True):
        pixels = pictures.read(picture)
        at_scale = _look_once(pixels, scale, window)
        for way in _ways(pictures, measured, window):
            row = _look_once(pixels, measured, window) if way == BY_PICTURE else dict(at_scale)
            if way == WHOLE and pictures.read_whole:
                row["windows"] = pictures.read_whole(picture)
            rows.append({"scaled": way, **row})
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _look_once(pixels: NDArray[np.uint8], red_cell: float, window: Window) -> dict[str, Any]:
    cells = find_cells(pixels, red_cell)
    height, width = pixels.shape[:2]
    middle = Cell((width - 1) / 2, (height - 1) / 2, (0, 0, width, height), np.nan)
    seen = sight(pixels, cells[0] if cells else middle, red_cell, window)
    found = {"red_cell": red_cell, "cells": len(cells), "nucleus": seen.nucleus}
    return found | {"windows": seen.window, "colours": seen.colours}


def _change(
    picture: NDArray[np.uint8], cell: Cell, red_cell: float, kind: str, amount: float, target: Target | None
) -> tuple[NDArray[np.uint8], float]:
    # The picture with one property changed, and the diameter that its red cells are to have.
    if kind == SCALE:
        return picture, red_cell / amount
    if kind == STAIN and target:
        around = to_lab(refusal.cut_colours(picture, cell, red_cell)).reshape(-1, 3)
        mean, sd = around.mean(axis=0), around.std(axis=0)
        to_mean, to_sd = (a + amount * (b - a) for a, b in ((mean, target.mean), (sd, target.sd)))
        return match_lab(picture, mean, sd, to_mean, to_sd), red_cell
    if kind == BACKGROUND and target:
        return _move_background(picture, amount, target.background), red_cell
    if kind == FIELD:
        return _show_less(picture, cell, amount * red_cell), red_cell
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), amount * red_cell), np.uint8), red_cell


def _move_background(picture: NDArray[np.uint8], share: float, to: NDArray[np.float64]) -> NDArray[np.uint8]:
    lab = to_lab(picture)
    ground = to_lab(background_colour(picture)[None, None])[0, 0]
    weight = np.exp2(-(((lab - ground) ** 2).sum(axis=2, keepdims=True) / _NEAR**2))
    return from_lab(lab + share * weight * (to - ground))


def _show_less(picture: NDArray[np.uint8], cell: Cell, side: float) -> NDArray[np.uint8]:
    # A square around the cell; outside is the background's colour.
    shown = np.empty_like(picture)
    shown[:] = background_colour(picture)
    rows, columns = (slice(max(round(m - side / 2), 0), round(m + side / 2)) for m in (cell.y, cell.x))
    shown[rows, columns] = picture[rows, columns]
    return shown
