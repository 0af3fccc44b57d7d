"""What recorded runs say of pictures from elsewhere: each picture is looked at once, and answered by any run.

To look at a picture is slow, to answer is quick. What was seen is kept in the cache, some pictures at a time, so that a
stopped command goes on where it was.
"""

import gzip
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib import paths
from wbc_lib.data import external
from wbc_lib.data.dataset import N_OUTPUTS
from wbc_lib.data.external import External
from wbc_lib.data.images import OnProgress, match_lab, one_thread, to_lab
from wbc_lib.data.picture_sets import PictureSet
from wbc_lib.data.windows import Cell, find_cells, measure_red_cell
from wbc_lib.errors import BadDataError
from wbc_lib.evaluation.elsewhere import COLOURS, NO_CELL, NUCLEUS, border_numbers
from wbc_lib.prediction import refusal
from wbc_lib.prediction.refusal import NUMBERS, Guard, Reference
from wbc_lib.prediction.sightings import sight
from wbc_lib.training.runs import Run

#: Raise it whenever the same picture may be seen otherwise than before, so that pictures are looked at anew.
METHOD = 1
#: How a picture is brought to our scale: by its set's, by its own (as `wbc predict` does), or not at all (ours only).
BY_SET, BY_PICTURE, WHOLE = ("set", "picture", "whole")
#: At its set's scale, with the colours around the nucleus brought to those of the photos.
MATCHED = "matched"
#: Pictures that are looked at before what was seen is kept.
_CHUNK = 50


@dataclass(frozen=True)
class Seen:
    """What was seen of pictures.

    The table has a row per picture and way of scaling it: ``picture``, ``kind``, ``cell``, ``held_back``, ``scaled``
    (`BY_SET`, `BY_PICTURE`, `WHOLE` or `MATCHED`), ``red_cell`` (pixels), ``cells`` (white cells that were found) and
    ``nucleus`` (diameter of the largest, in red cells; NaN if there is none, and the picture's middle was looked at).
    """

    table: pd.DataFrame
    windows: NDArray[np.uint8]  # for the paper's network, shape (rows, 60, 80, RGB)
    colours: NDArray[np.uint8]  # what a refusal goes by, shape (rows, 64, 64, RGB)

    def take(self, rows: NDArray[np.bool_]) -> "Seen":
        """Some of the rows."""
        return Seen(self.table[rows].reset_index(drop=True), self.windows[rows], self.colours[rows])


def measure(pictures: PictureSet, on_progress: OnProgress | None = None) -> pd.DataFrame:
    """Measure the red cells of each picture.

    Gives the set's table with ``measured``, their diameter in pixels (NaN where there are too few), and ``circles``.
    """
    parts = [_kept("red-cells", pictures, part, _measure_part) for part in _parts(pictures.table, on_progress)]
    return pictures.table.assign(**{k: np.concatenate([p[k] for p in parts]) for k in ("measured", "circles")})


def set_scale(measured: pd.DataFrame) -> float:
    """Diameter of the red cells of a set: the median over those pictures that are not held back."""
    return float(measured.measured[~measured.held_back].median())


def scale_by_nuclei(elsewhere: External, table: pd.DataFrame, nucleus: float) -> float:
    """Diameter of the red cells of a set that shows few of them: its median nucleus is taken for as large as ours.

    The nuclei are those of the published masks, of pictures of `table` that are not held back; `nucleus` is the median
    diameter of ours in red cells.
    """
    areas = [external.read_nucleus(elsewhere, picture).sum() for picture in table.picture[~table.held_back]]
    return float(np.median(np.sqrt(4 * np.array(areas) / np.pi)) / nucleus)


def look_at(pictures: PictureSet, measured: pd.DataFrame, scale: float, on_progress: OnProgress | None = None) -> Seen:
    """Look at all pictures of a set, `measured` as `measure` does; `scale` is a red cell's diameter for all of them."""
    look = partial(_look_at_part, scale=scale)
    parts = [_kept(f"seen-{scale:.3f}", pictures, p, look) for p in _parts(measured, on_progress)]
    whole: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    rows = pictures.table.loc[np.repeat(pictures.table.index, [len(ways(pictures, m)) for m in measured.measured])]
    columns = {name: whole[name] for name in ("scaled", "red_cell", "cells", "nucleus")}
    return Seen(rows.reset_index(drop=True).assign(**columns), whole["windows"], whole["colours"])


def match_colours(seen: Seen, reference: Reference) -> Seen:
    """What was seen at the scales of sets, each in the mean and spread of colour that a reference has."""
    chosen = seen.take((seen.table.scaled == BY_SET).to_numpy())
    mean, sd = (reference.centre[[NUMBERS.index(f"{c} {s}") for c in "Lab"]] for s in ("mean", "sd"))
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


def ways(pictures: PictureSet, measured: float) -> list[str]:
    """In which ways a picture of a set is looked at, whose red cells measure so many pixels."""
    return [BY_SET] + [BY_PICTURE] * (not np.isnan(measured)) + [WHOLE] * (pictures.read_whole is not None)


