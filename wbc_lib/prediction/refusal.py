"""Whether a picture is like the photos that a model learned from: by the colours around the nucleus, and by its size.

What a network says of itself does not tell: it is as sure of pictures that are like nothing it has seen.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wbc_lib import paths
from wbc_lib.data.images import to_lab
from wbc_lib.data.splits import split_by_group
from wbc_lib.data.windows import Cell, Window
from wbc_lib.errors import BadDataError

#: What is measured of each of L, a and b (CIE 1976, D65) in a window.
STATISTICS = ("mean", "sd", "10 %", "90 %")
#: The twelve colour numbers.
NUMBERS = tuple(f"{channel} {statistic}" for channel in "Lab" for statistic in STATISTICS)
#: Width and height of the window, in red cells, and its side in pixels.
FIELD, SIDE = 4.0, 64
#: Share of photos that are refused where a reference is fitted to others of their kind.
SHARE = 0.03
#: By how much nuclei may be smaller and larger than all that were learned from.
MARGIN = 0.1
_FOLDS, _REPEATS = 5, 10


@dataclass(frozen=True)
class Reference:
    """What pictures of one kind are like."""

    name: str  # of the kind, such as "TRAIN"
    n: int  # pictures that it was fitted to
    centre: NDArray[np.float64]  # mean of each colour number, shape (12,)
    spread: NDArray[np.float64]  # and standard deviation
    precision: NDArray[np.float64]  # inverse of the shrunk covariance (Ledoit and Wolf 2004) of standardised numbers
    threshold: float  # distance above which a picture is refused

    def distances(self, numbers: ArrayLike) -> NDArray[np.float64]:
        """Mahalanobis distance of colour numbers (..., 12), shape (...)."""
        z = (np.asarray(numbers, float) - self.centre) / self.spread
        return np.sqrt(np.einsum("...i,ij,...j->...", z, self.precision, z))


@dataclass(frozen=True)
class Guard:
    """What a model has learned from: kinds of pictures, of which one must be met, and how large nuclei were."""

    references: tuple[Reference, ...]
    smallest: float  # nuclei that are let through: diameters in red cells
    largest: float

    def scores(self, numbers: ArrayLike) -> NDArray[np.float64]:
        """How unlike colour numbers (..., 12) are to what was learned, shape (...): above 1 is refused."""
        return np.min([r.distances(numbers) / r.threshold for r in self.references], axis=0)

    def objection(self, numbers: ArrayLike, nucleus: float) -> str:
        """Why a picture is refused, as the second half of a sentence; "" if it is not."""
        if float(self.scores(numbers)) > 1:
            return "its colours are not those of the smears that the model learned from"
        if not self.smallest <= nucleus <= self.largest:
            size = f"{nucleus:.1f} times a red cell's diameter"
            return f"its nucleus is {size}, and the model learned from {self.smallest:.1f} to {self.largest:.1f}"
        return ""

    def as_plain(self) -> dict[str, Any]:
        """As values that JSON can hold."""
        return {
            "numbers": list(NUMBERS),
            "field": FIELD,
            "side": SIDE,
            "share": SHARE,
            "nucleus": [self.smallest, self.largest],
            "references": [
                {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in vars(r).items()} for r in self.references
            ],
        }


def colour_numbers(window: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Measure the twelve `NUMBERS` of a window, shape (12,)."""
    lab = to_lab(window).reshape(-1, 3).astype(float)
    low, high = np.percentile(lab, [10, 90], axis=0)
    return np.column_stack([lab.mean(axis=0), lab.std(axis=0), low, high]).ravel()


def cut_colours(picture: NDArray[np.uint8], cell: Cell, red_cell: float) -> NDArray[np.uint8]:
    """The window around a white cell whose colours count, shape (64, 64, RGB); `red_cell` in pixels of the picture."""
    return Window((FIELD, FIELD), (SIDE, SIDE)).cut(picture, (cell.x, cell.y), red_cell)


def nucleus_limits(diameters: NDArray[np.floating]) -> tuple[float, float]:
    """Smallest and largest nucleus that are let through, from those that were learned from, in red cells."""
    return float(diameters.min() * (1 - MARGIN)), float(diameters.max() * (1 + MARGIN))


def fit_reference(name: str, numbers: NDArray[np.floating], fields: NDArray[np.integer]) -> Reference:
    """Fit a reference to colour numbers (pictures, 12), with the threshold that refuses `SHARE` of held-out pictures.

    Pictures of one field of view share a number in `fields` and are held out together.
    """
    held_out = []
    for repeat in range(_REPEATS):
        for fold in range(1, _FOLDS + 1):
            split = split_by_group(np.zeros(len(numbers), int), fields, fold, _FOLDS, repeat)
            fitted = _fit(name, numbers[split.training])
            held_out.append(fitted.distances(numbers[split.validation]))
    return replace(_fit(name, numbers), threshold=float(np.quantile(np.concatenate(held_out), 1 - SHARE)))


def recorded_path(model: str) -> Path:
    """Where the guard of a model is recorded in the project."""
    return paths.results() / "refusal" / f"{model}.json"


def read_recorded(model: str) -> Guard:
    """Read the guard of a model, such as "final"; raises `BadDataError` if it is missing or damaged."""
    path = paths.find_recorded("refusal", f"{model}.json")
    try:
        return _parse(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise BadDataError(f"{path} is missing; restore it from the repository.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadDataError(f"{path} is not what a model learned from; restore it from the repository.") from error


def write_recorded(model: str, guard: Guard) -> Path:
    """Record the guard of a model."""
    path = recorded_path(model)
    paths.write_text(path, json.dumps(guard.as_plain(), indent=1) + "\n")
    return path


def _parse(record: Mapping[str, Any]) -> Guard:
    arrays = ("centre", "spread", "precision")
    references = tuple(Reference(**r | {k: np.array(r[k], float) for k in arrays}) for r in record["references"])
    if tuple(record["numbers"]) != NUMBERS or (record["field"], record["side"]) != (FIELD, SIDE) or not references:
        raise ValueError("measured in another way")
    return Guard(references, *map(float, record["nucleus"]))


def _fit(name: str, numbers: NDArray[np.floating]) -> Reference:
    from sklearn.covariance import LedoitWolf  # half a second to load

    centre, spread = numbers.mean(axis=0), numbers.std(axis=0)
    precision = LedoitWolf(assume_centered=True).fit((numbers - centre) / spread).get_precision()
    return Reference(name, len(numbers), centre, spread, precision, float("inf"))
