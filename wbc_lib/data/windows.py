"""Bring a picture of a smear to the scale of the published photos: its white cells, its red cells, a window around one.

Microscopes and cameras differ in how many pixels they give a red cell, and red cells hardly differ in size. So lengths
are told in diameters of a red cell, and windows are cut by them.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wbc_lib.data.images import INPUT_SHAPE, one_thread

#: Diameter of a red cell in the published photos, in pixels of 640x480; measured by `measure_red_cell`, a test says so.
RED_CELL = 90.0

# Red cells are looked for where a nucleus has this diameter in pixels; a picture is made neither larger nor this large.
_NUCLEUS, _SIDE = 60, 2000
# Diameters of red cells that are tried, in those of a nucleus, and the step from one to the next.
_SMALLEST, _LARGEST, _STEP = 0.4, 1.5, 1.05
# The least share of a circle's edge that must be there, and how many such circles make a measurement.
_CIRCLE, _CIRCLES = 0.35, 2
# A nucleus lies within these diameters of a red cell; what is nearer together than this is one nucleus in lobes.
SMALLEST_NUCLEUS, _GAP = 0.5, 0.2
# Of a disc's diameter, how far apart edges may be that tell its centre.
_SPREAD = 0.06
# A nucleus is more violet than what is usual in the picture by this, in levels of 255.
_CONTRAST = 15
# As dark as this are the corners that come in where a picture was turned.
_BLACK = 12


@dataclass(frozen=True)
class Window:
    """How much a network sees around a white cell."""

    field: tuple[float, float]  # width and height, in red cells
    shape: tuple[int, int]  # height and width, in pixels

    def cut(self, picture: NDArray[np.uint8], centre: tuple[float, float], red_cell: float) -> NDArray[np.uint8]:
        """Cut the window around a column and a row of a picture, whose red cells have this diameter in pixels.

        The background's colour fills what lies outside, and black corners, which come in where a picture was turned.
        """
        colour = background_colour(picture)
        filled = np.where(_is_outside(picture)[..., None], colour, picture)
        return np.asarray(self._cut(filled, centre, red_cell, colour), np.uint8)

    def cut_mask(self, mask: NDArray[np.bool_], centre: tuple[float, float], red_cell: float) -> NDArray[np.float32]:
        """Cut the same window out of a mask: how much of each pixel is marked, 0 to 1; nothing outside is."""
        return self._cut(mask.astype(np.float32), centre, red_cell, 0.0)

    def _cut(self, picture: NDArray, centre: tuple[float, float], red_cell: float, outside: NDArray | float) -> NDArray:
        # `outside` is what lies beyond the edges.
        width, height = (max(1, round(side * red_cell)) for side in self.field)
        left, top = (round(middle + 0.5 - side / 2) for middle, side in zip(centre, (width, height), strict=True))
        window = np.empty((height, width, *picture.shape[2:]), picture.dtype)
        window[:] = outside
        rows = slice(max(top, 0), max(min(top + height, picture.shape[0]), 0))
        columns = slice(max(left, 0), max(min(left + width, picture.shape[1]), 0))
        part = picture[rows, columns]
        window[rows.start - top :, columns.start - left :][: part.shape[0], : part.shape[1]] = part
        how = cv2.INTER_AREA if self.shape[0] <= height and self.shape[1] <= width else cv2.INTER_LINEAR
        return cv2.resize(window, self.shape[::-1], interpolation=how)

    def widened(self, side: int) -> "Window":
        """As much more at the same scale as makes its sides so many pixels."""
        height, width = self.shape
        return Window((self.field[0] * side / width, self.field[1] * side / height), (side, side))


#: What the paper's networks see: as much as a photo shows. And what the stronger model sees: the cell.
WHOLE_PHOTO = Window((640 / RED_CELL, 480 / RED_CELL), INPUT_SHAPE)
CLOSE = Window((3.5, 3.5), (96, 96))


@dataclass(frozen=True)
class Cell:
    """A white cell, told by its nucleus; all in pixels of the picture."""

    x: float  # its middle
    y: float
    box: tuple[int, int, int, int]  # left, top, right, bottom; the last two are the first beyond it
    nucleus: float  # its area

    def diameter(self, red_cell: float) -> float:
        """Diameter of a disc with the nucleus' area, in red cells of so many pixels."""
        return float(np.sqrt(4 * self.nucleus / np.pi) / red_cell)