def answer(seen: Seen, runs: Sequence[Run], guard: Guard) -> pd.DataFrame:
    """Ask runs about what was seen, and whether it is refused.

    Gives the table of `seen` with ``unlike`` (see `Guard.scores`), ``refused`` (why, as `elsewhere` names it, or "")
    and, for each seed, ``s0_logit_0`` to ``s0_logit_4``.
    """
    from wbc_lib.attention.saliency import rebuild
    from wbc_lib.training.fit import predict

    numbers = np.stack([refusal.colour_numbers(window) for window in seen.colours])
    unlike, nucleus = guard.scores(numbers), seen.table.nucleus
    of_usual_size = nucleus.between(guard.smallest, guard.largest)
    reasons = {NO_CELL: nucleus.isna(), COLOURS: unlike > 1, NUCLEUS: ~of_usual_size}
    refused = np.select(list(reasons.values()), list(reasons), "")
    table = seen.table.assign(unlike=unlike.round(4), refused=refused)
    for run in runs:
        logits = predict(rebuild(run), seen.windows)
        names = [f"s{run.seed}_logit_{i}" for i in range(N_OUTPUTS)]
        table = table.join(pd.DataFrame(logits.astype(float).round(3), columns=names))
    return table


def read_borders(pictures: PictureSet, on_progress: OnProgress | None = None) -> NDArray[np.float64]:
    """The numbers of each picture's border (see `elsewhere.border_numbers`), shape (pictures, 12)."""
    parts = [_kept("borders", pictures, part, _measure_borders) for part in _parts(pictures.table, on_progress)]
    return np.concatenate([part["numbers"] for part in parts])


def border_path() -> Path:
    """Where it is recorded what the border's colour alone tells in each set."""
    return _folder() / "border.csv"


def recorded_path(model: str, name: str, *, held_back: bool = False) -> Path:
    """Where the answers of a model's runs on a set are recorded."""
    return _folder() / f"{model}-{name}{'-held-back' if held_back else ''}.csv.gz"


def write_recorded(table: pd.DataFrame, target: Path) -> None:
    """Record a table as `answer` gives it; the same table gives the same bytes."""
    shown = table.assign(red_cell=table.red_cell.round(2), nucleus=table.nucleus.round(3))
    with paths.written_whole(target) as temporary:
        temporary.write_bytes(gzip.compress(shown.to_csv(index=False, lineterminator="\n").encode(), mtime=0))


def read_recorded(model: str, name: str, *, held_back: bool = False) -> pd.DataFrame:
    """Read a recorded table; raises `BadDataError` if it is missing or damaged."""
    return _read(recorded_path(model, name, held_back=held_back), "wbc external predict")


def read_border() -> pd.DataFrame:
    """Read what the border's colour alone tells: ``set``, ``pictures``, and ``balanced`` accuracy with its ends."""
    return _read(border_path(), "wbc external border")


def _folder() -> Path:
    return paths.results() / "external"


def _read(path: Path, command: str) -> pd.DataFrame:
    # What published runs say of published pictures is the same whatever a page is built on.
    found = path if path.exists() else paths.ROOT / "results" / "external" / path.name
    try:
        return pd.read_csv(found, keep_default_na=False, na_values={"nucleus": [""]})
    except FileNotFoundError as error:
        raise BadDataError(f"{path} is missing; restore it, or make it with `{command}`.") from error
    except (OSError, EOFError, ValueError) as error:
        raise BadDataError(f"{found} is no such table; restore it from the repository.") from error


def _parts(table: pd.DataFrame, on_progress: OnProgress | None) -> Iterator[pd.DataFrame]:
    for start in range(0, len(table), _CHUNK):
        yield table.iloc[start : start + _CHUNK]
        if on_progress:
            on_progress(min(start + _CHUNK, len(table)), len(table))


def _kept(
    what: str, pictures: PictureSet, part: pd.DataFrame, make: Callable[[PictureSet, pd.DataFrame], dict[str, NDArray]]
) -> dict[str, NDArray]:
    # What was made of some pictures: from the cache, else made and kept there.
    basis = "\n".join([pictures.sha256, f"opencv{cv2.__version__}", str(METHOD), *part.picture])
    name = f"{pictures.name}-{what}-{hashlib.sha256(basis.encode()).hexdigest()[:16]}.npz"

    def make_alone() -> dict[str, NDArray]:
        with one_thread():
            return make(pictures, part)

    return paths.keep_arrays(paths.cache() / "elsewhere" / name, make_alone)


def _measure_part(pictures: PictureSet, part: pd.DataFrame) -> dict[str, NDArray]:
    found = [measure_red_cell(pictures.read(picture)) for picture in part.picture]
    return {
        "measured": np.array([f.diameter if f else np.nan for f in found]),
        "circles": np.array([f.circles if f else 0 for f in found]),
    }


def _measure_borders(pictures: PictureSet, part: pd.DataFrame) -> dict[str, NDArray]:
    return {"numbers": np.stack([border_numbers(pictures.read(picture)) for picture in part.picture])}


def _look_at_part(pictures: PictureSet, part: pd.DataFrame, scale: float) -> dict[str, NDArray]:
    rows: list[dict[str, Any]] = []
    for picture, measured in zip(part.picture, part.measured, strict=True):
        pixels = pictures.read(picture)
        at_scale = _look_once(pixels, scale)
        for way in ways(pictures, measured):
            row = _look_once(pixels, measured) if way == BY_PICTURE else dict(at_scale)
            if way == WHOLE and pictures.read_whole:
                row["windows"] = pictures.read_whole(picture)
            rows.append({"scaled": way, **row})
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _look_once(pixels: NDArray[np.uint8], red_cell: float) -> dict[str, Any]:
    cells = find_cells(pixels, red_cell)
    height, width = pixels.shape[:2]
    middle = Cell((width - 1) / 2, (height - 1) / 2, (0, 0, width, height), np.nan)
    seen = sight(pixels, cells[0] if cells else middle, red_cell)
    found = {"red_cell": red_cell, "cells": len(cells), "nucleus": seen.nucleus}
    return found | {"windows": seen.window, "colours": seen.colours}
