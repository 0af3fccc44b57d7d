"""Drawings of stained blood smears: red cells, platelets, and white cells true to their class.

Everything is drawn as optical density (what the stain takes out of the light) so that overlapping cells darken
each other as they do under a microscope. Lengths inside a cell are in units of its radius.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from wbc_lib.photos import PHOTO_SIZE

WIDTH, HEIGHT = PHOTO_SIZE
BACKGROUND = (205, 207, 204)
RED_COLOUR = (177, 142, 140)
PLATELET_COLOUR = (146, 144, 206)
#: Half the side of a cell's drawing, in radii: room for an outline that bulges.
REACH = 1.35
#: Where a cell lies: x, y and radius in pixels of the photo.
Spot = tuple[int, int, float]


@dataclass(frozen=True)
class Nucleus:
    """How a class's nucleus varies: ranges of the chain of discs it is built from."""

    lobes: tuple[int, int]
    span: tuple[float, float]  # degrees of the arc that the lobes lie on
    reach: tuple[float, float]  # radius of that arc
    size: tuple[float, float]
    bridge: tuple[float, float]  # half the thickness of what joins two lobes
    blend: float  # how far neighbouring lobes flow into each other
    clumps: float  # unevenness of the chromatin
    bend: float = 0.045  # how crooked the discs are


@dataclass(frozen=True)
class Kind:
    """What a class of white cell looks like; colours are RGB on the standard background."""

    diameter: tuple[float, float]  # mean and standard deviation, pixels
    bumps: float  # unevenness of the outline
    nucleus: Nucleus
    nucleus_colour: tuple[int, int, int]
    cytoplasm_colour: tuple[int, int, int]
    grain: tuple[float, float]  # size (pixels) and strength of the cytoplasm's texture
    granule_colour: tuple[int, int, int] | None = None
    granule_size: float = 0.0
    vacuoles: int = 0  # at most so many


KINDS = {
    "NEUTROPHIL": Kind(
        diameter=(194, 28),
        bumps=0.035,
        nucleus=Nucleus((3, 5), (190, 300), (0.42, 0.52), (0.22, 0.32), (0.06, 0.12), 0.06, 0.16),
        nucleus_colour=(124, 88, 208),
        cytoplasm_colour=(183, 160, 196),
        grain=(3.5, 0.30),
    ),
    "EOSINOPHIL": Kind(
        diameter=(190, 32),
        bumps=0.035,
        nucleus=Nucleus((2, 2), (110, 175), (0.38, 0.48), (0.32, 0.43), (0.08, 0.17), 0.08, 0.16),
        nucleus_colour=(128, 95, 205),
        cytoplasm_colour=(184, 152, 182),
        grain=(5.0, 0.15),
        granule_colour=(192, 122, 128),
        granule_size=0.045,
    ),
    "MONOCYTE": Kind(
        diameter=(226, 26),
        bumps=0.07,
        nucleus=Nucleus((4, 5), (120, 215), (0.28, 0.40), (0.32, 0.42), (0.28, 0.38), 0.14, 0.30),
        nucleus_colour=(142, 108, 216),
        cytoplasm_colour=(166, 158, 200),
        grain=(7.0, 0.22),
        vacuoles=8,
    ),
    "LYMPHOCYTE": Kind(
        diameter=(150, 22),
        bumps=0.045,
        nucleus=Nucleus((1, 2), (20, 40), (0.03, 0.12), (0.68, 0.88), (0.6, 0.7), 0.2, 0.12, 0.02),
        nucleus_colour=(116, 82, 200),
        cytoplasm_colour=(152, 154, 203),
        grain=(9.0, 0.12),
    ),
    "BASOPHIL": Kind(
        diameter=(188, 24),
        bumps=0.05,
        nucleus=Nucleus((2, 3), (120, 200), (0.26, 0.36), (0.40, 0.52), (0.25, 0.35), 0.2, 0.2),
        nucleus_colour=(146, 116, 214),
        cytoplasm_colour=(178, 152, 204),
        grain=(6.0, 0.25),
        granule_colour=(112, 74, 178),
        granule_size=0.05,
    ),
}


@dataclass(frozen=True)
class Box:
    """A box around something drawn: WBC, RBC or Platelets, corners in pixels of the photo."""

    cell: str
    xmin: int
    ymin: int
    xmax: int
    ymax: int