def find_nuclei(picture: NDArray[np.uint8], blur: float) -> NDArray[np.bool_]:
    """Mark what is stained as nuclei are: blue minus green, which hardly depends on the light.

    Shape (height, width); blurred beforehand with this standard deviation, in pixels.
    """
    soft = cv2.GaussianBlur(picture, (0, 0), max(blur, 0.5)).astype(np.int16)
    violet = soft[..., 2] - soft[..., 1]
    seen = violet[~_is_outside(picture)]
    if not seen.size:
        return np.zeros(violet.shape, bool)
    # Halfway to the strongest at least: where a nucleus is small, Otsu's threshold parts red cells from the background.
    usual = float(np.median(seen))
    return violet > max(_otsu(seen), (usual + float(seen.max())) / 2, usual + _CONTRAST)


@one_thread()
def measure_red_cell(picture: NDArray[np.uint8]) -> float | None:
    """Measure the diameter of a picture's red cells in pixels: each piece of an edge votes for where a centre may be.

    White cells are left out. ``None`` if there are not two circles of one size.
    """
    nucleus = _nucleus_diameter(picture)
    if not nucleus:
        return None
    reduced = min(1.0, _NUCLEUS / nucleus, _SIDE / max(picture.shape[:2]))
    small = np.asarray(cv2.resize(picture, None, fx=reduced, fy=reduced, interpolation=cv2.INTER_AREA), np.uint8)
    points, inward = _edges(small, nucleus * reduced)
    steps = round(np.log(_LARGEST / _SMALLEST) / np.log(_STEP))
    diameters = nucleus * reduced * np.geomspace(_SMALLEST, _LARGEST, steps + 1)
    votes = [_count_circles(points, inward, diameter / 2, small.shape[:2]) for diameter in diameters]
    scores = np.array([score for score, _ in votes])
    best = int(scores.argmax())
    if votes[best][1] < _CIRCLES or best in (0, steps):
        return None
    before, at, after = scores[best - 1 : best + 2]
    offset = (before - after) / (2 * (before - 2 * at + after))  # the summit of a parabola
    return float(diameters[best] * _STEP**offset / reduced)


def find_cells(picture: NDArray[np.uint8], red_cell: float) -> list[Cell]:
    """Find the white cells by their nuclei, the largest first; `red_cell` is a red cell's diameter in pixels."""
    mask = find_nuclei(picture, red_cell / 30).astype(np.uint8)
    of_pixel = _join(mask, _GAP * red_cell)
    areas = np.bincount(of_pixel.ravel())
    areas[0] = 0
    cells = []
    for number in np.argsort(-areas, kind="stable"):
        if areas[number] < np.pi / 4 * (SMALLEST_NUCLEUS * red_cell) ** 2:
            break
        rows, columns = np.nonzero(of_pixel == number)
        box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
        cells.append(Cell(float(columns.mean()), float(rows.mean()), box, float(areas[number])))
    return cells


def find_most_violet(picture: NDArray[np.uint8], red_cell: float) -> tuple[float, float]:
    """Column and row of what is most like a nucleus by its colour, for a picture in which `find_cells` finds none."""
    soft = cv2.GaussianBlur(picture, (0, 0), max(red_cell / 10, 0.5)).astype(np.int16)
    violet = np.where(_is_outside(picture), -255, soft[..., 2] - soft[..., 1])
    row, column = np.unravel_index(violet.argmax(), violet.shape)
    return float(column), float(row)


