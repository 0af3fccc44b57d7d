"""Our own photos made more like those from elsewhere, one property at a time, to see which costs the accuracy."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib.data.images import OnProgress, from_lab, match_lab, to_lab
from wbc_lib.data.picture_sets import PictureSet
from wbc_lib.data.windows import Cell, background_colour, find_cells
from wbc_lib.prediction import refusal
from wbc_lib.prediction.sightings import Sighting, sight
from wbc_lib.prediction.travel import Seen

STAIN, BACKGROUND, FIELD, SCALE, BLUR = KINDS = ("stain", "background", "field", "scale", "blur")
#: How far colours are moved: from those of the photo to those of the other set.
_SHARES = (0.25, 0.5, 0.75, 1.0)
#: How much larger cells are made to look, and standard deviations of a blur in red cells.
_FACTORS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.25, 1.5, 1.75, 2.0)
_BLURS = (0.02, 0.04, 0.08, 0.12, 0.16)
#: As far as this from the background's colour, in Lab, a pixel is half background.
_NEAR = 8.0


@dataclass(frozen=True)
class Target:
    """What pictures of a set are like: medians over them."""

    name: str
    mean: NDArray[np.float64]  # of L, a and b around the nucleus
    sd: NDArray[np.float64]
    background: NDArray[np.float64]  # L, a and b
    field: float  # how many red cells a picture shows, along its shorter side


@dataclass(frozen=True)
class Change:
    """One property, changed to some amount; towards a set, if it is one of theirs."""

    kind: str
    towards: str
    amount: float


def read_target(pictures: PictureSet, seen: Seen, rows: NDArray[np.bool_]) -> Target:
    """What pictures of a set are like, from some rows of what was seen of it; thirty of them tell the background."""
    numbers = np.median([refusal.colour_numbers(window) for window in seen.colours[rows]], axis=0)
    mean, sd = (numbers[[refusal.NUMBERS.index(f"{c} {s}") for c in "Lab"]] for s in ("mean", "sd"))
    chosen = seen.table[rows].drop_duplicates("picture").iloc[:: max(1, rows.sum() // 30)]
    read = [pictures.read(picture) for picture in chosen.picture]
    grounds = [to_lab(background_colour(picture)[None, None])[0, 0] for picture in read]
    fields = [min(p.shape[:2]) / red_cell for p, red_cell in zip(read, chosen.red_cell, strict=True)]
    return Target(pictures.name, mean, sd, np.median(grounds, axis=0), float(np.median(fields)))


def list_changes(targets: list[Target]) -> list[Change]:
    """All changes; the first changes nothing."""
    of_sets = [Change(kind, t.name, share) for t in targets for kind in (STAIN, BACKGROUND) for share in _SHARES]
    fields = [Change(FIELD, t.name, round(t.field, 2)) for t in targets]
    others = [Change(SCALE, "", factor) for factor in _FACTORS] + [Change(BLUR, "", sd) for sd in _BLURS]
    return [Change(SCALE, "", 1.0), *of_sets, *fields, *others]


def look_changed(photos: PictureSet, targets: list[Target], on_progress: OnProgress | None = None) -> Seen:
    """Look at photos of ours under each change, around the largest nucleus of the photo as it is.

    The table is that of `travel.look_at` with ``change``, ``towards`` and ``amount``.
    """
    changes, rows, seen = list_changes(targets), [], []
    for done, photo in enumerate(photos.table.itertuples(index=False), start=1):
        picture = photos.read(photo.picture)
        cells = find_cells(picture, photos.red_cell)
        for change, sighting in zip(
            changes, _look_at_each(picture, cells[0], photos.red_cell, changes, targets), strict=True
        ):
            seen.append(sighting)
            rows.append((*photo, len(cells), sighting.nucleus, change.kind, change.towards, change.amount))
        if on_progress:
            on_progress(done, len(photos.table))
    columns = [*photos.table.columns, "cells", "nucleus", "change", "towards", "amount"]
    table = pd.DataFrame(rows, columns=columns).assign(red_cell=photos.red_cell)
    return Seen(table, np.stack([s.window for s in seen]), np.stack([s.colours for s in seen]))


def _look_at_each(
    picture: NDArray[np.uint8], cell: Cell, red_cell: float, changes: list[Change], targets: list[Target]
) -> Iterator[Sighting]:
    by_name = {target.name: target for target in targets}
    around = to_lab(refusal.cut_colours(picture, cell, red_cell)).reshape(-1, 3)
    for change in changes:
        target = by_name.get(change.towards)
        changed, scale = picture, red_cell
        if change.kind == STAIN and target:
            mean, sd = around.mean(axis=0), around.std(axis=0)
            to_mean, to_sd = (a + change.amount * (b - a) for a, b in ((mean, target.mean), (sd, target.sd)))
            changed = match_lab(picture, mean, sd, to_mean, to_sd)
        elif change.kind == BACKGROUND and target:
            changed = _move_background(picture, change.amount, target.background)
        elif change.kind == FIELD:
            changed = _show_less(picture, cell, change.amount * red_cell)
        elif change.kind == SCALE:
            scale = red_cell / change.amount
        elif change.kind == BLUR:
            changed = np.asarray(cv2.GaussianBlur(picture, (0, 0), change.amount * red_cell), np.uint8)
        yield sight(changed, cell, scale)


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