@dataclass(frozen=True, eq=False)
class Photo:
    """A drawn photo: ``image`` (480, 640, 3) uint8 RGB, and a box per cell."""

    image: np.ndarray
    boxes: tuple[Box, ...]


@dataclass(frozen=True, eq=False)
class Cell:
    """A white cell by itself on a square of n by n pixels, float32.

    ``density`` (n, n, 3) is optical density per channel; ``cover`` and ``nucleus`` (n, n), in 0..1, say how much of
    each pixel is cell and how much is nucleus.
    """

    density: np.ndarray
    cover: np.ndarray
    nucleus: np.ndarray


def draw_cell(kind: Kind, radius: float, rng: np.random.Generator) -> Cell:
    """Draw one white cell of `kind`, about `radius` pixels in radius, in the middle of a square."""
    x, y = _grid(radius)
    # Bending the plane bends every edge drawn in it: the nucleus stops looking like discs.
    bend = [kind.nucleus.bend * _noise(rng, x.shape, 0.32 * radius) + 0.008 * _noise(rng, x.shape, 5) for _ in "xy"]
    body = _outline(x, y, kind.bumps, rng)
    nucleus = np.maximum(_nucleus(x + bend[0], y + bend[1], kind.nucleus, rng), body + 0.05)
    cover, inside = _fill(body, radius, 2.0), _fill(nucleus, radius, rng.uniform(1.6, 3.0))

    size, strength = kind.grain
    texture = 1 + strength * _noise(rng, x.shape, size) + 0.15 * _noise(rng, x.shape, 0.4 * radius)
    # Thinner towards the rim, but for the membrane.
    depth = np.clip(0.75 - 0.8 * body, 0.6, 1.15) + 0.25 * np.exp(-((body / 0.04) ** 2))
    amount = np.clip(texture * depth, 0.1, None)
    density = amount[..., None] * _stain(kind.cytoplasm_colour, 7, rng)
    if kind.vacuoles:
        density *= 1 - 0.8 * _vacuoles(x, y, nucleus, rng.integers(kind.vacuoles + 1), radius, rng)[..., None]
    if kind.granule_colour:
        grains = _granules(x.shape, radius, kind.granule_size, rng) * _fill(body + 0.04, radius, 3.0)
        granule = _stain(kind.granule_colour, 12, rng)
        density = _mix(density, granule, rng.uniform(0.6, 0.95) * grains)

    clumps = 1 + kind.nucleus.clumps * (0.7 * _noise(rng, x.shape, 0.09 * radius) + 0.5 * _noise(rng, x.shape, 4))
    chromatin = np.clip(clumps, 0.55, 1.5)[..., None] * _stain(kind.nucleus_colour, 8, rng)
    density = _mix(density, chromatin, 0.96 * inside)
    if kind is KINDS["BASOPHIL"]:  # its granules lie over the nucleus too
        density = _mix(density, granule, 0.75 * grains)
    return Cell(density.astype(np.float32), cover, inside * cover)


def draw_photo(cells: tuple[str, ...], rng: np.random.Generator) -> Photo:
    """Draw a smear that shows the named white cells among red cells and platelets.

    Parameters
    ----------
    cells : tuple of str
        Class of each white cell; keys of `KINDS`. May be empty.
    rng : Generator
        Source of everything that varies. The same state gives the same photo.
    """
    crowding = 1 if len(cells) < 2 else 0.85
    whites = _places([crowding * _size(KINDS[cell], rng) / 2 for cell in cells], rng)
    reds, red_boxes = _red_cells(whites, rng)
    platelets, platelet_boxes = _platelets(whites, rng)
    sharpness = rng.uniform(0.7, 1.7)
    density = cv2.GaussianBlur(reds + platelets, (0, 0), sharpness + rng.uniform(0, 0.8))

    white_boxes = []
    stain = rng.lognormal(0, 0.13) * rng.normal(1, 0.06, 3).astype(np.float32)
    for cell, spot in zip(cells, whites, strict=True):
        drawn = draw_cell(KINDS[cell], spot[2], rng)
        there, here = _window(spot, drawn.cover.shape[0])
        cover = cv2.GaussianBlur(drawn.cover, (0, 0), sharpness)[here][..., None]
        white = cv2.GaussianBlur(drawn.density, (0, 0), sharpness)[here] * stain
        # A white cell pushes red ones aside; what lies under its edge shows through a little.
        density[there] = density[there] * (1 - 0.9 * cover) + white * cover
        white_boxes.append(_box("WBC", drawn.cover, spot))
    density += _dirt(rng)[..., None]
    return Photo(_expose(density, rng), (*white_boxes, *red_boxes, *platelet_boxes))


