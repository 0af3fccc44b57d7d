"""What there is to ask about in any picture: its white cells, each with a window at our scale and its colours."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wbc_lib.data.images import INPUT_SHAPE
from wbc_lib.data.windows import PHOTO_FIELD, Cell, cut_window, find_cells, measure_red_cell
from wbc_lib.errors import NoAnswerError
from wbc_lib.prediction import refusal


@dataclass(frozen=True)
class Sighting:
    """One white cell of a picture."""

    cell: Cell
    red_cell: float  # diameter of red cells in the picture, in pixels
    window: NDArray[np.uint8]  # as much around it as a published photo shows, at the size of a network's input
    colours: NDArray[np.uint8]  # the window whose colours are compared, shape (64, 64, RGB)

    @property
    def nucleus(self) -> float:
        """Diameter of a disc with the nucleus' area, in red cells."""
        return self.cell.diameter(self.red_cell)


def look(picture: NDArray[np.uint8], red_cell: float = 0.0, shape: tuple[int, int] = INPUT_SHAPE) -> list[Sighting]:
    """Find the white cells of a picture, the one with the largest nucleus first.

    `red_cell` is the diameter of its red cells in pixels, 0 to have it measured; `shape` that of the windows for the
    network. Raises `NoAnswerError` if the picture has no colour, cannot be scaled, or shows no white cell.
    """
    if np.ptp(picture, axis=2).max() == 0:
        raise NoAnswerError("it has no colour, and cells are told by their stain")
    if not red_cell:
        found = measure_red_cell(picture)
        if found is None:
            raise NoAnswerError(
                "it shows no red cells that could be measured; if it is a smear, give their diameter "
                "with --red-cell PIXELS"
            )
        red_cell = found.diameter
    cells = find_cells(picture, red_cell)
    if not cells:
        raise NoAnswerError("it shows no white cell: nothing is stained as a nucleus and as large as one")
    return [sight(picture, cell, red_cell, shape) for cell in cells]


def sight(picture: NDArray[np.uint8], cell: Cell, red_cell: float, shape: tuple[int, int] = INPUT_SHAPE) -> Sighting:
    """Cut what is asked about one white cell out of a picture; parameters as of `look`."""
    window = cut_window(picture, (cell.x, cell.y), red_cell, PHOTO_FIELD, shape)
    return Sighting(cell, red_cell, window, refusal.cut_colours(picture, cell, red_cell))
