"""What a recorded network says of a picture from anywhere: a class for each white cell, or in a sentence why none.

A picture is brought to the scale of the photos by its red cells, its white cells are found, and each is asked about by
itself, unless it is unlike what the network learned from.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

from wbc_lib import paths
from wbc_lib.attention import saliency
from wbc_lib.data.dataset import CLASSES, IMAGE_SIZE
from wbc_lib.data.hashes import PUBLISHED_SHA256
from wbc_lib.data.pictures import read_full, read_picture
from wbc_lib.data.windows import RED_CELL
from wbc_lib.errors import BadDataError, NoAnswerError, printable
from wbc_lib.evaluation.intervals import binomial_interval
from wbc_lib.figures.style import CLASS_COLOURS, nice
from wbc_lib.prediction import refusal
from wbc_lib.prediction.picture import Box, Prediction, ask, classify, input_shape
from wbc_lib.prediction.refusal import Guard
from wbc_lib.prediction.sightings import Sighting, look
from wbc_lib.training.runs import Run

#: Pictures whose cells are asked about together.
_BATCH = 32
_GREY = (90, 90, 90)


@dataclass(frozen=True)
class Refused:
    """A white cell that is not asked about, or a picture without one."""

    reason: str  # the second half of a sentence
    box: Box | None = None  # of the nucleus, if there is one

    def describe(self) -> str:
        """For the command line."""
        return f"no class: {self.reason}"

    def as_plain(self) -> dict[str, Any]:
        """As values that JSON can hold."""
        return {"cell": None, "refused": self.reason}


@dataclass(frozen=True)
class Answer:
    """What is said of a picture: something of each of its white cells, or once why nothing is."""

    path: Path
    cells: tuple[Prediction | Refused, ...]  # the one with the largest nucleus first
    red_cell: float = 0.0  # diameter of a red cell that it was scaled by, in pixels; 0 if there was none

    def describe(self) -> list[str]:
        """Lines for the command line, one for each cell."""
        shown = printable(self.path)
        if len(self.cells) == 1:
            return [f"{shown}: {self.cells[0].describe()}"]
        lines = []
        for i, cell in enumerate(self.cells, start=1):
            left, top, right, bottom = cell.box or (0, 0, 0, 0)
            where = f"cell {i} of {len(self.cells)}, around {(left + right) // 2},{(top + bottom) // 2}"
            lines.append(f"{shown}, {where}: {cell.describe()}")
        return lines

    def as_plain(self) -> list[dict[str, Any]]:
        """As values that JSON can hold, one for each cell."""
        n = len(self.cells)
        place = {"image": str(self.path), "cells": n, "red_cell": self.red_cell or None}
        return [place | {"number": i, "box": cell.box} | cell.as_plain() for i, cell in enumerate(self.cells, start=1)]


def find_guard(run: Run) -> Guard | None:
    """What a run learned from; ``None`` if that is not recorded, as where it learned from other photos."""
    return refusal.read_recorded("final") if run.record["config"]["data_sha256"] == PUBLISHED_SHA256 else None


def answer(
    run: Run,
    guard: Guard | None,
    pictures: Sequence[Path],
    threshold: float,
    *,
    red_cell: float = 0.0,
    as_is: bool = False,
    with_attention: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[Answer | BadDataError]:
    """Say of pictures, in order, which cells they show and which classes these are, or why that cannot be said.

    Takes a run with weights, what it refuses (nothing if ``None``), and the probability below which it would rather
    abstain. `red_cell` is the diameter of the red cells of all pictures in pixels; 0 to have it measured in each. With
    `as_is` no cell is sought, and the picture is asked about as a whole (see `picture.classify`). Yields a
    `BadDataError` for a picture that cannot be read.
    """
    if as_is:
        whole = classify(run, pictures, threshold, with_attention=with_attention, on_progress=on_progress)
        yield from (w if isinstance(w, BadDataError) else Answer(w.path, (w,)) for w in whole)
        return
    model, shape = saliency.rebuild(run), input_shape(run)
    for start in range(0, len(pictures), _BATCH):
        batch = pictures[start : start + _BATCH]
        seen = [_look(path, red_cell, shape) for path in batch]
        judged = [(cell, _object(guard, cell)) for cells in seen if isinstance(cells, list) for cell in cells]
        said = ask(model, run, [cell.window for cell, objection in judged if not objection], with_attention)
        outcomes = iter(
            Refused(objection, cell.cell.box)
            if objection
            else replace(next(said), threshold=threshold, box=cell.cell.box)
            for cell, objection in judged
        )
        for done, (path, cells) in enumerate(zip(batch, seen, strict=True), start + 1):
            if isinstance(cells, BadDataError):
                yield cells
            elif isinstance(cells, Refused):
                yield Answer(path, (cells,))
            else:
                yield Answer(path, tuple(islice(outcomes, len(cells))), cells[0].red_cell)
            if on_progress:
                on_progress(done, len(pictures))


def count_cells(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """The differential count of all white cells that were given a class and not abstained on.

    A row per class: ``class``, ``cells``, ``share``, and its interval ``low`` to ``high``, which allows for the number
    of cells, not for the network's errors.
    """
    cells = [c.cell for a in answers for c in a.cells if isinstance(c, Prediction) and not c.abstains]
    if not cells:
        return []
    found = Counter(cells)
    intervals = {cell: binomial_interval(found[cell], len(cells), exact=True) for cell in CLASSES}
    return [
        {"class": nice(cell), "cells": found[cell], "share": i.estimate, "low": i.low, "high": i.high}
        for cell, i in intervals.items()
    ]


def tabulate(answers: Sequence[Answer]) -> pd.DataFrame:
    """All that is said, a row per white cell, or picture without one."""
    rows = []
    for row in (row for a in answers for row in a.as_plain()):
        box = dict(zip(("left", "top", "right", "bottom"), row.pop("box") or (None,) * 4, strict=True))
        by_class = row.pop("probabilities", {})
        rows.append(row | box | {f"probability_{cell}": value for cell, value in by_class.items()})
    return pd.DataFrame(rows)


def draw_boxes(answer: Answer) -> NDArray[np.uint8]:
    """The picture with a box around each nucleus, in the colour of its class, and its number; refused cells in grey."""
    pixels = read_full(answer.path)
    width = max(1, min(pixels.shape[:2]) // 200)
    for number, cell in enumerate(answer.cells, start=1):
        if cell.box is None:
            continue
        left, top, right, bottom = cell.box
        named = isinstance(cell, Prediction) and not cell.abstains
        colour = tuple(round(255 * c) for c in to_rgb(CLASS_COLOURS[cell.cell])) if named else _GREY  # type: ignore[union-attr]
        cv2.rectangle(pixels, (left, top), (right, bottom), colour, width)
        at = (left, max(top - 2 * width, 12 * width))
        cv2.putText(pixels, str(number), at, cv2.FONT_HERSHEY_SIMPLEX, 0.5 * width, colour, width, cv2.LINE_AA)
    return pixels


def write_boxes(answer: Answer, target: Path) -> None:
    """Write `draw_boxes`, whole or not at all, as PNG."""
    _, encoded = cv2.imencode(".png", cv2.cvtColor(draw_boxes(answer), cv2.COLOR_RGB2BGR))
    with paths.written_whole(target) as temporary:
        temporary.write_bytes(encoded.tobytes())


def _look(path: Path, red_cell: float, shape: tuple[int, int]) -> list[Sighting] | Refused | BadDataError:
    try:
        pixels = read_full(path)
        if pixels.shape[1::-1] != IMAGE_SIZE or red_cell:
            return look(pixels, red_cell, shape)
        # An image of the data set shows one labelled cell at a known scale, and its network saw it whole.
        return [replace(look(pixels, RED_CELL / 2, shape)[0], window=read_picture(path, shape))]
    except NoAnswerError as error:
        return Refused(str(error))
    except BadDataError as error:
        return error


def _object(guard: Guard | None, cell: Sighting) -> str:
    return guard.objection(refusal.colour_numbers(cell.colours), cell.nucleus) if guard else ""