def _size(kind: Kind, rng: np.random.Generator) -> float:
    mean, deviation = kind.diameter
    return float(np.clip(rng.normal(mean, deviation), mean - 2 * deviation, mean + 2 * deviation))


def _stain(colour: tuple[int, int, int], by: float, rng: np.random.Generator) -> np.ndarray:
    # Optical density per channel that turns the background into about `colour`.
    return -np.log((np.asarray(colour) + rng.normal(0, by, 3)) / BACKGROUND).astype(np.float32)


def _mix(under: np.ndarray, over: np.ndarray, amount: np.ndarray) -> np.ndarray:
    return under + amount[..., None] * (over - under)


def _grid(radius: float) -> tuple[np.ndarray, np.ndarray]:
    half = int(np.ceil(REACH * radius))
    steps = np.arange(-half, half + 1, dtype=np.float32) / np.float32(radius)
    return np.meshgrid(steps, steps)


def _noise(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> np.ndarray:
    # Smooth noise, about unit variance, whose bumps are `scale` pixels apart.
    coarse = [max(4, int(np.ceil(side / scale)) + 3) for side in shape]
    points = rng.standard_normal(coarse, dtype=np.float32)
    size = [int(np.ceil(side * scale)) for side in coarse]
    fine = cv2.resize(points, (max(size[1], shape[1]), max(size[0], shape[0])), interpolation=cv2.INTER_CUBIC)
    return 1.3 * fine[: shape[0], : shape[1]]


def _fill(distance: np.ndarray, radius: float, softness: float) -> np.ndarray:
    # Coverage from signed distance (negative inside), antialiased over `softness` pixels.
    return np.clip(0.5 - distance * (radius / softness), 0, 1)


def _outline(x: np.ndarray, y: np.ndarray, bumps: float, rng: np.random.Generator) -> np.ndarray:
    # Signed distance to a closed curve around the middle; the bumps get smaller as they get narrower.
    angle = np.arctan2(y, x)
    edge = np.ones_like(x)
    for k in range(2, 7):
        edge += bumps * rng.normal() * 2 / k * np.cos(k * angle + rng.uniform(0, 2 * np.pi), dtype=np.float32)
    return np.hypot(x, y) - np.clip(edge, 0.78, 1.22)


def _join(a: np.ndarray, b: np.ndarray, blend: float) -> np.ndarray:
    # Union of two shapes that flow into each other where they are closer than `blend`.
    overlap = np.maximum(blend - np.abs(a - b), 0) / blend
    return np.minimum(a, b) - overlap**2 * blend / 4


def _rod(x: np.ndarray, y: np.ndarray, a: np.ndarray, b: np.ndarray, thickness: float) -> np.ndarray:
    along = b - a
    part = np.clip(((x - a[0]) * along[0] + (y - a[1]) * along[1]) / max(float(along @ along), 1e-9), 0, 1)
    return np.hypot(x - a[0] - part * along[0], y - a[1] - part * along[1]) - thickness


def _nucleus(x: np.ndarray, y: np.ndarray, shape: Nucleus, rng: np.random.Generator) -> np.ndarray:
    lobes = int(rng.integers(shape.lobes[0], shape.lobes[1] + 1))
    span = np.radians(rng.uniform(*shape.span))
    angles = rng.uniform(0, 2 * np.pi) + np.linspace(-span / 2, span / 2, lobes) + rng.normal(0, 0.08, lobes)
    arc = rng.uniform(*shape.reach) * rng.normal(1, 0.12, lobes)
    centres = np.stack([arc * np.cos(angles), arc * np.sin(angles)], axis=1).astype(np.float32)
    # Most of the way to the middle of the cell: an arc drawn about the middle would leave one side empty.
    centres += rng.normal(0, 0.05, 2) - 0.6 * centres.mean(axis=0)
    union = None
    for centre in centres:
        lobe = _rod(x, y, centre, centre + rng.normal(0, 0.09, 2), rng.uniform(*shape.size))
        union = lobe if union is None else _join(union, lobe, shape.blend)
    for a, b in zip(centres[:-1], centres[1:], strict=True):
        union = _join(union, _rod(x, y, a, b, rng.uniform(*shape.bridge)), shape.blend)
    return union


def _vacuoles(
    x: np.ndarray, y: np.ndarray, nucleus: np.ndarray, count: int, radius: float, rng: np.random.Generator
) -> np.ndarray:
    rows, columns = np.nonzero((nucleus > 0.02) & (np.hypot(x, y) < 0.85))
    holes = np.zeros_like(x)
    for i in rng.integers(0, max(len(rows), 1), count if len(rows) else 0):
        hole = np.hypot(x - x[rows[i], columns[i]], y - y[rows[i], columns[i]]) - rng.uniform(0.03, 0.08)
        holes = np.maximum(holes, _fill(hole, radius, 2.5))
    return holes


def _granules(shape: tuple[int, int], radius: float, size: float, rng: np.random.Generator) -> np.ndarray:
    # Discs on a shaken grid: dense, without the holes and heaps of independent draws.
    step = 1.75 * size * radius
    rows, columns = np.mgrid[0 : shape[0] : step, 0 : shape[1] : step]
    spots = np.stack([columns.ravel(), rows.ravel()], axis=1) + rng.uniform(-0.5, 0.5, (rows.size, 2)) * step
    sizes = size * radius * rng.uniform(0.7, 1.25, len(spots))
    tones = rng.integers(110, 256, len(spots))
    mask = np.zeros(shape, np.uint8)
    for (column, row), extent, tone in zip(np.round(spots * 16).astype(int), sizes, tones, strict=True):
        cv2.circle(mask, (int(column), int(row)), round(extent * 16), int(tone), -1, cv2.LINE_AA, shift=4)
    return mask.astype(np.float32) / 255


def _anywhere(rng: np.random.Generator, radius: float, inset: float = 0) -> Spot:
    return int(rng.uniform(inset, WIDTH - inset)), int(rng.uniform(inset, HEIGHT - inset)), radius


def _gap(spot: Spot, others: list[Spot]) -> float:
    # From the middle of `spot` to the nearest rim of the others.
    return min((np.hypot(spot[0] - x, spot[1] - y) - radius for x, y, radius in others), default=np.inf)


def _places(radii: list[float], rng: np.random.Generator) -> list[Spot]:
    # Anywhere, even cut by the edge, but two cells apart: of several tries, the one furthest from the others.
    spots: list[Spot] = []
    for radius in radii:
        tries = [_anywhere(rng, radius, 0.62 * radius) for _ in range(40 if spots else 1)]
        spots.append(max(tries, key=lambda spot: _gap(spot, spots)))
    return spots


def _window(spot: Spot, side: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    # The part of the photo a square drawing falls on, and the part of the drawing that falls on the photo.
    top, left = spot[1] - side // 2, spot[0] - side // 2
    there = slice(max(top, 0), min(top + side, HEIGHT)), slice(max(left, 0), min(left + side, WIDTH))
    here = tuple(slice(t.start - s, t.stop - s) for t, s in zip(there, (top, left), strict=True))
    return there, here


def _box(cell: str, cover: np.ndarray, spot: Spot) -> Box:
    there, here = _window(spot, cover.shape[0])
    rows, columns = (np.flatnonzero((cover[here] > 0.5).any(axis=axis)) for axis in (1, 0))
    top, left = there[0].start, there[1].start
    corners = (left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1)
    return Box(cell, *(int(c) for c in corners))


def _red_cells(whites: list[Spot], rng: np.random.Generator) -> tuple[np.ndarray, list[Box]]:
    wanted = int(np.clip(rng.normal(14, 2.2), 10, 19))
    clumping, typical = rng.uniform(0.2, 0.75), rng.uniform(46, 54)
    amount = np.zeros((HEIGHT, WIDTH), np.float32)
    spots: list[Spot] = []  # of radius nought: red cells may overlap, only their middles must not
    boxes = []
    for _ in range(400):
        radius = typical * rng.normal(1, 0.07)
        spot = _anywhere(rng, 0)
        if spots and rng.random() < clumping:
            near, apart = spots[rng.integers(len(spots))], radius * rng.uniform(0.8, 1.95)
            turn = rng.uniform(0, 2 * np.pi)
            spot = (int(near[0] + apart * np.cos(turn)), int(near[1] + apart * np.sin(turn)), 0)
        on_photo = 0 <= spot[0] < WIDTH and 0 <= spot[1] < HEIGHT
        if not on_photo or _gap(spot, spots) < 0.7 * radius or _gap(spot, whites) < 0.65 * radius:
            continue
        thickness, cover = _red_cell(radius, rng)
        there, here = _window(spot, cover.shape[0])
        amount[there] += thickness[here]
        boxes.append(_box("RBC", cover, spot))
        spots.append(spot)
        if len(spots) == wanted:
            break
    # Stacked cells let more light through than their densities added would.
    amount = np.where(amount > 0, amount / (1 + 0.4 * np.maximum(amount, 0)), amount)
    colour = _stain(RED_COLOUR, 4, rng) * rng.normal(1.5, 0.1)
    return (amount[..., None] * colour).astype(np.float32), boxes


def _red_cell(radius: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x, y = _grid(radius)
    turn, flat = rng.uniform(0, np.pi), 1 - 0.4 * rng.beta(1.2, 3)
    long, short = x * np.cos(turn) + y * np.sin(turn), (y * np.cos(turn) - x * np.sin(turn)) / flat
    distance = _outline(long, short, 0.05, rng)
    shift = rng.normal(0, 0.06, 2)
    from_middle = np.hypot(long - shift[0], short - shift[1])
    pallor, edge, slope = rng.beta(1.2, 1.2), rng.uniform(0.35, 0.65), rng.uniform(0.12, 0.35)
    rise = np.clip((from_middle - edge + slope) / (2 * slope), 0, 1)
    dish = 1 - 0.85 * pallor * (1 - rise * rise * (3 - 2 * rise))
    cover = _fill(distance, radius, 2.0)
    rim = 0.22 * np.exp(-(((distance + 0.05) / 0.05) ** 2))
    halo = -0.10 * np.exp(-(((distance - 0.05) / 0.04) ** 2))  # light bent round the edge
    uneven = 1 + 0.05 * _noise(rng, x.shape, 0.5 * radius)
    return rng.uniform(0.75, 1.1) * (cover * (dish * uneven + rim) + halo), cover


def _platelets(whites: list[Spot], rng: np.random.Generator) -> tuple[np.ndarray, list[Box]]:
    density = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    boxes = []
    for _ in range(min(int(rng.poisson(1.8)), 6)):
        spot = _anywhere(rng, rng.uniform(11, 21), 10)
        if _gap(spot, whites) < spot[2]:
            continue
        x, y = _grid(spot[2])
        cover = _fill(_outline(x, y, 0.10, rng), spot[2], 5.0)
        granular = rng.uniform(0.6, 1.3) - 0.6 * np.hypot(x, y) + 0.22 * _noise(rng, x.shape, 5)
        there, here = _window(spot, cover.shape[0])
        amount = cover * np.clip(granular, 0.1, None)
        density[there] += amount[here][..., None] * _stain(PLATELET_COLOUR, 6, rng)
        boxes.append(_box("Platelets", cover, spot))
    return density, boxes


def _dirt(rng: np.random.Generator) -> np.ndarray:
    # Grains on the optics, and drops that bend the light: dark ring, bright middle.
    layer = np.zeros((HEIGHT, WIDTH), np.float32)
    grains = [_anywhere(rng, rng.uniform(5, 10)) for _ in range(rng.integers(2, 8))]
    drops = [_anywhere(rng, rng.uniform(6, 13)) for _ in range(min(int(rng.poisson(0.8)), 4))]
    for spot in (*grains, *drops):
        far = np.hypot(*_grid(spot[2]))
        grain = 0.14 * np.exp(-8 * far**2)
        drop = 0.22 * np.exp(-(((far - 0.6) / 0.2) ** 2)) - 0.2 * np.exp(-((far / 0.35) ** 2))
        there, here = _window(spot, far.shape[0])
        layer[there] += (drop if spot in drops else grain)[here]
    return layer


def _expose(density: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    across, down = np.linspace(-1, 1, WIDTH, dtype=np.float32), np.linspace(-1, 1, HEIGHT, dtype=np.float32)[:, None]
    tilt = rng.normal(0, 0.025, 2)
    light = 1 + tilt[0] * across + tilt[1] * down - rng.uniform(0.0, 0.07) * (across**2 + down**2)
    lamp = np.asarray(BACKGROUND) * rng.normal(1.005, 0.016) * rng.normal(1, 0.009, 3)
    image = np.exp(-density) * light[..., None].astype(np.float32) * lamp.astype(np.float32)
    image += rng.uniform(0.8, 2.0) * rng.standard_normal(image.shape, dtype=np.float32)
    image += 1.5 * _noise(rng, (HEIGHT, WIDTH), 2.5)[..., None]
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)