def background_colour(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colour of what is brightest in green, in which all cells are dark: the light between them; RGB."""
    # A few thousand pixels tell a colour.
    step = max(1, min(picture.shape[:2]) // 100)
    some, inside = picture[::step, ::step], ~_is_outside(picture)[::step, ::step]
    pixels = some[inside] if inside.any() else some.reshape(-1, 3)
    bright = pixels[pixels[:, 1] > _otsu(pixels[:, 1])]
    return np.median(bright if len(bright) else pixels, axis=0).astype(np.uint8)


def _is_outside(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    # Black, and joined to an edge of the picture.
    black = cv2.inRange(picture, (0, 0, 0), (_BLACK,) * 3)
    if not cv2.hasNonZero(black):
        return np.zeros(black.shape, bool)
    _, parts = cv2.connectedComponents(black, connectivity=4)
    at_edge = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    # A pixel more, which was mixed with black.
    marked = np.isin(parts, at_edge[at_edge > 0]).astype(np.uint8)
    return cv2.dilate(marked, np.ones((3, 3), np.uint8)).astype(bool)


def _otsu(values: NDArray) -> float:
    # Otsu's threshold of whole numbers that need not be from 0 to 255.
    lowest = int(values.min())
    counts = np.bincount((values.astype(np.int64) - lowest).ravel()).astype(float)
    below = np.cumsum(counts)
    sums = np.cumsum(counts * np.arange(len(counts)))
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (sums[-1] * below / below[-1] - sums) ** 2 / (below * (below[-1] - below))
    return float(lowest + np.nanargmax(np.where(np.isfinite(between), between, -1)))


def _join(mask: NDArray[np.uint8], gap: float) -> NDArray[np.int32]:
    # Numbers of the nuclei, 0 outside: lobes that lie near together count as one.
    _, of_pixel = cv2.connectedComponents(cv2.dilate(mask, disc(gap / 2)))
    return np.where(mask, of_pixel, 0)


def disc(radius: float) -> NDArray[np.uint8]:
    """A disc of so many pixels around its middle, at least one, to widen masks with."""
    size = 2 * max(1, round(radius)) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)


def _nucleus_diameter(picture: NDArray[np.uint8]) -> float:
    # Of a disc with the area of a typical nucleus; 0 if there is none.
    mask = find_nuclei(picture, max(picture.shape) / 300).astype(np.uint8)
    largest = cv2.connectedComponentsWithStats(mask)[2][1:, cv2.CC_STAT_AREA]
    if not len(largest):
        return 0.0
    areas = np.bincount(_join(mask, _GAP * np.sqrt(4 * largest.max() / np.pi)).ravel())[1:]
    return float(np.sqrt(4 * np.median(areas[areas > areas.max() / 4]) / np.pi))


def _edges(small: NDArray[np.uint8], nucleus: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    # Points on edges, and at each the direction to the darker side; none in and near white cells, nor at the rim.
    green = cv2.GaussianBlur(small, (0, 0), nucleus / 45)[..., 1].astype(np.float32)
    gx, gy = cv2.Sobel(green, cv2.CV_32F, 1, 0), cv2.Sobel(green, cv2.CV_32F, 0, 1)
    strength = np.sqrt(gx**2 + gy**2)  # of OpenCV, the last bit depends on where in memory they lie
    strength[_near_nuclei(small, nucleus) | _is_outside(small)] = 0
    for rim in (strength[:3], strength[-3:], strength[:, :3], strength[:, -3:]):
        rim[:] = 0
    rows, columns = np.nonzero(strength > max(float(np.quantile(strength, 0.8)), 8.0))
    along = strength[rows, columns]
    ux, uy = gx[rows, columns] / along, gy[rows, columns] / along
    # Only where the edge is at its strongest.
    ahead, behind = (
        strength[np.rint(rows + sign * uy).astype(int), np.rint(columns + sign * ux).astype(int)] for sign in (1, -1)
    )
    kept = (along >= ahead) & (along >= behind)
    points = np.column_stack([columns, rows])[kept].astype(np.float32)
    return points, -np.column_stack([ux, uy])[kept].astype(np.float32)


def _near_nuclei(small: NDArray[np.uint8], nucleus: float) -> NDArray[np.bool_]:
    # Nuclei and as much around each as its cell may reach.
    nuclei = find_nuclei(small, nucleus / 40).astype(np.uint8)
    number, parts, stats, _ = cv2.connectedComponentsWithStats(nuclei)
    near = np.zeros(nuclei.shape, bool)
    for part in range(1, number):
        area = stats[part, cv2.CC_STAT_AREA]
        if area > nucleus**2 / 40:
            near |= cv2.dilate((parts == part).astype(np.uint8), disc(0.6 * np.sqrt(area / np.pi) + 2)) > 0
    return near


def _count_circles(
    points: NDArray[np.float32], inward: NDArray[np.float32], radius: float, shape: tuple[int, int]
) -> tuple[float, int]:
    # How much of the edges circles of this radius explain, and how many circles there are.
    # Votes are counted in squares of two pixels by two.
    margin = int(radius) + 2
    centres = ((points + radius * inward + margin) / 2).astype(int)
    height, width = shape[0] // 2 + margin + 1, shape[1] // 2 + margin + 1
    flat = np.bincount(centres[:, 1] * width + centres[:, 0], minlength=height * width)
    spread = max(_SPREAD * radius, 0.8)
    votes = cv2.GaussianBlur(flat.reshape(height, width).astype(np.float32), (0, 0), spread)
    share = votes * np.float32(2 * np.pi * spread**2 / (2 * np.pi * radius))
    apart = 2 * int(0.6 * radius) + 1
    is_peak = (share > _CIRCLE) & (share == cv2.dilate(share, np.ones((apart, apart), np.uint8)))
    peaks = share[is_peak]
    return float((peaks**2).sum() * radius), len(peaks)
