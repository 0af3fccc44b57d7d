"""What a recorded network says of a picture from anywhere: a class for each white cell, or in a sentence why none.

A picture is brought to the scale of the photos by its red cells, its white cells are found, and each is asked about by
itself, unless it is unlike what the network learned from.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib import paths
from wbc_lib.attention import saliency
from wbc_lib.data.dataset import CLASSES, IMAGE_SIZE
from wbc_lib.data.hashes import PUBLISHED_SHA256
from wbc_lib.data.pictures import read_full, read_picture
from wbc_lib.data.windows import CLOSE, RED_CELL, Window
from wbc_lib.errors import BadDataError, NoAnswerError, printable
from wbc_lib.evaluation.intervals import binomial_interval
from wbc_lib.prediction import refusal
from wbc_lib.prediction.picture import Box, Prediction, ask, find_window, look
from wbc_lib.prediction.refusal import Guard
from wbc_lib.training.experiments import MODELS, PAPER
from wbc_lib.training.runs import Run

#: Pictures that are asked about together: those whose cells are found first, which takes a while, and whole ones.
_BATCH, _WHOLE_BATCH = 32, 256
#: Up to so many pictures and cells are answered with NumPy before TensorFlow would have loaded.
_FEW = 32
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
    name = run.record["experiment"]
    model = name if name in MODELS else PAPER
    return refusal.read_recorded(model) if run.record["config"]["data_sha256"] == PUBLISHED_SHA256 else None


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
    `as_is` no cell is sought, nothing is refused, and the picture is asked about as a whole. Yields a `BadDataError`
    for a picture that cannot be read; raises `RunError` for a run without weights.
    """
    model, window = None, find_window(run)
    step = _WHOLE_BATCH if as_is else _BATCH
    for start in range(0, len(pictures), step):
        batch = pictures[start : start + step]
        seen = [_look(path, guard, red_cell, window, as_is=as_is) for path in batch]
        windows = [q.window for asked in seen if isinstance(asked, list) for q in asked if q.window is not None]
        if model is None and (with_attention or max(len(pictures), len(windows)) > _FEW):
            model = saliency.rebuild(run)
        said = ask(run, model, windows, with_attention)
        for done, (path, asked) in enumerate(zip(batch, seen, strict=True), start + 1):
            if isinstance(asked, BadDataError):
                yield asked
            else:
                cells = (
                    Refused(q.objection, q.box)
                    if q.window is None
                    else replace(next(said), threshold=threshold, box=q.box)
                    for q in asked
                )
                yield Answer(path, tuple(cells), asked[0].red_cell)
            if on_progress:
                on_progress(done, len(pictures))


@dataclass(frozen=True)
class _Question:
    window: NDArray[np.uint8] | None = None  # what the network is to see, if it is asked
    objection: str = ""  # why it is not
    box: Box | None = None
    red_cell: float = 0.0


def _look(
    path: Path, guard: Guard | None, red_cell: float, window: Window, *, as_is: bool
) -> list[_Question] | BadDataError:
    try:
        if as_is:
            return [_Question(read_picture(path, window.shape))]
        pixels = read_full(path)
        if pixels.shape[1::-1] != IMAGE_SIZE or red_cell:
            cells = look(pixels, red_cell, window)
        else:
            # An image of the data set shows one labelled cell at a known scale, and the paper's network saw it whole.
            cells = look(pixels, RED_CELL / 2, window)[:1]
            if window != CLOSE:
                cells = [replace(cells[0], window=read_picture(path, window.shape))]
    except NoAnswerError as error:
        return [_Question(objection=str(error))]
    except BadDataError as error:
        return error
    questions = []
    for cell in cells:
        objection = guard.objection(refusal.colour_numbers(cell.colours), cell.nucleus) if guard else ""
        questions.append(_Question(None if objection else cell.window, objection, cell.cell.box, cell.red_cell))
    return questions


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
        {"class": cell.capitalize(), "cells": found[cell], "share": i.estimate, "low": i.low, "high": i.high}
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


def write_boxes(answer: Answer, target: Path) -> None:
    """Write a PNG with a box around each nucleus, in the colour of its class, and its number; refused cells in grey."""
    from matplotlib.colors import to_rgb

    from wbc_lib.figures.style import CLASS_COLOURS

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
    _, encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    with paths.written_whole(target) as temporary:
        temporary.write_bytes(encoded.tobytes())
